from __future__ import annotations

import json
import time
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import pytest
import requests
import responses
from django.core.management import call_command
from django.db import connection, transaction
from django.utils.timezone import now

from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import ClientRegistration
from django_dcr.services import get_or_register, reconcile, renew, renew_if_due
from django_dcr.tasks import perform
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.factories import (
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    make_registration_at,
    make_server,
    stored,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db
loopback = pytest.mark.network

DAY = 86_400
URI2 = ENDPOINT + "/c2"


@cache  # a second later it would be another lifetime, and so a renewal
def soon() -> int:
    return int(time.time()) + DAY


def late() -> int:
    return int(time.time()) + 90 * DAY


def expiring(**values: Any) -> ClientRegistration:
    return make_registration(**{"client_secret_expires_at": soon(), **values})


def second(**changes: Any) -> dict[str, Any]:
    """The answer about a new client."""
    new = {
        "client_id": "c2",
        "client_secret": "s2",
        "client_secret_expires_at": late(),
        "registration_client_uri": URI2,
        "registration_access_token": "t2",
    }
    return client_information(**{**new, **changes})


def methods(stubs: Stubs) -> list[str]:
    return [str(call.request.method) for call in stubs.calls]


def without_updates(stubs: Stubs) -> None:
    """A server that reads, and registers, and offers no updates."""
    stubs.get(URI, json=client_information(client_secret=..., client_secret_expires_at=...))
    stubs.put(URI, status=405)


# --- in place ----------------------------------------------------------------------------------


@database
def test_an_update_without_changes_returns_a_new_secret(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-111."""
    mocked_responses.get(URI, json=client_information(scope="as the server has it"))
    mocked_responses.put(
        URI, json=client_information(client_secret="s2", client_secret_expires_at=late())
    )
    row = expiring()
    assert renew(row) is row
    body = json.loads(mocked_responses.calls[1].request.body)
    assert body == {**GRANTED, "scope": "as the server has it", "client_id": "c1"}
    assert stored(row).client_secret.reveal() == "s2"
    assert stored(row).client_secret_expires_at == row.client_secret_expires_at > soon()
    assert (stored(row).status, stored(row).lease) == ("active", "")
    assert heard == [("secret_changed", row, "active"), ("renewed", row, "active")]


@database
def test_the_same_secret_with_a_longer_life_is_renewed(mocked_responses: Stubs) -> None:
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret_expires_at=late()))
    row = expiring()
    assert renew(row) is row
    assert stored(row).client_secret_expires_at > soon()


@database
def test_a_new_secret_may_come_with_the_read(mocked_responses: Stubs) -> None:
    """Fault 126."""
    mocked_responses.get(
        URI, json=client_information(client_secret="s2", client_secret_expires_at=late())
    )
    mocked_responses.put(URI, status=405)
    row = expiring()
    assert renew(row) is row
    assert stored(row).client_secret.reveal() == "s2"
    assert stored(row).lease == ""


@database
@pytest.mark.parametrize("expires_at", [0, None])
def test_a_secret_that_does_not_expire_stays(
    expires_at: int | None, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-111: reported honestly, with no second client."""
    same = client_information(client_secret_expires_at=expires_at)
    mocked_responses.get(URI, json=same)
    mocked_responses.put(URI, json=same)
    row = make_registration(client_secret_expires_at=expires_at)
    with pytest.raises(UnsupportedError, match="issued no new secret") as caught:
        renew(row)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "update")
    assert stored(row).client_secret.reveal() == "s1"
    assert (stored(row).status, stored(row).lease) == ("active", "")
    assert stored(row).last_error == str(caught.value)
    assert str(caught.value).endswith(f" manage.py dcr_replace {row.pk}")
    assert methods(mocked_responses) == ["GET", "PUT"]
    assert heard == []


@database
def test_a_secret_that_another_process_has_just_renewed_is_not_renewed_again(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    """Fault L8."""
    row = expiring()
    ClientRegistration.objects.update(client_secret=None)
    assert renew(row) is row
    assert row.client_secret is None
    assert stored(row).lease == ""
    assert (len(mocked_responses.calls), heard) == (0, [])


@database
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (RequestRejectedError, {"status": 403}),
        (RequestRejectedError, {"status": 400}),
        (InvalidResponseError, {"status": 500}),
        (NetworkError, {"body": requests.ReadTimeout()}),
        (NetworkError, {"status": 302}),
    ],
    ids=["403", "400", "500", "timeout", "redirect"],
)
def test_trouble_with_the_update_makes_no_second_client(
    kind: type[DCRError], answer: Any, mocked_responses: Stubs
) -> None:
    """B4: and a redirect is no renewal."""
    mocked_responses.get(URI, json=client_information(client_secret_expires_at=soon()))
    mocked_responses.put(URI, **answer)
    row = expiring()
    with pytest.raises(kind) as caught:
        renew(row)
    assert type(caught.value) is kind
    assert stored(row).client_secret.reveal() == "s1"
    assert stored(row).status == "active"
    assert ClientRegistration.objects.count() == 1


@database
def test_an_answer_with_a_token_and_a_fault_loses_neither(mocked_responses: Stubs) -> None:
    """B1: a new token and no secret."""
    mocked_responses.get(URI, json=client_information(client_secret_expires_at=soon()))
    answer = client_information(client_secret=[], registration_access_token="t2")
    mocked_responses.put(URI, json=answer)
    row = expiring()
    with pytest.raises(InvalidResponseError, match="client_secret is not usable"):
        renew(row)
    assert stored(row).registration_access_token.reveal() == "t2"
    assert stored(row).client_secret.reveal() == "s1"


# --- by a new client ---------------------------------------------------------------------------


@database
@pytest.mark.parametrize("status", [405, 501, 404])
def test_where_updates_return_no_secret_a_new_client_is_registered(
    status: int, mocked_responses: Stubs, heard: list[Any]
) -> None:
    mocked_responses.get(URI, json=client_information(client_secret_expires_at=soon()))
    mocked_responses.put(URI, status=status)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=204)
    row = expiring(owner="bob")
    successor = renew(row)
    assert successor != row
    new, old = stored(successor), stored(row)
    assert (new.status, new.live, new.client_id, new.owner) == ("active", True, "c2", "bob")
    assert new.client_secret.reveal() == "s2"
    assert new.requested_metadata == WISHES
    assert new.belongs_to_server
    assert (old.status, old.live, old.client_id, old.client_secret) == (
        "revoked", None, "c1", None,
    )  # fmt: skip
    assert (old.lease, new.lease, old.last_error) == ("", "", "")
    assert methods(mocked_responses) == ["GET", "PUT", "POST", "DELETE"]
    assert heard == [
        ("registered", successor, "active"),
        ("renewed", successor, "active"),
        ("revoked", row, "revoked"),
    ]


@database
@pytest.mark.parametrize("place", ["GET", "PUT"])
def test_where_the_token_is_refused_a_new_client_takes_the_place(
    place: str, mocked_responses: Stubs
) -> None:
    """Such a token stays refused, so nobody waits until the secret has expired."""
    if place == "PUT":
        mocked_responses.get(URI, json=client_information(client_secret_expires_at=soon()))
    mocked_responses.add(place, URI, status=401)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=401)
    row = expiring()
    assert renew(row).client_id == "c2"
    assert (stored(row).status, stored(row).live) == ("revoked", None)
    assert stored(row).last_error.startswith("Counted as deleted: ")


@database
@pytest.mark.parametrize("status", [302, 401, 403, 404, 410])
def test_an_expired_secret_whose_endpoint_refuses_is_followed_by_a_new_client(
    status: int, mocked_responses: Stubs
) -> None:
    """Found by whoever needs the client next, once; the old row stays as a record."""
    mocked_responses.get(URI, status=status)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=status)
    row = expiring(client_secret_expires_at=1)
    assert get_or_register(ISSUER).client_id == "c2"
    assert get_or_register(ISSUER).client_id == "c2"
    first, *rest = methods(mocked_responses)
    assert (first, rest[0], {*rest[1:]}) == ("GET", "POST", {"DELETE"})
    # A redirect is no answer to the deletion, which is sent again later.
    status_left = "revoking" if status == 302 else "revoked"
    assert (stored(row).status, stored(row).live) == (status_left, None)


@database
@pytest.mark.parametrize("status", [400, 408, 422, 429, 500, 503])
def test_transient_errors_and_faulty_requests_register_no_second_client(
    status: int, mocked_responses: Stubs
) -> None:
    mocked_responses.get(URI, status=status)
    row = expiring(client_secret_expires_at=1)
    with pytest.raises(DCRError) as caught:
        renew(row)
    assert caught.value.status == status
    assert stored(row).status == "active"


@database
def test_a_client_of_the_servers_console_is_replaced_by_a_person_only(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.get(URI, status=401)
    row = expiring(mechanism="pre_registered", client_secret_expires_at=1)
    with pytest.raises(RegistrationGoneError):
        renew(row)
    assert stored(row).status == "gone"


@database
def test_a_secret_without_an_end_is_not_replaced_because_its_endpoint_refuses(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.get(URI, status=401)
    row = expiring(client_secret_expires_at=0)
    with pytest.raises(RegistrationGoneError):
        renew(row)
    assert ClientRegistration.objects.count() == 1


@database
def test_secrets_that_have_expired_when_they_come_make_no_circle(mocked_responses: Stubs) -> None:
    """It is recognised at the second time, by whoever comes: pages, jobs, and the daily command."""
    clients = count(1)

    def register(_request: Any) -> Any:
        client_id = f"c{next(clients)}"
        issued = client_information(
            client_id=client_id,
            client_secret_expires_at=1,
            registration_client_uri=...,
            registration_access_token=...,
        )
        return 201, {}, json.dumps(issued)

    mocked_responses.add_callback("POST", ENDPOINT, register)
    make_server()
    for _ in range(3):
        with pytest.raises(ConflictError, match="expired within an hour of its renewal") as caught:
            get_or_register(ISSUER, metadata=WISHES)
        assert 3500 < (caught.value.retry_after or 0) <= 3600
    row = ClientRegistration.objects.get(live=True)
    assert renew_if_due(row) is row
    assert perform("renew_if_due", row.pk) is None
    call_command("dcr_renew")
    reconcile()
    assert methods(mocked_responses) == ["POST", "POST"]
    assert row.client_id == "c2"


@database
@pytest.mark.parametrize(
    ("age", "end", "posts"),
    [(3700, 1, 1), (60, 1, 0), (-60, 1, 0), (3700, 0, 0), (3700, None, 0)],
    ids=["an hour old", "young", "of the future", "secret without an end", "unknown end"],
)
def test_a_client_that_is_gone_is_followed_where_its_secret_has_expired_too(
    age: int, end: int | None, posts: int, mocked_responses: Stubs
) -> None:
    """And where a new one, which might be gone as soon, is not the second within the hour."""
    row = make_registration(status="gone", live=None, client_secret_expires_at=end)
    ClientRegistration.objects.update(created_at=now() - timedelta(seconds=age))
    if posts:
        mocked_responses.post(ENDPOINT, status=201, json=second())
        assert get_or_register(ISSUER, metadata=WISHES).client_id == "c2"
    else:
        with pytest.raises(ConflictError, match="A new client is not registered automatically"):
            get_or_register(ISSUER, metadata=WISHES)
    assert len(mocked_responses.calls) == posts
    assert stored(row).status == "gone"


@database
def test_an_update_without_a_new_secret_is_followed_by_a_new_client(
    mocked_responses: Stubs,
) -> None:
    same = client_information(client_secret_expires_at=soon())
    row = expiring(client_secret_expires_at=same["client_secret_expires_at"])
    mocked_responses.get(URI, json=same)
    mocked_responses.put(URI, json=same)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=204)
    assert renew(row).client_id == "c2"


@database
def test_the_same_secret_with_a_shorter_life_is_not_renewed(mocked_responses: Stubs) -> None:
    row = expiring()
    shorter = client_information(client_secret_expires_at=row.client_secret_expires_at - 100)
    mocked_responses.get(URI, json=shorter)
    mocked_responses.put(URI, json=shorter)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=204)
    assert renew(row).client_id == "c2"


@database
def test_a_new_secret_that_has_expired_already_renews_nothing(mocked_responses: Stubs) -> None:
    dead = client_information(client_secret="s2", client_secret_expires_at=1)
    mocked_responses.get(URI, json=client_information(client_secret_expires_at=soon()))
    mocked_responses.put(URI, json=dead)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=204)
    assert renew(expiring()).client_id == "c2"


@database
def test_a_client_that_cannot_be_managed_is_replaced_and_the_old_one_reported(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.post(ENDPOINT, status=201, json=second())
    row = expiring(registration_access_token=None)
    assert renew(row).client_id == "c2"
    assert stored(row).status == "revoked"
    assert stored(row).last_error == "Closed here only; the server may still hold the client."
    assert methods(mocked_responses) == ["POST"]


@database
@pytest.mark.parametrize(
    ("status", "note"),
    [
        (405, "Closed here only; the server may still hold the client: "),
        (403, "Closed here only; the server may still hold the client: "),
        (401, "Counted as deleted: "),
    ],
)
def test_an_old_client_that_the_server_keeps_is_closed_with_a_note(
    status: int, note: str, mocked_responses: Stubs
) -> None:
    without_updates(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=status)
    row = expiring()
    assert renew(row).client_id == "c2"
    assert stored(row).status == "revoked"
    assert stored(row).last_error.startswith(note)


@database
@pytest.mark.parametrize(
    "answer", [{"status": 500}, {"body": requests.ConnectionError()}], ids=["500", "broken off"]
)
def test_an_old_client_whose_deletion_is_not_answered_is_deleted_later(
    answer: Any, mocked_responses: Stubs
) -> None:
    """Fault 143: its credentials are kept until it is."""
    without_updates(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, **answer)
    row = expiring()
    assert renew(row).live
    assert (stored(row).status, stored(row).live) == ("revoking", None)
    assert stored(row).registration_access_token.reveal() == "t1"
    mocked_responses.delete(URI, status=204)
    assert reconcile() == [row]
    assert stored(row).status == "revoked"
    assert ClientRegistration.objects.live().get().client_id == "c2"


@database
def test_an_old_client_that_reconcile_may_not_delete_is_closed(mocked_responses: Stubs) -> None:
    row = make_registration(status="revoking", live=None)
    mocked_responses.delete(URI, status=405)
    reconcile()
    assert stored(row).status == "revoked"
    assert "the server may still hold the client" in stored(row).last_error


@database
@pytest.mark.parametrize(
    ("kind", "answer", "left"),
    [
        (RequestRejectedError, {"status": 400, "json": {"error": "x"}}, None),
        (UnsupportedError, {"status": 404}, None),
        (InvalidResponseError, {"status": 500}, "unknown"),
        (NetworkError, {"body": requests.ReadTimeout()}, "unknown"),
    ],
    ids=["400", "404", "500", "timeout"],
)
def test_without_a_new_client_the_old_one_stays(
    kind: type[DCRError], answer: Any, left: str | None, mocked_responses: Stubs
) -> None:
    """Promise 1: a lost answer leaves a record, and a plain no leaves none."""
    without_updates(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.replace(responses.POST, ENDPOINT, **answer)
    row = expiring()
    with pytest.raises(kind) as caught:
        renew(row)
    assert type(caught.value) is kind
    assert (stored(row).status, stored(row).live, stored(row).lease) == ("active", True, "")
    assert stored(row).client_secret.reveal() == "s1"
    assert stored(row).last_error == str(caught.value)
    others = ClientRegistration.objects.exclude(pk=row.pk)
    assert [each.status for each in others] == ([left] if left else [])


@database
@pytest.mark.parametrize("status", ["unknown", "registering"])
def test_after_a_lost_answer_a_person_decides(status: str, mocked_responses: Stubs) -> None:
    """Promise 1: no second POST without a decision."""
    row = expiring()
    doubtful = make_draft(server=row.server, live=None, status=status)
    without_updates(mocked_responses)
    with pytest.raises(ConflictError, match=f"dcr_revoke {doubtful.pk} --forget"):
        renew(row)
    assert methods(mocked_responses) == ["GET", "PUT"]


@database
def test_a_new_client_that_a_crash_left_behind_takes_the_place(mocked_responses: Stubs) -> None:
    """Fault L6: killed after the answer was stored, and before the rows changed places."""
    row = expiring()
    left = make_registration(
        server=row.server, live=None, client_id="c2", client_secret_expires_at=late()
    )
    without_updates(mocked_responses)
    mocked_responses.delete(URI, status=204)
    assert renew(row) == left
    assert (stored(left).live, stored(row).status) == (True, "revoked")
    assert methods(mocked_responses) == ["GET", "PUT", "DELETE"]


@database
def test_an_expired_client_of_an_interrupted_replacement_is_not_used(
    mocked_responses: Stubs,
) -> None:
    row = expiring()
    make_registration(server=row.server, live=None, client_id="old", client_secret_expires_at=1)
    make_draft(server=row.server, live=None, owner="another", status="unknown")
    without_updates(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=204)
    assert renew(row).client_id == "c2"


@database
def test_the_very_client_with_a_new_secret_is_not_deleted(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    """Fault 105: some servers answer a second registration with the first client."""
    without_updates(mocked_responses)
    answer = second(client_id="c1", registration_client_uri=URI)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    row = expiring()
    successor = renew(row)
    assert methods(mocked_responses) == ["GET", "PUT", "POST"]
    new = ClientRegistration.objects.live().get()
    assert (new, new.client_id, new.client_secret.reveal()) == (successor, "c1", "s2")
    assert stored(row).status == "revoked"
    assert stored(row).last_error == f"Registration {successor.pk} holds this client now."
    assert ("revoked", row, "revoked") not in heard


@database
def test_another_registrations_client_is_no_successor(mocked_responses: Stubs) -> None:
    """Fault 105: the first row is untouched, and its client is not deleted."""
    row = expiring()
    first = make_registration(server=row.server, owner="another", client_id="c2")
    without_updates(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    with pytest.raises(InvalidResponseError, match="another registration already holds"):
        renew(row)
    assert methods(mocked_responses) == ["GET", "PUT", "POST"]
    assert stored(first).client_secret.reveal() == "s1"
    assert (stored(row).status, stored(row).live) == ("active", True)
    assert set(ClientRegistration.objects.all()) == {row, first}


# --- who may -----------------------------------------------------------------------------------


@database
def test_a_server_that_is_not_allowed_is_not_asked(settings: Any) -> None:
    row = expiring()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    with pytest.raises(NotAllowedError, match="is not in DCR_ALLOWED_ISSUERS"):
        renew(row)


@database
@pytest.mark.parametrize("status", ["draft", "registering", "revoked", "gone", "unknown"])
def test_only_an_active_client_is_renewed(status: str) -> None:
    row = expiring(status=status)
    with pytest.raises(ConflictError, match=f"Registration {row.pk} "):
        renew(row)


@database
def test_a_client_that_was_replaced_replaces_nothing(mocked_responses: Stubs) -> None:
    """One key never has two live rows."""
    row = expiring()
    past = expiring(server=row.server, live=None, client_id="c0", registration_access_token=None)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    with pytest.raises(ConflictError, match="was taken over"):
        renew(past)
    assert ClientRegistration.objects.live().get() == row


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_nothing_is_sent() -> None:
    """Promise 3."""
    row = expiring()
    with transaction.atomic(), pytest.raises(ConflictError, match="non_atomic_requests"):
        renew(row)


# --- with a real server and a database in a file -----------------------------------------------


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_renewal_that_was_overtaken_leaves_its_client_for_the_next_one(
    authorization_server: FakeServer, heard: list[Any]
) -> None:
    """Fault L10: it wakes up after another process took the row, and replaces nothing."""
    authorization_server.secret_expires_at = soon()
    row = make_registration_at(authorization_server)

    def take_over(document: Any) -> None:
        del authorization_server.while_handling["POST"]
        ClientRegistration.objects.filter(pk=row.pk).update(lease="another", lease_until=now())
        connection.close()

    authorization_server.while_handling["POST"] = take_over
    with pytest.raises(ConflictError, match="was taken over while this process waited"):
        renew(row)
    assert stored(row).lease == "another"
    left = ClientRegistration.objects.get(live=None)
    assert left.status == "active"
    ClientRegistration.objects.filter(pk=row.pk).update(lease_until=now() - timedelta(minutes=1))
    assert renew(stored(row)) == left
    assert authorization_server.asked("POST") == 1
    assert list(authorization_server.clients) == [left.client_id]


@database
@pytest.mark.parametrize("status", [429, 503])
def test_an_old_client_whose_server_is_busy_is_left_to_reconcile(
    status: int, mocked_responses: Stubs
) -> None:
    without_updates(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=second())
    mocked_responses.delete(URI, status=status)
    row = expiring()
    assert renew(row).client_id == "c2"
    assert stored(row).status == "revoking"
    assert stored(row).registration_access_token.reveal() == "t1"

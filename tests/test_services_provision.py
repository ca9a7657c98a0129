from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from django.db import connection, transaction
from django.utils.timezone import now

from django_dcr.exceptions import (
    ConflictError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import get_or_register, register
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WELL_KNOWN,
    WISHES,
    client_information,
    in_threads,
    make_draft,
    make_registration,
    make_registration_at,
    make_server,
    server_metadata,
    stored,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db
loopback = pytest.mark.network


# --- a hit -------------------------------------------------------------------------------------


@database
def test_a_hit_costs_one_query_and_no_request(django_assert_num_queries: Any) -> None:
    row = make_registration(owner="bob")
    with django_assert_num_queries(1):
        found = get_or_register(ISSUER, "bob")
        assert found.client_secret.reveal() == "s1"
        assert found.server.issuer == ISSUER
    assert found == row


@pytest.mark.django_db(transaction=True)
def test_a_hit_works_inside_a_transaction() -> None:
    """Promise 3: it only reads."""
    row = make_registration()
    with transaction.atomic():
        assert get_or_register(ISSUER, metadata=WISHES) == row


@database
@pytest.mark.parametrize(
    "wishes",
    [
        WISHES,
        {"redirect_uris": (CALLBACK,), "client_name": "Shop"},
        dict(reversed(WISHES.items())),
    ],
    ids=["equal", "a tuple for a list", "in another order"],
)
def test_a_request_for_the_same_metadata_is_a_hit(
    wishes: Any, django_assert_num_queries: Any
) -> None:
    make_registration()
    with django_assert_num_queries(1):
        get_or_register(ISSUER, metadata=wishes)


@database
def test_each_owner_at_each_issuer_has_a_registration_of_its_own(mocked_responses: Stubs) -> None:
    """R-108, R-138: and each says whose it is."""
    numbers = iter("1234")
    server = make_server(client_metadata=WISHES)
    other = make_server(
        issuer="https://as.example/other",
        metadata=server_metadata(issuer="https://as.example/other"),
        client_metadata=WISHES,
    )
    mocked_responses.add_callback(
        responses.POST,
        ENDPOINT,
        lambda _: (201, {}, json.dumps(client_information(client_id=next(numbers)))),
    )
    keys = [(s.issuer, owner) for s in (server, other) for owner in ("", "bob")]
    rows = [get_or_register(*key) for key in keys]
    assert [row.client_id for row in rows] == ["1", "2", "3", "4"]
    assert [get_or_register(*key) for key in keys] == rows
    assert [(row.server.issuer, row.owner) for row in rows] == keys


# --- a miss ------------------------------------------------------------------------------------


@database
def test_a_miss_discovers_and_registers(mocked_responses: Stubs, settings: Any) -> None:
    settings.DCR_CLIENT_METADATA = {"client_name": "Shop of {owner}"}
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_name=...))
    row = get_or_register(ISSUER, "bob", metadata={"redirect_uris": (CALLBACK,)})
    assert (row.status, row.owner, row.server.issuer) == ("active", "bob", ISSUER)
    assert row.metadata["client_name"] == "Shop of bob"
    assert stored(row).requested_metadata == {"redirect_uris": [CALLBACK]}
    assert get_or_register(ISSUER, "bob") == row
    assert len(mocked_responses.calls) == 2


@database
def test_a_miss_costs_two_requests_and_some_queries(
    mocked_responses: Stubs, django_assert_num_queries: Any
) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    with django_assert_num_queries(23):
        get_or_register(ISSUER, metadata=WISHES)
    assert len(mocked_responses.calls) == 2


@database
def test_past_rows_do_not_block(mocked_responses: Stubs) -> None:
    """B9."""
    past = make_registration()
    past.clear()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    assert get_or_register(ISSUER, metadata=WISHES) != past


@database
@pytest.mark.parametrize("status", ["draft", "rejected"])
def test_a_draft_or_rejected_row_is_registered(status: str, mocked_responses: Stubs) -> None:
    row = make_draft(status=status)
    mocked_responses.post(ENDPOINT, status=400, json={"error": "x"})
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_name="New"))
    with pytest.raises(RequestRejectedError):
        get_or_register(ISSUER)
    assert get_or_register(ISSUER, metadata={**WISHES, "client_name": "New"}) == row
    assert stored(row).requested_metadata["client_name"] == "New"
    assert stored(row).status == "active"


@database
def test_automatic_registration_can_be_turned_off(settings: Any, mocked_responses: Stubs) -> None:
    settings.DCR_AUTO_REGISTER = False
    for owner, options in (("", ""), ("bob", " --owner bob")):
        with pytest.raises(NotAllowedError, match="DCR_AUTO_REGISTER is off") as caught:
            get_or_register(ISSUER, owner, metadata=WISHES)
        assert str(caught.value).endswith(f"manage.py dcr_register {ISSUER}{options}")
    make_draft()
    with pytest.raises(NotAllowedError, match="DCR_AUTO_REGISTER is off"):
        get_or_register(ISSUER)
    assert len(mocked_responses.calls) == 0
    assert AuthorizationServer.objects.count() == 1


@database
def test_registering_turned_off_does_not_turn_off_hits(settings: Any) -> None:
    settings.DCR_AUTO_REGISTER = False
    assert get_or_register(make_registration().server.issuer)


@database
@pytest.mark.parametrize(
    ("issuer", "owner", "metadata", "reason"),
    [
        ("http://as.example", "", WISHES, "is not https"),
        ("https://as.example/\ud800", "", WISHES, "is not an absolute"),
        ("as.example", "", WISHES, "is not an absolute"),
        ("https://other.example", "", WISHES, "is not in DCR_ALLOWED_ISSUERS"),
        (ISSUER, "a\0b", WISHES, "not allowed in an owner"),
        (ISSUER, "a\ud800b", WISHES, "not allowed in an owner"),
        (ISSUER, "", {}, "needs redirect_uris"),
        (ISSUER, "", None, "needs redirect_uris"),
        (ISSUER, "", {**WISHES, "client_id": "mine"}, "is assigned by the server"),
        (ISSUER, "", ["redirect_uris"], "one JSON object"),
        (ISSUER, "", "redirect_uris", "one JSON object"),
        (ISSUER, "", {**WISHES, "contacts": {1}}, "one JSON object"),
        (ISSUER, "", {**WISHES, "x": float("nan")}, "one JSON object"),
        (ISSUER, "", {**WISHES, "client_name": "\ud800"}, "one JSON object"),
    ],
    ids=[
        "http", "issuer surrogate", "no URL", "not listed", "owner NUL", "owner surrogate", "empty",
        "none", "assigned", "list", "text", "set", "NaN", "surrogate",
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_stores_and_sends_nothing(
    issuer: str, owner: str, metadata: Any, reason: str, settings: Any, mocked_responses: Stubs
) -> None:
    if issuer == "https://other.example":
        settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    with pytest.raises(NotAllowedError, match=reason):
        get_or_register(issuer, owner, metadata=metadata)
    assert not ClientRegistration.objects.exists()
    assert len(mocked_responses.calls) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("state", ["nothing", "draft", "expired", "other metadata"])
def test_all_but_a_hit_refuses_inside_a_transaction(state: str, mocked_responses: Stubs) -> None:
    """Promise 3, fault L5."""
    if state == "draft":
        make_draft()
    elif state != "nothing":
        make_registration(client_secret_expires_at=1 if state == "expired" else 0)
    with transaction.atomic():
        AuthorizationServer.objects.update(name="the caller's change")
        with pytest.raises(ConflictError, match="non_atomic_requests"):
            get_or_register(ISSUER, metadata={**WISHES, "client_name": "New"})
        transaction.set_rollback(True)
    assert len(mocked_responses.calls) == 0
    assert not AuthorizationServer.objects.exclude(name="").exists()


# --- usable ------------------------------------------------------------------------------------


@database
def test_a_registration_whose_issuer_is_allowed_no_more_is_not_handed_out(settings: Any) -> None:
    row = make_registration()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    with pytest.raises(NotAllowedError, match="is not in DCR_ALLOWED_ISSUERS"):
        get_or_register(ISSUER)
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    assert get_or_register(ISSUER) == row
    AuthorizationServer.objects.update(enabled=False)
    with pytest.raises(NotAllowedError, match="is disabled"):
        get_or_register(ISSUER)


@database
def test_a_registration_whose_issuer_was_edited_is_not_handed_out(mocked_responses: Stubs) -> None:
    """Fault L31: changing the issuer detaches the credentials."""
    row = make_registration()
    row.server.issuer = "https://as.example/evil"
    row.server.metadata = server_metadata(issuer="https://as.example/evil")
    row.server.save()
    with pytest.raises(NotAllowedError, match="was changed after it was registered"):
        get_or_register(ISSUER)
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id="c2"))
    assert get_or_register("https://as.example/evil", metadata=WISHES) != row


@database
def test_a_draft_whose_issuer_was_edited_is_not_registered(mocked_responses: Stubs) -> None:
    """Fault L31."""
    row = make_draft()
    row.server.issuer = "https://as.example/evil"
    row.server.metadata = server_metadata(issuer="https://as.example/evil")
    row.server.save()
    for call in (lambda: get_or_register(ISSUER), lambda: register(stored(row))):
        with pytest.raises(NotAllowedError, match="was changed after it was registered"):
            call()
    assert len(mocked_responses.calls) == 0


@database
def test_an_expired_secret_is_renewed_first(mocked_responses: Stubs) -> None:
    row = make_registration(client_secret_expires_at=int(time.time()))
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    assert get_or_register(ISSUER) == row
    assert get_or_register(ISSUER).client_secret.reveal() == "s2"
    assert len(mocked_responses.calls) == 2


@database
def test_an_expired_secret_is_not_handed_out_where_it_cannot_be_renewed(
    mocked_responses: Stubs,
) -> None:
    make_registration(client_secret_expires_at=1)
    mocked_responses.get(URI, body=requests.ConnectionError())
    with pytest.raises(NetworkError):
        get_or_register(ISSUER)


@database
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"live": True}, True),
        ({"live": True, "client_secret_expires_at": 1}, False),
        ({"live": True, "status": "unknown"}, False),
        ({}, False),
    ],
    ids=["usable", "expired as well", "in doubt", "none"],
)
def test_the_replacement_made_by_another_process_is_returned(
    changes: dict[str, Any], found: bool, mocked_responses: Stubs
) -> None:
    """Fault L8: another process renews, by a new client, while this one waits."""
    row = make_registration(client_secret_expires_at=1)
    successor = make_registration(server=row.server, live=None, client_id="c2")

    def take_over(_: Any) -> Any:
        rows = ClientRegistration.objects
        rows.filter(pk=row.pk).update(lease="x", live=None, registration_access_token="t9")
        rows.filter(pk=successor.pk).update(updated_at=now(), **changes)
        return 200, {}, json.dumps(client_information())

    mocked_responses.add_callback(responses.GET, URI, take_over)
    if found:
        assert get_or_register(ISSUER) == successor
    else:
        with pytest.raises(ConflictError, match="was taken over while this process waited"):
            get_or_register(ISSUER)


@database
def test_other_metadata_is_updated_first(mocked_responses: Stubs) -> None:
    row = make_registration()
    for method in ("GET", "PUT"):
        mocked_responses.add(method, URI, json=client_information(client_name="New"))
    wishes = {**WISHES, "client_name": "New"}
    assert get_or_register(ISSUER, metadata=wishes) == row
    assert stored(row).requested_metadata == wishes
    assert get_or_register(ISSUER, metadata=wishes) == row
    assert len(mocked_responses.calls) == 2


@database
def test_an_update_that_failed_is_tried_again(mocked_responses: Stubs, settings: Any) -> None:
    """What was refused must not look like what was asked for."""
    settings.DCR_BACKOFF = 0
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, status=403)
    for _ in range(2):
        with pytest.raises(RequestRejectedError):
            get_or_register(ISSUER, metadata={**WISHES, "client_name": "New"})
    assert len(mocked_responses.calls) == 4
    assert get_or_register(ISSUER, metadata=WISHES) == row


@database
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("unknown", "the answer was lost"),
        ("revoking", "is being revoked; finish with: manage.py dcr_revoke"),
    ],
)
def test_a_doubt_is_for_a_person(status: str, advice: str, mocked_responses: Stubs) -> None:
    """Promise 1: no second POST without a decision."""
    make_registration(status=status)
    with pytest.raises(ConflictError, match=advice):
        get_or_register(ISSUER, metadata=WISHES)
    assert len(mocked_responses.calls) == 0


@database
def test_a_gone_client_is_not_registered_again_automatically(mocked_responses: Stubs) -> None:
    """Codes G and E: faults 48, 49, 129."""
    row = make_registration()
    row.fail("forgotten", "gone")
    with pytest.raises(ConflictError, match=f"dcr_reconcile --retry {row.pk}"):
        get_or_register(ISSUER, metadata=WISHES)
    assert len(mocked_responses.calls) == 0
    row.clear()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    assert get_or_register(ISSUER, metadata=WISHES).status == "active"


@database
def test_a_lost_answer_is_not_repeated(mocked_responses: Stubs) -> None:
    """Faults 5 and 142: one request, and then a person."""
    make_server()
    mocked_responses.post(ENDPOINT, body=requests.ReadTimeout())
    with pytest.raises(NetworkError):
        get_or_register(ISSUER, metadata=WISHES)
    for _ in range(2):
        with pytest.raises(ConflictError, match="the answer was lost"):
            get_or_register(ISSUER, metadata=WISHES)
    assert len(mocked_responses.calls) == 1


@database
def test_no_registration_is_offered_here(mocked_responses: Stubs) -> None:
    """Fault 70."""
    make_server(metadata={"issuer": ISSUER})
    with pytest.raises(UnsupportedError, match="offers no dynamic registration"):
        get_or_register(ISSUER, metadata=WISHES)
    assert len(mocked_responses.calls) == 0


# --- while another process registers -----------------------------------------------------------


@database
def test_another_processs_registration_is_waited_for_and_no_longer(
    mocked_responses: Stubs, settings: Any
) -> None:
    """Fault L8: bounded."""
    settings.DCR_TIMEOUT = -1.9
    make_draft(status="registering", lease="another", lease_until=now().replace(year=9999))
    with pytest.raises(ConflictError, match="is being registered by another process"):
        get_or_register(ISSUER)
    assert len(mocked_responses.calls) == 0


@database
def test_an_abandoned_registration_is_unknown(mocked_responses: Stubs) -> None:
    """Faults L6 and L9: its process is gone, and its lease has run out."""
    row = make_draft(status="registering", lease="another", lease_until=now().replace(year=2020))
    with pytest.raises(ConflictError, match="the answer was lost"):
        get_or_register(ISSUER)
    assert stored(row).status == "unknown"
    assert len(mocked_responses.calls) == 0


@database
@pytest.mark.parametrize("status", ["registering", "active", "unknown"])
def test_the_second_process_at_a_row_registers_nothing(
    status: str, mocked_responses: Stubs, settings: Any
) -> None:
    """Fault L8: another process was first, while this one asked for the metadata."""
    settings.DCR_TIMEOUT = -1.9
    make_registration(status="draft")
    AuthorizationServer.objects.update(fresh_until=None)

    def overtake(_: Any) -> Any:
        ClientRegistration.objects.update(status=status, lease_until=now().replace(year=9999))
        return 200, {}, json.dumps(server_metadata())

    mocked_responses.add_callback(responses.GET, WELL_KNOWN, overtake)
    if status == "active":
        assert get_or_register(ISSUER).status == "active"
    else:
        with pytest.raises(ConflictError, match=r"by another process|the answer was lost"):
            get_or_register(ISSUER)


@database
def test_the_second_process_at_an_owner_registers_nothing(mocked_responses: Stubs) -> None:
    """Fault L8: another process has registered, while this one asked for the metadata."""
    server = make_server(fresh_until=None)

    def overtake(_: Any) -> Any:
        make_registration(server=server)
        return 200, {}, json.dumps(server_metadata())

    mocked_responses.add_callback(responses.GET, WELL_KNOWN, overtake)
    row = get_or_register(ISSUER, metadata=WISHES)
    assert row == ClientRegistration.objects.get()
    assert len(mocked_responses.calls) == 1


# --- many at once ------------------------------------------------------------------------------


def look(file: Path, sql: str) -> Any:
    with sqlite3.connect(file, timeout=60) as own:
        result = own.execute(sql).fetchall()
    own.close()
    return result


@loopback
@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("known", [False, True], ids=["unknown server", "known server"])
def test_concurrent_calls_make_one_client(authorization_server: FakeServer, known: bool) -> None:
    """Promise 1, B9, fault L8."""
    if known:
        make_server(issuer=authorization_server.issuer, metadata=authorization_server.metadata())
    authorization_server.while_handling["POST"] = lambda document: time.sleep(0.2)

    def call() -> str:
        return get_or_register(authorization_server.issuer, "bob", metadata=WISHES).client_id

    assert in_threads(*[call] * 8) == ["c1"] * 8
    assert authorization_server.asked("POST") == 1
    assert ClientRegistration.objects.get().status == "active"


@loopback
@pytest.mark.usefixtures("database_file")
def test_concurrent_calls_for_many_keys_make_one_client_each(
    authorization_server: FakeServer,
) -> None:
    """Fault 144, in small."""
    owners = ["alice", "bob", "carol", "dave"] * 3

    def call(owner: str) -> str:
        return get_or_register(authorization_server.issuer, owner, metadata=WISHES).client_id

    found = in_threads(*[lambda owner=owner: call(owner) for owner in owners])
    assert found == found[:4] * 3
    assert set(authorization_server.clients) == set(found)
    assert authorization_server.asked("POST") == 4


@loopback
@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("by_update", [True, False], ids=["by an update", "by a new client"])
def test_concurrent_calls_renew_once(authorization_server: FakeServer, by_update: bool) -> None:
    """Faults L8 and L11."""
    authorization_server.secret_expires_at = 1  # a read must not make the old secret look good
    row = make_registration_at(authorization_server)
    authorization_server.secret_expires_at = int(time.time()) + 9999
    authorization_server.rotates_secrets = authorization_server.rotates_tokens = by_update
    authorization_server.while_handling["PUT"] = lambda document: time.sleep(0.1)
    if not by_update:
        ClientRegistration.objects.update(registration_access_token=None)

    def call() -> str:
        return get_or_register(authorization_server.issuer).client_secret.reveal()

    secrets = in_threads(*[call] * 6)
    current = ClientRegistration.objects.live().get()
    assert secrets == [current.client_secret.reveal()] * 6
    assert (current == row) is by_update
    assert authorization_server.asked("PUT") == by_update
    assert authorization_server.asked("POST") == (not by_update)


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_refusal_reaches_every_caller(authorization_server: FakeServer) -> None:
    def refuse(document: dict[str, Any]) -> None:
        document["error"] = "server_error"
        time.sleep(0.1)

    make_server(issuer=authorization_server.issuer, metadata=authorization_server.metadata())
    authorization_server.while_handling["POST"] = refuse

    def call() -> ClientRegistration:
        return get_or_register(authorization_server.issuer, metadata=WISHES)

    for outcome in in_threads(*[call] * 4):
        assert isinstance(outcome, (InvalidResponseError, ConflictError))
    assert authorization_server.clients == {}
    assert not ClientRegistration.objects.filter(status="active").exists()


@loopback
def test_the_callers_pending_changes_are_not_committed_along(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Promise 3, fault L5: neither before the request nor after it, for there is none."""
    make_server(issuer=authorization_server.issuer)
    with transaction.atomic():
        AuthorizationServer.objects.update(name="the caller's change")
        with pytest.raises(ConflictError, match="non_atomic_requests"):
            get_or_register(authorization_server.issuer, metadata=WISHES)
        seen = look(database_file, "SELECT name FROM django_dcr_authorizationserver")
        transaction.set_rollback(True)
    assert seen == [("",)]
    assert authorization_server.requests == []
    assert AuthorizationServer.objects.get().name == ""
    assert connection.get_autocommit()


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_registration_at_a_real_socket_is_found_again(authorization_server: FakeServer) -> None:
    row = get_or_register(authorization_server.issuer, metadata=WISHES)
    assert row.metadata == {**GRANTED, "client_name": "Shop"}
    assert get_or_register(authorization_server.issuer, metadata=WISHES) == row
    assert [request.split()[0] for request in authorization_server.requests] == ["GET", "POST"]

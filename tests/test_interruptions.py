"""What an interruption leaves: marks, clients that nothing names, and how both are settled."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from datetime import timedelta
from email.utils import formatdate
from io import StringIO
from typing import Any

import pytest
import requests
import responses
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils.timezone import now

from django_dcr.exceptions import (
    ConflictError,
    NotStoredError,
    RegistrationGoneError,
)
from django_dcr.models import ClientRegistration
from django_dcr.services import (
    adopt,
    get_or_register,
    read,
    reconcile,
    register,
    renew,
    renew_if_due,
    revoke,
    update,
)
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_registration,
    make_server,
    stored,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db
on_file = pytest.mark.usefixtures("database_file")
URI2 = ENDPOINT + "/c2"
LONG_AGO = now() - timedelta(hours=1)
NEW = {"client_secret": "s2", "registration_access_token": "t2"}


def interrupted(**values: Any) -> ClientRegistration:
    """A row whose process was killed an hour ago."""
    row = make_registration(**{"lease": "killed", "lease_until": LONG_AGO, **values})
    ClientRegistration.objects.filter(pk=row.pk).update(updated_at=LONG_AGO)
    return ClientRegistration.objects.select_related("server").get(pk=row.pk)


def spare(server: Any, **values: Any) -> ClientRegistration:
    """What a renewal registered and did not put in place any more."""
    second = {
        "client_id": "c2",
        "client_secret": "s2",
        "registration_client_uri": URI2,
        "registration_access_token": "t2",
        "live": None,
    }
    return make_registration(server=server, **{**second, **values})


def credentials(row: ClientRegistration) -> tuple[str, str]:
    fresh = stored(row)
    assert fresh.client_secret
    assert fresh.registration_access_token
    return fresh.client_secret.reveal(), fresh.registration_access_token.reveal()


def outage(attempts: int, *, begins: str) -> Any:
    """A wrapper: no database for so many statements, from the first that contains ``begins``."""
    left = attempts

    def cut(execute: Any, sql: str, *arguments: Any) -> Any:
        nonlocal left
        if left and (left < attempts or begins in sql):
            left -= 1
            raise OperationalError("the database is away")
        return execute(sql, *arguments)

    return connection.execute_wrapper(cut)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[float]:
    """The pauses that were made; none takes any time, and the clock goes on by each."""
    settings.DCR_LEASE = 60.0  # until then, writing is tried again and again
    pauses: list[float] = []
    clock = time.monotonic

    def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(pauses))
    return pauses


# --- an outage of the database --------------------------------------------------------------------


@on_file
@pytest.mark.parametrize("service", [read, update, renew])
def test_new_credentials_outlast_an_outage(
    service: Any, mocked_responses: Stubs, slept: list[float]
) -> None:
    """The pauses grow, and go on for as long as the lease has room."""
    row = make_registration()
    mocked_responses.get(URI, json=client_information(**NEW))
    if service is not read:
        mocked_responses.put(URI, json=client_information(**{**NEW, "client_secret": "s3"}))
    with outage(12, begins='"registration_access_token" ='):
        service(row)
    assert credentials(row)[1] == "t2"
    assert slept[:5] == [0.01, 0.02, 0.04, 0.08, 0.16]
    assert max(slept) == 1
    assert stored(row).lease == ""


@on_file
@pytest.mark.usefixtures("slept")
def test_credentials_that_cannot_be_stored_leave_a_mark_and_one_line_in_the_log(
    mocked_responses: Stubs, caplog: Any
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information(**NEW))
    with (
        outage(10_000, begins='"registration_access_token" ='),
        pytest.raises(NotStoredError) as caught,
    ):
        read(row)
    text = str(caught.value)
    assert "its new client_secret and registration_access_token" in text
    assert f"manage.py dcr_read {row.pk}" in text
    assert f"manage.py dcr_reconcile --retry {row.pk}" in text
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "read")
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.getMessage() == text
    for secret in ("s2", "t2"):
        assert secret not in caplog.text.split()
    assert stored(row).lease_until is not None
    assert [found.pk for found in ClientRegistration.objects.exclude(lease="")] == [row.pk]


@on_file
@pytest.mark.usefixtures("slept")
def test_a_mark_survives_the_release_that_follows(mocked_responses: Stubs) -> None:
    """The database is away for the write of the credentials alone."""
    row = make_registration()
    mocked_responses.get(URI, json=client_information(**NEW))

    def cut(execute: Any, sql: str, *arguments: Any) -> Any:
        if '"registration_access_token" =' in sql:
            raise OperationalError("away")
        return execute(sql, *arguments)

    with connection.execute_wrapper(cut), pytest.raises(NotStoredError):
        read(row)
    row = stored(row)
    assert row.lease != ""
    assert "the database did not store" in row.last_error
    assert ClientRegistration.objects.needs_reconciliation().get() == row
    mocked_responses.get(URI, json=client_information(**NEW))
    assert reconcile() == [row]
    assert credentials(row) == ("s2", "t2")
    assert stored(row).lease == ""


@on_file
@pytest.mark.usefixtures("slept")
def test_the_token_of_an_adopted_client_that_cannot_be_stored_is_found_later(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.get(URI, json=client_information(**NEW))

    def cut(execute: Any, sql: str, *arguments: Any) -> Any:
        if '"registration_access_token" =' in sql:
            raise OperationalError("away")
        return execute(sql, *arguments)

    with connection.execute_wrapper(cut), pytest.raises(NotStoredError):
        adopt(
            ISSUER,
            client_id="c1",
            client_secret="s1",
            registration_client_uri=URI,
            registration_access_token="t1",
        )
    row = ClientRegistration.objects.get()
    assert (row.status, row.lease != "", credentials(row)) == ("active", True, ("s1", "t1"))
    ClientRegistration.objects.update(lease_until="2020-01-01T00:00Z")  # it expires
    mocked_responses.get(URI, json=client_information(**NEW))
    assert reconcile() == [row]
    assert credentials(stored(row)) == ("s2", "t2")


@on_file
@pytest.mark.usefixtures("slept")
def test_an_intent_that_cannot_be_stored_is_not_sent(mocked_responses: Stubs) -> None:
    draft = ClientRegistration(server=make_server(), requested_metadata=WISHES)
    with outage(10_000, begins="INSERT"), pytest.raises(OperationalError, match="is away"):
        register(draft)
    assert len(mocked_responses.calls) == 0


# --- what reconcile() settles ---------------------------------------------------------------------


@database
def test_a_client_whose_update_was_interrupted_is_read(mocked_responses: Stubs) -> None:
    row = interrupted()
    mocked_responses.get(URI, json=client_information(client_secret="s2"))
    assert reconcile() == [row]
    assert credentials(row)[0] == "s2"
    assert (stored(row).lease, stored(row).status) == ("", "active")
    assert reconcile() == []


@database
def test_a_token_that_died_with_its_process_is_told_at_once(mocked_responses: Stubs) -> None:
    row = interrupted()
    mocked_responses.get(URI, status=401)
    reconcile()
    assert stored(row).status == "gone"


@database
@pytest.mark.parametrize(
    "answer", [{"status": 500}, {"body": requests.ConnectionError()}], ids=["500", "no answer"]
)
def test_a_mark_stays_until_the_server_has_answered(answer: Any, mocked_responses: Stubs) -> None:
    row = interrupted()
    mocked_responses.get(URI, **answer)
    assert reconcile() == [row]
    assert stored(row).lease != ""
    mocked_responses.get(URI, json=client_information())
    assert reconcile() == [row]
    assert stored(row).lease == ""


@database
def test_the_command_names_a_mark_that_stays(mocked_responses: Stubs) -> None:
    row = interrupted()
    mocked_responses.get(URI, status=500)
    with pytest.raises(CommandError, match=rf"Not settled:\n  {row.pk} \(active\): The"):
        call_command("dcr_reconcile", stdout=StringIO(), stderr=StringIO())


@database
@pytest.mark.parametrize("status", ["draft", "rejected", "gone", "revoked"])
def test_a_mark_that_means_nothing_to_the_server_is_taken_away(
    status: str, mocked_responses: Stubs
) -> None:
    row = interrupted(status=status, client_id="", live=None)
    assert reconcile() == [row]
    assert (stored(row).lease, stored(row).status) == ("", status)
    assert len(mocked_responses.calls) == 0


@database
def test_a_mark_of_a_client_that_cannot_be_read_is_taken_away(mocked_responses: Stubs) -> None:
    row = interrupted(registration_client_uri="", registration_access_token=None)
    reconcile()
    assert (stored(row).lease, stored(row).status) == ("", "active")
    assert len(mocked_responses.calls) == 0


@database
def test_an_interrupted_renewal_is_finished(mocked_responses: Stubs) -> None:
    old = interrupted()
    new = spare(old.server)
    mocked_responses.delete(URI, status=204)
    assert reconcile() == [old, new]
    assert (stored(old).status, stored(new).status) == ("revoked", "active")
    assert get_or_register(ISSUER) == new
    assert reconcile() == []


@database
def test_the_client_of_an_interrupted_renewal_goes_with_the_one_it_was_to_replace(
    mocked_responses: Stubs,
) -> None:
    """Killed before the two changed places, and then the live one was revoked."""
    old = interrupted()
    new = spare(old.server)
    mocked_responses.delete(URI, status=204)
    mocked_responses.delete(URI2, status=204)
    revoke(old)
    assert reconcile() == [new]
    assert stored(new).status == "revoked"
    assert not ClientRegistration.objects.active().exists()


@database
def test_a_spare_client_whose_secret_has_expired_is_deleted(mocked_responses: Stubs) -> None:
    old = make_registration()
    new = spare(old.server, client_secret_expires_at=1)
    mocked_responses.delete(URI2, status=204)
    assert reconcile() == [new]
    assert (stored(old).status, stored(new).status) == ("active", "revoked")


@database
def test_a_spare_row_of_the_very_same_client_deletes_nothing(mocked_responses: Stubs) -> None:
    """The server answered a renewal with the client that it has, and that one lives on."""
    old = make_registration()
    same = spare(old.server, client_id="c1", client_secret_expires_at=1)
    assert reconcile() == [same]
    assert (stored(old).status, stored(same).status) == ("active", "revoked")
    assert len(mocked_responses.calls) == 0


@database
def test_a_spare_row_that_another_process_works_on_is_left_to_it(mocked_responses: Stubs) -> None:
    old = make_registration()
    busy = {"lease": "busy", "lease_until": now() + timedelta(minutes=1)}
    same = spare(old.server, client_id="c1", client_secret_expires_at=1, **busy)
    reconcile()
    assert stored(same).status == "active"
    assert len(mocked_responses.calls) == 0


@database
def test_a_spare_client_that_is_being_deleted_replaces_nothing() -> None:
    """Another process has decided on it in the meantime."""
    old = make_registration()
    new = spare(old.server)
    assert old.claim("active", task="renew")
    assert stored(new).claim("active", task="revoke", status="revoking")
    assert not new.replace(old)
    assert (stored(old).live, stored(old).status) == (True, "active")


# --- what get_or_register() does of it ------------------------------------------------------------


@database
def test_a_hit_reads_a_client_whose_update_was_interrupted_once(mocked_responses: Stubs) -> None:
    row = interrupted()
    mocked_responses.get(URI, json=client_information(client_secret="s2"))
    for _ in range(3):
        assert get_or_register(ISSUER).client_secret.reveal() == "s2"
    assert len(mocked_responses.calls) == 1
    assert stored(row).lease == ""


@database
def test_a_hit_says_that_the_token_died(mocked_responses: Stubs) -> None:
    interrupted()
    mocked_responses.get(URI, status=401)
    with pytest.raises(RegistrationGoneError):
        get_or_register(ISSUER)


@database
def test_a_hit_is_handed_out_where_the_server_does_not_answer(mocked_responses: Stubs) -> None:
    """And is not held up again within the time of a lease."""
    row = interrupted()
    mocked_responses.get(URI, body=requests.ConnectionError())
    for _ in range(3):
        assert get_or_register(ISSUER) == row
    assert len(mocked_responses.calls) == 1
    assert stored(row).lease != ""


@database
def test_a_row_that_is_being_worked_on_is_handed_out_as_it_is(mocked_responses: Stubs) -> None:
    row = make_registration(lease="busy", lease_until=now() + timedelta(minutes=1))
    assert get_or_register(ISSUER) == row
    assert len(mocked_responses.calls) == 0


# --- a secret that does not live ------------------------------------------------------------------


def answers(stubs: Stubs, lifetime: float) -> None:
    """A server whose secrets live so many seconds, whatever it is asked."""

    def issue(request: Any) -> Any:
        number = len(stubs.calls)
        document = client_information(
            client_id=f"c{number}" if request.method == "POST" else request.url.split("/")[-1],
            client_secret=f"s{number}",
            client_secret_expires_at=int(time.time() + lifetime),
            registration_access_token=f"t{number}",
            registration_client_uri=f"{ENDPOINT}/c{number}" if request.method == "POST" else ...,
        )
        return {"POST": 201, "DELETE": 204}.get(request.method, 200), {}, json.dumps(document)

    for method in ("GET", "PUT", "POST", "DELETE"):
        stubs.add_callback(method, CLIENTS, issue)


CLIENTS = re.compile(r"https://as\.example/register.*")


@database
@pytest.mark.parametrize("lifetime", [-3600, 0, 30], ids=["born expired", "at once", "30 s"])
def test_secrets_that_expire_at_once_make_no_client_with_each_call(
    lifetime: float, mocked_responses: Stubs, settings: Any
) -> None:
    settings.DCR_CLIENT_METADATA = {"redirect_uris": ["https://site.example/callback"]}
    make_server()
    answers(mocked_responses, lifetime)
    refusals = []
    for _ in range(6):
        with suppress(ConflictError):
            handed_out = get_or_register(ISSUER)
            assert not handed_out.secret_expires_within(timedelta())
            continue
        with pytest.raises(ConflictError, match="expired within an hour of its renewal") as caught:
            get_or_register(ISSUER)
        refusals.append(caught.value.retry_after or 0)
    assert len(refusals) == (0 if lifetime > 0 else 6)
    assert all(3500 < seconds <= 3600 for seconds in refusals)
    methods = [str(call.request.method) for call in mocked_responses.calls]
    assert methods.count("POST") <= 2
    assert ClientRegistration.objects.count() <= 2
    ClientRegistration.objects.update(renewed_at=now() - timedelta(hours=1, seconds=1))
    before = len(mocked_responses.calls)
    with suppress(ConflictError):
        get_or_register(ISSUER)
    assert len(mocked_responses.calls) > before


@database
def test_a_job_leaves_a_renewed_secret_alone_for_an_hour(mocked_responses: Stubs) -> None:
    soon = int(time.time()) + 3600
    row = make_registration(client_secret_expires_at=soon, renewed_at=now())
    assert renew_if_due(row) is row
    assert len(mocked_responses.calls) == 0


@database
def test_a_renewal_that_a_clock_dates_into_the_future_is_no_reason_to_wait() -> None:
    row = make_registration(renewed_at=now() + timedelta(days=1))
    assert row.seconds_until_renewal == 0


HOUR = 3600


@database
@pytest.mark.parametrize(
    ("issued_at", "date"),
    [
        pytest.param(-5 * HOUR, None, id="client_id_issued_at"),
        pytest.param(None, -5 * HOUR, id="Date"),
        pytest.param(-5 * HOUR, 0, id="a proxy's Date"),
    ],
)
def test_a_lifetime_is_reckoned_by_the_clock_that_stated_it(
    issued_at: float | None, date: float | None, mocked_responses: Stubs, settings: Any
) -> None:
    """This site's clock is five hours ahead, and the secret lives four."""
    settings.DCR_CLIENT_METADATA = {"redirect_uris": ["https://site.example/callback"]}
    make_server()
    current = time.time()
    document = client_information(
        client_secret_expires_at=int(current - HOUR),
        client_id_issued_at=... if issued_at is None else int(current + issued_at),
    )
    headers = {} if date is None else {"Date": formatdate(current + date, usegmt=True)}
    mocked_responses.post(ENDPOINT, status=201, json=document, headers=headers)
    for _ in range(3):
        registration = get_or_register(ISSUER)
    assert len(mocked_responses.calls) == 1
    assert not registration.secret_has_expired
    assert registration.client_secret_expires_at == document["client_secret_expires_at"]
    assert registration.secret_expiry is not None
    left = (registration.secret_expiry - now()).total_seconds() / HOUR
    assert 3.9 < left < 4.1
    assert "300 minutes behind" in " ".join(stored(registration).deviations)
    found = ClientRegistration.objects.expiring
    assert found(now() + timedelta(hours=5)).get() == registration
    assert not found(now() + timedelta(hours=3)).exists()


@database
@pytest.mark.parametrize(
    ("issued_at", "date"),
    [(-50 * HOUR, -50 * HOUR), (-30, -30), (-5 * HOUR, 0), (None, None)],
    ids=["days apart", "half a minute", "an older client", "nothing said"],
)
def test_clocks_that_agree_or_cannot_be_compared_change_nothing(
    issued_at: float | None, date: float | None, mocked_responses: Stubs
) -> None:
    row = make_registration()
    current = time.time()
    headers = {} if date is None else {"Date": formatdate(current + date, usegmt=True)}
    document = client_information(
        client_secret_expires_at=int(current + 9 * HOUR),
        client_id_issued_at=... if issued_at is None else int(current + issued_at),
    )
    mocked_responses.get(URI, json=document, headers=headers)
    read(row)
    assert stored(row).clock_offset == 0


@on_file
@pytest.mark.usefixtures("slept")
def test_a_lease_that_cannot_be_released_expires(caplog: Any) -> None:
    row = make_registration()
    assert row.claim("active")
    with outage(10_000, begins="UPDATE"):
        row.release()
    assert "was not released and will expire" in caplog.text
    assert stored(row).lease == row.lease

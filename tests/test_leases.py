"""Work on one row by several processes: one after the other, and none for ever."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase, TransactionTestCase
from django.utils.timezone import now

from django_dcr import signals
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    RegistrationGoneError,
    RequestRejectedError,
)
from django_dcr.models import ClientRegistration, Status
from django_dcr.services import read, revoke, update
from django_dcr.services.operation import (
    Operation,
    announce,
    check_state,
    conflict,
    refuse_inside_atomic,
)
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.factories import (
    WISHES,
    in_threads,
    make_draft,
    make_registration,
    make_registration_at,
    make_server,
    stored,
)

database = pytest.mark.django_db
loopback = pytest.mark.network


# --- no transaction ----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_transaction_is_refused_wherever_it_was_opened() -> None:
    refuse_inside_atomic()
    with transaction.atomic():
        with pytest.raises(ConflictError, match=r"transaction\.non_atomic_requests"):
            refuse_inside_atomic()
        with transaction.atomic(), pytest.raises(ConflictError):
            refuse_inside_atomic()
    refuse_inside_atomic()


@pytest.mark.django_db(transaction=True)
def test_a_connection_without_autocommit_is_refused() -> None:
    transaction.set_autocommit(False)
    try:
        with pytest.raises(ConflictError):
            refuse_inside_atomic()
    finally:
        transaction.set_autocommit(True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", [TestCase, TransactionTestCase], ids=["TestCase", "Transaction"])
def test_a_sites_own_test_cases_are_not_refused(kind: type[TestCase]) -> None:
    """Promise 3: as with atomic(durable=True), their own transaction does not count."""
    outcomes = []

    class Site(kind):  # type: ignore[valid-type, misc]
        def test(self) -> None:
            refuse_inside_atomic()
            outcomes.append("outside")
            with transaction.atomic(), pytest.raises(ConflictError):
                refuse_inside_atomic()
            outcomes.append("inside")

    result = Site("test").run()
    assert result.errors == result.failures == []
    assert outcomes == ["outside", "inside"]


# --- states ------------------------------------------------------------------------------------


@database
@pytest.mark.parametrize("status", Status.values)
def test_every_state_names_the_next_step(status: str) -> None:
    row = make_draft(status=status)
    check_state(row, Status(status))
    others = [each for each in Status if each != status]
    with pytest.raises(ConflictError, match=f"^Registration {row.pk} (is|was|has)") as caught:
        check_state(row, *others)
    assert "{pk}" not in str(caught.value)
    commands = str(caught.value).count("manage.py") + str(caught.value).count("--forget")
    assert commands == str(caught.value).count(str(row.pk)) - 1


@database
def test_a_conflict_names_the_row() -> None:
    row = make_draft()
    error = conflict(row, "is held; see {pk}")
    assert str(error) == f"Registration {row.pk} is held; see {row.pk}."


# --- taking and holding ------------------------------------------------------------------------


@database
def test_a_row_is_taken_in_its_state() -> None:
    row = make_registration()
    Operation(row, "read").acquire(Status.ACTIVE, last_error="taken")
    assert row.lease == stored(row).lease != ""
    assert stored(row).last_error == "taken"
    with pytest.raises(ConflictError, match="is registered already"):
        Operation(stored(row), "read").acquire(Status.DRAFT)


@database
def test_a_lease_that_ran_out_is_taken_over(settings: Any) -> None:
    """Fault L9: the holder died."""
    settings.DCR_TIMEOUT = -1.9  # waiting is for 2 s longer
    row = make_registration(lease="dead", lease_until=now() - timedelta(seconds=1))
    Operation(row, "read").acquire(Status.ACTIVE)
    assert stored(row).lease not in ("", "dead")
    with pytest.raises(ConflictError, match="is held by another process; try again later"):
        Operation(stored(row), "read").acquire(Status.ACTIVE)


@database
@pytest.mark.parametrize(
    ("error", "status", "live"),
    [
        (RequestRejectedError("no"), "active", True),
        (InvalidResponseError("no"), "active", True),
        (RegistrationGoneError("no"), "gone", None),
    ],
    ids=["rejected", "invalid", "gone"],
)
def test_how_a_block_failed_is_on_the_row(
    error: DCRError, status: str, live: bool | None, heard: list[Any]
) -> None:
    row = make_registration()

    def work() -> None:
        with Operation(row, "read").lease(Status.ACTIVE):
            assert stored(row).lease
            raise error

    with pytest.raises(type(error)):
        work()
    for each in (row, stored(row)):
        assert (each.status, each.live, each.last_error, each.lease) == (status, live, "no", "")
    assert heard == ([("gone", row, "gone")] if status == "gone" else [])


@database
def test_a_foreign_error_gives_the_row_back_too() -> None:
    row = make_registration()
    with pytest.raises(ZeroDivisionError), Operation(row, "read").lease(Status.ACTIVE):
        raise ZeroDivisionError
    assert (stored(row).lease, stored(row).last_error) == ("", "")


@database
def test_a_block_gives_the_row_back() -> None:
    row = make_registration()
    with Operation(row, "read").lease(Status.ACTIVE):
        pass
    assert (stored(row).lease, stored(row).lease_until) == ("", None)


@database
def test_who_was_overtaken_writes_nothing_and_announces_nothing(heard: list[Any]) -> None:
    """Fault L10: fencing."""
    row = make_registration()

    def work() -> None:
        with Operation(row, "read").lease(Status.ACTIVE):
            ClientRegistration.objects.update(lease="another")
            raise RegistrationGoneError("no")

    with pytest.raises(RegistrationGoneError):
        work()
    assert (stored(row).status, stored(row).last_error, stored(row).lease) == (
        "active", "", "another",
    )  # fmt: skip
    assert heard == []


@pytest.mark.django_db(transaction=True)
def test_a_row_that_another_process_took_over_is_not_withdrawn() -> None:
    """Fault L10: fencing."""
    row = make_draft()
    Operation(row, "register").acquire(Status.DRAFT)
    ClientRegistration.objects.update(lease="another")
    row.withdraw()
    assert stored(row).lease == "another"


@pytest.mark.usefixtures("database_file")
def test_a_row_is_waited_for() -> None:
    """Fault L12: one wins, and the other follows."""
    row = make_registration()
    first, second = stored(row), stored(row)
    Operation(first, "read").acquire(Status.ACTIVE)
    order = []

    def give_back() -> None:
        time.sleep(0.2)
        order.append("given back")
        first.release()

    def wait() -> None:
        Operation(second, "read").acquire(Status.ACTIVE)
        order.append("taken")

    in_threads(give_back, wait)
    assert order == ["given back", "taken"]


@pytest.mark.usefixtures("database_file")
def test_a_row_that_left_its_state_is_not_waited_for() -> None:
    row = make_registration()
    first, second = stored(row), stored(row)
    Operation(first, "read").acquire(Status.ACTIVE)

    def close() -> None:
        time.sleep(0.1)
        first.clear()

    outcomes = in_threads(close, lambda: Operation(second, "read").acquire(Status.ACTIVE))
    assert "is closed" in str(outcomes[1])


# --- signals -----------------------------------------------------------------------------------


@database
def test_receivers_get_the_row_and_their_errors_stay_with_them(caplog: Any) -> None:
    """Fault L30."""
    received = []

    def broken(**_: Any) -> None:
        raise RuntimeError("not my day")

    def sound(registration: ClientRegistration, sender: Any, **extra: Any) -> None:
        received.append((sender, registration, extra["replaced"]))

    row, old = ClientRegistration(pk=2, server=make_server()), ClientRegistration(pk=1)
    signals.renewed.connect(broken)
    signals.renewed.connect(sound)
    try:
        announce(signals.renewed, row, replaced=old)
    finally:
        signals.renewed.disconnect(broken)
        signals.renewed.disconnect(sound)
    assert received == [(ClientRegistration, row, old)]
    assert "not my day" in caplog.text


# --- many at once, with a real server and a database in a file ---------------------------------


@loopback
@pytest.mark.usefixtures("database_file")
def test_updates_at_once_are_made_one_after_the_other(authorization_server: FakeServer) -> None:
    """Fault L11: the server turns the token each time, and every update finds the last one."""
    authorization_server.rotates_tokens = True
    row = make_registration_at(authorization_server)
    names = itertools.count()

    def work() -> int:
        for _ in range(20):
            mine = stored(row)
            mine.requested_metadata = {**WISHES, "client_name": f"Shop {next(names)}"}
            update(mine)
        return 20

    assert in_threads(work, work, work) == [20, 20, 20]
    assert authorization_server.asked("PUT") == 60
    [client] = authorization_server.clients.values()
    assert stored(row).registration_access_token.reveal() == client["registration_access_token"]
    assert stored(row).metadata["client_name"] == client["client_name"]
    assert (stored(row).status, stored(row).lease, stored(row).last_error) == ("active", "", "")


@loopback
@pytest.mark.usefixtures("database_file")
def test_reads_and_updates_at_once_lose_no_token(authorization_server: FakeServer) -> None:
    """Faults L11 and 125."""
    authorization_server.rotates_tokens = authorization_server.rotates_secrets = True
    row = make_registration_at(authorization_server)

    def work(service: Any) -> str:
        for _ in range(8):
            service(stored(row))
        return "done"

    calls = [lambda service=service: work(service) for service in (read, update, read, update)]
    assert in_threads(*calls) == ["done"] * 4
    [client] = authorization_server.clients.values()
    assert stored(row).registration_access_token.reveal() == client["registration_access_token"]
    assert stored(row).client_secret.reveal() == client["client_secret"]


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_deletion_among_updates_wins_once(
    authorization_server: FakeServer, heard: list[Any]
) -> None:
    """Fault L12: and a double click deletes once."""
    authorization_server.rotates_tokens = True
    row = make_registration_at(authorization_server)
    calls = [
        lambda service=service: service(stored(row)).status
        for service in (update, revoke, read, revoke, update)
    ]
    outcomes = in_threads(*calls)
    assert authorization_server.clients == {}
    assert stored(row).status == "revoked"
    assert outcomes.count("revoked") == 1
    for outcome in outcomes:
        assert outcome in ("revoked", "active") or isinstance(outcome, ConflictError)
    assert [name for name, *_ in heard].count("revoked") == 1
    assert "gone" not in [name for name, *_ in heard]


@loopback
@pytest.mark.usefixtures("database_file")
def test_threads_share_no_connection(authorization_server: FakeServer) -> None:
    """Fault L27."""
    rows = [make_registration_at(authorization_server, owner=str(number)) for number in range(4)]
    mine = connection.connection
    used = []

    def work(row: ClientRegistration) -> str:
        read(row)
        used.append((threading.get_ident(), id(connections["default"].connection)))
        return row.owner

    assert in_threads(*[lambda row=row: work(row) for row in rows]) == ["0", "1", "2", "3"]
    assert len(set(used)) == 4
    assert id(mine) not in {each for _, each in used}

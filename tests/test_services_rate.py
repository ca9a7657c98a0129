"""``requests_per_minute``: kept by all processes, for every request of the services."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import responses
from django.db import connection, transaction
from django.forms import model_to_dict
from django.test.utils import CaptureQueriesContext

import django_dcr
from django_dcr import services
from django_dcr.exceptions import ConflictError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.models.leases import DatabaseNow
from django_dcr.services.operation import Exchanges
from tests.clocks import Clock
from tests.factories import (
    ENDPOINT,
    URI,
    WELL_KNOWN,
    client_information,
    events_of,
    in_threads,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries, Settings

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which turns are waited for."""
    clock = Clock()
    monkeypatch.setattr("django_dcr.services.operation.time", clock)
    return clock


def database_now() -> datetime:
    now: datetime = AuthorizationServer.objects.values_list(DatabaseNow(), flat=True)[0]
    return now


def moments(server: AuthorizationServer, number: int) -> Iterator[tuple[datetime, datetime]]:
    """Reserve so many requests; yield between which two moments each may be sent at first."""
    for _ in range(number):
        before = database_now()
        wait = timedelta(seconds=server.reserve(within=10**6))
        yield before + wait, database_now() + wait


def with_turns_from_tomorrow(rate: int) -> tuple[AuthorizationServer, datetime]:
    """A server whose next turns do not depend on what time it is, and the first of them."""
    server = make_server(requests_per_minute=rate)
    AuthorizationServer.objects.update(paced_until=database_now() + timedelta(days=1))
    return server, paced_until(server)


def paced_until(server: AuthorizationServer) -> datetime:
    until = AuthorizationServer.objects.get(pk=server.pk).paced_until
    assert until
    return until


@pytest.mark.parametrize("rate", [1, 2, 3, 4, 10, 60])
def test_no_minute_has_more_requests_than_the_rate(rate: int) -> None:
    times = list(moments(make_server(requests_per_minute=rate), 3 * rate))
    for (earliest, _), (_, latest) in zip(times, times[rate:], strict=False):
        assert latest - earliest >= MINUTE


@pytest.mark.parametrize("rate", [10, 60, 600])
def test_the_rate_is_used_up_but_for_a_burst(rate: int) -> None:
    server, begun = with_turns_from_tomorrow(rate)
    for _ in range(rate - 2):
        server.reserve(within=10**6)
    assert paced_until(server) - begun == pytest.approx(MINUTE, abs=timedelta(milliseconds=1))


def test_the_first_three_follow_each_other_at_once() -> None:
    server = make_server(requests_per_minute=3)
    waits = [server.reserve(within=1000) for _ in range(5)]
    assert waits[:3] == [0, 0, 0]
    assert 0 < waits[3] <= 60 < waits[4] <= 120


def test_a_slot_beyond_the_wait_is_not_reserved() -> None:
    server = make_server(requests_per_minute=1)
    assert server.reserve(within=10) == 0
    before = AuthorizationServer.objects.get().paced_until
    assert 10 < server.reserve(within=10) <= 60
    assert AuthorizationServer.objects.get().paced_until == before


def test_a_server_without_a_rate_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    server = make_server()
    with django_assert_num_queries(0):
        Exchanges(server).wait_for_slot()
        assert server.reserve(within=0) == 0


def test_a_server_that_is_not_stored_has_no_turns() -> None:
    server = AuthorizationServer(issuer="https://as.example", requests_per_minute=1)
    assert [server.reserve(within=0) for _ in range(3)] == [0, 0, 0]


def test_a_turn_is_waited_for(clock: Clock, settings: Settings) -> None:
    settings.DCR_TIMEOUT = 100
    server = make_server(requests_per_minute=3)
    for _ in range(4):
        Exchanges(server).wait_for_slot()
    assert clock.slept[:3] == [0, 0, 0]
    assert 0 < clock.slept[3] <= 60


def test_a_slot_that_another_process_takes_is_read_again() -> None:
    """The compare-and-set: without it both would have the same moment."""
    server = make_server(requests_per_minute=1)
    rivals = iter([AuthorizationServer.objects.get()])

    def meanwhile(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE"):
            for rival in rivals:
                assert rival.reserve(within=0) == 0
        return execute(sql, *rest)

    with connection.execute_wrapper(meanwhile):
        assert 0 < server.reserve(within=100) <= 60


@pytest.mark.usefixtures("database_file")
def test_no_moment_is_reserved_twice_by_many_at_once() -> None:
    server, begun = with_turns_from_tomorrow(rate=62)

    def reserve() -> None:
        for _ in range(10):
            server.reserve(within=10**6)

    in_threads(*[reserve] * 6)
    assert paced_until(server) - begun == MINUTE  # 60 requests, one a second


# What speaks to a server, and the state in which it does.
CALLS: dict[str, tuple[Callable[..., ClientRegistration], Callable[[Any], Any]]] = {
    "read": (make_registration, services.read),
    "update": (make_registration, services.update),
    "renew": (make_registration, services.renew),
    "revoke": (make_registration, services.revoke),
    "register": (make_draft, services.register),
    "discover": (make_draft, lambda row: services.discover(row.server, refresh=True)),
}


@pytest.fixture
def busy() -> AuthorizationServer:
    """A server whose turns are taken for the next minutes."""
    server = make_server(requests_per_minute=1)
    for _ in range(3):
        server.reserve(within=1000)
    return server


@pytest.mark.parametrize("name", CALLS)
def test_a_turn_too_far_away_is_an_error_before_anything_is_sent_or_written(
    name: str, busy: AuthorizationServer
) -> None:
    """No stub answers, so that a request would be an error of another kind."""
    make, act = CALLS[name]
    row = make(server=busy)
    before = model_to_dict(stored(row)), events_of(row), stored(row).last_error
    with pytest.raises(
        ConflictError, match=r"1 requests a minute .* Try again in 1\d\d sec"
    ) as info:
        act(row)
    assert 120 < info.value.retry_after <= 180
    assert (info.value.issuer, info.value.status) == (busy.issuer, None)
    after = stored(row)
    assert (model_to_dict(after), events_of(row), after.last_error) == before
    assert after.lease == ""
    busy.refresh_from_db()
    assert busy.last_error == ""


def test_a_draft_that_is_not_stored_stays_so(busy: AuthorizationServer) -> None:
    wishes = {"redirect_uris": ["https://site.example/callback"]}
    with pytest.raises(ConflictError):
        services.register(ClientRegistration(server=busy, requested_metadata=wishes))
    assert not ClientRegistration.objects.exists()


def test_every_request_takes_a_turn(mocked_responses: responses.RequestsMock) -> None:
    server = make_server(requests_per_minute=6000, fresh_until=None)
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information())
    mocked_responses.delete(URI, status=204)
    row = make_draft(server=server)
    with CaptureQueriesContext(connection) as queries:
        for act in (services.register, services.update, services.read, services.revoke):
            act(row)
    turns = [query for query in queries if re.search("SET .paced_until", query["sql"])]
    # GET and POST, GET and PUT, GET, DELETE.
    assert len(turns) == len(mocked_responses.calls) == 6


def test_in_the_midst_of_work_a_turn_is_waited_for_longer(
    mocked_responses: responses.RequestsMock, settings: Settings, clock: Clock
) -> None:
    """Else a busy server would be read again and again, and never updated."""
    settings.DCR_TIMEOUT, settings.DCR_LEASE = 0.2, 300
    row = make_registration(server=make_server(requests_per_minute=3))
    for _ in range(2):
        row.server.reserve(within=0)
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information())
    assert services.update(row).status == "active"
    before_reading, before_updating = clock.slept
    assert before_reading == 0 < before_updating <= 60


def test_a_turn_is_not_waited_for_inside_a_transaction() -> None:
    """Its row lock would keep all others waiting while the server is asked."""
    server = make_server(requests_per_minute=60)
    with (
        transaction.atomic(),
        pytest.raises(ConflictError, match="outside atomic"),
    ):
        services.discover(server, refresh=True)


def test_every_request_to_a_server_starts_at_one_place() -> None:
    folder = Path(django_dcr.__file__).parent / "services"
    senders = {
        file.name
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "transport.send"
    }
    # A document of this site is fetched from this site, and one of a resource from the resource.
    assert senders == {"operation.py", "documents.py", "discovery.py"}

"""``requests_per_minute``: kept by all processes, for every request of the services."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
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
from django_dcr.services.pacing import await_turn
from tests.crash.processes import busiest
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

MINUTE = 60.0


def moments(server: AuthorizationServer, number: int) -> Iterator[float]:
    """Reserve so many requests; yield when each may be sent, on the monotonic clock."""
    for _ in range(number):
        yield server.reserve(within=10**6) + time.monotonic()


@pytest.mark.parametrize("rate", [1, 2, 3, 4, 10, 60])
def test_no_minute_has_more_requests_than_the_rate(rate: int) -> None:
    times = list(moments(make_server(requests_per_minute=rate), 3 * rate))
    # Between the look at one clock and at the other a busy machine may rest.
    assert busiest(times, MINUTE - 2) <= rate


@pytest.mark.parametrize("rate", [10, 60, 600])
def test_the_rate_is_used_up_but_for_a_burst(rate: int) -> None:
    times = list(moments(make_server(requests_per_minute=rate), 2 * rate))
    assert busiest(times, MINUTE) >= rate - 2


def test_the_first_three_follow_each_other_at_once() -> None:
    server = make_server(requests_per_minute=10)
    waits = [server.reserve(within=60) for _ in range(5)]
    assert waits[:3] == [0, 0, 0]
    assert waits[3:] == pytest.approx([7.5, 15], abs=3)


def test_what_is_too_far_away_is_not_reserved() -> None:
    server = make_server(requests_per_minute=1)
    assert server.reserve(within=10) == 0
    before = AuthorizationServer.objects.get().paced_until
    assert server.reserve(within=10) == pytest.approx(60, abs=5)
    assert AuthorizationServer.objects.get().paced_until == before


def test_a_server_without_a_rate_costs_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    server = make_server()
    with django_assert_num_queries(0):
        await_turn(server, step="read")
        assert server.reserve(within=0) == 0


def test_a_server_that_is_not_stored_has_no_turns() -> None:
    server = AuthorizationServer(issuer="https://as.example", requests_per_minute=1)
    assert [server.reserve(within=0) for _ in range(3)] == [0, 0, 0]


def test_a_turn_is_waited_for() -> None:
    server = make_server(requests_per_minute=120)
    started = time.monotonic()
    for _ in range(4):
        await_turn(server, step="read")
    assert 0.45 < time.monotonic() - started < 5


def test_who_reads_a_value_that_another_process_changes_reads_again() -> None:
    """The compare-and-set: without it both would have the same moment."""
    server = make_server(requests_per_minute=1)
    rivals = iter([AuthorizationServer.objects.get()])

    def meanwhile(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE"):
            for rival in rivals:
                assert rival.reserve(within=0) == 0
        return execute(sql, *rest)

    with connection.execute_wrapper(meanwhile):
        assert server.reserve(within=100) == pytest.approx(60, abs=5)


@pytest.mark.usefixtures("database_file")
def test_no_moment_is_reserved_twice_by_many_at_once() -> None:
    server = make_server(requests_per_minute=62)
    before = server.reserve(within=0)
    first = AuthorizationServer.objects.get().paced_until

    def reserve() -> None:
        for _ in range(10):
            server.reserve(within=1000)

    in_threads(*[reserve] * 6)
    assert before == 0
    last = AuthorizationServer.objects.get().paced_until
    assert last - first == timedelta(seconds=60)  # 60 requests, one a second


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
    with pytest.raises(ConflictError, match=r"1 times a minute .* Try again in 1[78]. sec") as info:
        act(row)
    assert info.value.retry_after == pytest.approx(180, abs=9)
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
    mocked_responses: responses.RequestsMock, settings: Settings
) -> None:
    """Else a busy server would be read again and again, and never updated."""
    settings.DCR_TIMEOUT, settings.DCR_LEASE = 0.2, 3
    row = make_registration(server=make_server(requests_per_minute=120))
    started = time.monotonic()
    for _ in range(2):
        row.server.reserve(within=0)
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information())
    assert services.update(row).status == "active"
    assert time.monotonic() - started > 0.45


def test_a_turn_is_not_waited_for_inside_a_transaction() -> None:
    """Its row lock would keep all others waiting while the server is asked."""
    server = make_server(requests_per_minute=60)
    with (
        transaction.atomic(),
        pytest.raises(ConflictError, match="outside atomic"),
    ):
        services.discover(server, refresh=True)


def test_every_request_of_the_services_starts_at_one_place() -> None:
    folder = Path(django_dcr.__file__).parent / "services"
    senders = {
        file.name
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "http.send"
    }
    assert senders == {"pacing.py"}

"""The services in async views, under ASGI."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.db import connection, connections
from django.db.backends.signals import connection_created
from django.http import HttpRequest, JsonResponse
from django.urls import path

from django_dcr import services
from django_dcr.models import ClientRegistration, RegistrationEvent, actor
from django_dcr.services import aget_or_register, aread, arevoke
from django_dcr.signals import exchanged, registered
from django_dcr.testing import AuthorizationServer
from tests.cases import ALL
from tests.contrib.documentation import documented
from tests.factories import WISHES

if TYPE_CHECKING:
    from pytest_django import Settings

PAGE = (Path(__file__).parent.parent / "docs/async.md").read_text()
ASYNC = [name for name in services.__all__ if iscoroutinefunction(getattr(services, name))]


async def log_in(request: HttpRequest) -> JsonResponse:
    """Hold the thread of the request for two steps, in the name of who asks."""
    with actor(request.GET["user"]):
        registration = await aget_or_register("https://login.test", request.GET["owner"])
        await aread(registration)
    return JsonResponse({"client_id": registration.client_id})


urlpatterns = [path("login", log_in)]


async def get(application: Any, url: str, query: str = "") -> tuple[int, bytes]:
    """Send one request to an ASGI application; return status and body."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": url,
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver")],
    }
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "http.request", "body": b""})
    start = await communicator.receive_output(timeout=600)
    body = await communicator.receive_output(timeout=600)
    await communicator.wait(timeout=600)
    return start["status"], body["body"]


def run(script: Coroutine[Any, Any, Any]) -> Any:
    """Run it as a script does, and close the connection of the thread where its calls ran."""

    def close() -> None:
        connection.close()
        del connections["default"]  # which the next test has elsewhere

    async def whole() -> Any:
        try:
            return await script
        finally:
            await sync_to_async(close)()

    return asyncio.run(whole())


@pytest.fixture
def server(settings: Settings, database_file: Path) -> Iterator[AuthorizationServer]:
    settings.ROOT_URLCONF = __name__
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with AuthorizationServer() as server:
        yield server


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """The connections to the database that are opened from here on."""
    found: list[Any] = []

    def note(**said: Any) -> None:
        found.append(said["connection"])

    connection_created.connect(note)
    yield found
    connection_created.disconnect(note)


#: So many, each in a thread, which all wait for the one that registers.
LOGINS = 100 if ALL else 25


def test_many_logins_at_once_are_one_registration(
    server: AuthorizationServer, opened: list[Any]
) -> None:
    async def everybody() -> list[tuple[int, bytes]]:
        application = get_asgi_application()
        calls = [get(application, "/login", f"owner=acme&user=u{n}") for n in range(LOGINS)]
        return await asyncio.gather(*calls)

    answers = asyncio.run(everybody())
    assert answers == [(200, b'{"client_id": "client-1"}')] * LOGINS
    assert len(server.asked("registration")) == 1
    # Each in a connection of its own, none of which outlives its request.
    assert len({id(each) for each in opened}) >= LOGINS
    assert [each for each in opened if each.connection is not None] == []
    # And each in its own name.
    actors = RegistrationEvent.objects.filter(action="read").values_list("actor", flat=True)
    assert {*actors} <= {f"u{number}" for number in range(LOGINS)}
    assert len({*actors}) > 1


def test_a_request_has_one_thread_that_is_not_the_loops(server: AuthorizationServer) -> None:
    threads: dict[str, set[int]] = {}

    def note(step: str, **_others: Any) -> None:
        threads.setdefault(step, set()).add(threading.get_ident())

    exchanged.connect(note)
    try:
        status, _ = asyncio.run(get(get_asgi_application(), "/login", "owner=a&user=ann"))
    finally:
        exchanged.disconnect(note)
    assert status == 200
    [thread] = set().union(*threads.values())
    assert {*threads} == {"discover", "register", "read"}
    assert thread != threading.get_ident()


def test_the_context_goes_along(server: AuthorizationServer) -> None:
    asyncio.run(get(get_asgi_application(), "/login", "owner=a&user=ann"))
    assert {*RegistrationEvent.objects.values_list("actor", flat=True)} == {"ann"}


def test_a_cancelled_call_is_carried_out_to_its_end(server: AuthorizationServer) -> None:
    arrived, go, ended = threading.Event(), threading.Event(), threading.Event()

    def hold(step: str, **_others: Any) -> None:
        if step == "discover":  # the registration is still to come
            arrived.set()
            go.wait(600)

    def end(**_others: Any) -> None:
        ended.set()

    async def give_up() -> None:
        task = asyncio.create_task(aget_or_register("https://login.test"))
        while not arrived.is_set():
            await asyncio.sleep(0)
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    exchanged.connect(hold)
    registered.connect(end)
    try:
        run(give_up())
        assert ended.wait(600)
    finally:
        exchanged.disconnect(hold)
        registered.disconnect(end)
    assert ClientRegistration.objects.get().status == "active"


def test_outside_of_a_request_calls_run_one_after_the_other(server: AuthorizationServer) -> None:
    async def life() -> list[str]:
        rows = await asyncio.gather(*(aget_or_register("https://login.test") for _ in range(3)))
        await arevoke(rows[0])
        return [row.client_id for row in rows]

    assert run(life()) == ["client-1"] * 3
    assert server.clients == {}


@pytest.mark.parametrize("name", ASYNC)
def test_each_is_its_service_and_nothing_more(name: str) -> None:
    wrapper, service = getattr(services, name), getattr(services, name[1:])
    assert wrapper.__wrapped__ is service
    assert inspect.signature(wrapper) == inspect.signature(service)


def test_each_is_documented() -> None:
    rows = re.findall(r"(?m)^\| `(a\w+)` \| `(\w+)` \|$", PAGE)
    assert rows == [(name, name[1:]) for name in ASYNC]


def test_the_documented_views_work(
    server: AuthorizationServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DCR_CLIENT_METADATA = {"redirect_uris": ["https://shop.example/callback"]}
    views = documented("async.md", "view", server.issuer)
    library = documented("async.md", "library", server.issuer)
    views.urlpatterns = [path("client", views.client), path("login", library.log_in)]
    monkeypatch.setitem(sys.modules, views.__name__, views)
    settings.ROOT_URLCONF = views.__name__
    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
    application = get_asgi_application()
    answer = asyncio.run(get(application, "/client"))
    assert answer == (200, b'{"client_id": "client-1"}')
    assert asyncio.run(get(application, "/login"))[0] == 302
    server.switch_on("is_unreachable")
    ClientRegistration.objects.update(client_secret_expires_at=1)
    assert asyncio.run(get(application, "/client"))[0] == 503

"""Errors of somebody else's that end an exchange: no frame they pass through shows a secret."""

from __future__ import annotations

import json
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from traceback import TracebackException
from typing import Any

import pytest
import requests
from django.views.debug import ExceptionReporter

from django_dcr import transport
from django_dcr.contrib.mozilla_oidc import AuthenticationBackend
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import read, register, revoke, update
from tests import hostile
from tests.factories import client_information, make_draft, make_registration, make_server
from tests.hostile import Server

pytestmark = [pytest.mark.network, pytest.mark.django_db]

TOKEN = "S3cr3t-token"
SECRET = "S3cr3t-client"


class TimeLimitError(Exception):
    """As Celery raises it in a worker, from the handler of a signal."""


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    def handle(*_: Any) -> None:
        raise TimeLimitError

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


def exceed(server: Server, connection: socket.socket) -> None:
    """The time ends while the client waits for a response."""
    os.kill(os.getpid(), signal.SIGUSR1)
    connection.recv(1)  # until it has gone


def shown(call: Callable[[], object]) -> str:
    """Everything that pages, mails and error trackers show of the error."""
    with pytest.raises(TimeLimitError) as caught:
        call()
    reporter = ExceptionReporter(None, caught.type, caught.value, caught.tb)
    lines = TracebackException.from_exception(caught.value, capture_locals=True).format()
    return "".join([reporter.get_traceback_html(), reporter.get_traceback_text(), *lines])


def at(server: Server, settings: Any) -> AuthorizationServer:
    settings.DCR_INTERNAL_ORIGINS = [server.url]
    endpoint = f"{server.url}/register"
    metadata = {"issuer": server.url, "registration_endpoint": endpoint}
    return make_server(issuer=server.url, metadata=metadata, initial_access_token=TOKEN)


def client_of(row: AuthorizationServer, **values: Any) -> ClientRegistration:
    return make_registration(
        server=row,
        client_secret=SECRET,
        registration_access_token=TOKEN,
        registration_client_uri=f"{row.issuer}/register/c1",
        **values,
    )


@pytest.mark.parametrize("service", [register, read, update, revoke])
def test_no_step_shows_a_token_or_a_secret(service: Any, settings: Any) -> None:
    with Server(hostile.read, exceed) as server:
        row = at(server, settings)
        row.send_client_secret = True
        registration = make_draft(server=row) if service is register else client_of(row)
        text = shown(lambda: service(registration))
    assert service.__name__ in text
    for hidden in (TOKEN, SECRET):
        assert hidden not in text


def test_no_secret_in_the_body_of_an_update_is_shown(settings: Any) -> None:
    """The read before it is answered."""
    unmanaged = client_information(client_secret=SECRET, registration_client_uri=...)
    body = json.dumps(unmanaged).encode()
    answered = hostile.answer(body, "200 OK", "Connection: close")
    step = first_answered_then_exceeded(answered)
    with Server(hostile.read, step) as server:
        row = at(server, settings)
        row.send_client_secret = True
        row.save()
        registration = client_of(row)
        text = shown(lambda: update(registration))
    assert "_put" in text
    for hidden in (TOKEN, SECRET):
        assert hidden not in text


def first_answered_then_exceeded(answered: bytes) -> Callable[[Server, socket.socket], None]:
    def step(server: Server, connection: socket.socket) -> None:
        if len(server.requests) == 1:
            connection.sendall(answered)
        else:
            exceed(server, connection)

    return step


@pytest.mark.parametrize("kind", [str, bytes])
def test_no_hardened_session_shows_what_it_sends(kind: Any, settings: Any) -> None:
    with Server(hostile.read, exceed) as server:
        settings.DCR_INTERNAL_ORIGINS = [server.url]
        session = transport.harden_session(requests.Session(), server.url)
        body = f"client_secret={SECRET}"
        prepared = session.prepare_request(
            requests.Request(
                "POST",
                server.url,
                data=body if kind is str else body.encode(),
                headers={"Authorization": f"Basic {TOKEN}"},
            )
        )
        text = shown(lambda: session.send(prepared))
    for hidden in (TOKEN, SECRET):
        assert hidden not in text


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_no_exchange_of_a_code_shows_the_secret(method: str, settings: Any) -> None:
    """mozilla-django-oidc makes the body of this request itself."""
    with Server(hostile.read, exceed) as server:
        granted = {"token_endpoint_auth_method": method}
        backend = AuthenticationBackend()
        backend.registration = client_of(at(server, settings), metadata=granted)
        backend.OIDC_OP_TOKEN_ENDPOINT = f"{server.url}/token"
        text = shown(lambda: backend.get_token({"grant_type": "authorization_code"}))
    assert "get_token" in text
    assert SECRET not in text


def test_an_error_raised_while_another_is_handled_shows_no_variables(
    settings: Any,
) -> None:
    with Server(hostile.read, exceed) as server:
        settings.DCR_INTERNAL_ORIGINS = [server.url]
        with pytest.raises(TimeLimitError) as caught:
            transport.send("GET", server.url, token=TOKEN)
    assert all(
        frame.f_locals == {}
        for frame, _line in traceback.walk_tb(caught.value.__traceback__)
        if "site-packages" in frame.f_code.co_filename
    )

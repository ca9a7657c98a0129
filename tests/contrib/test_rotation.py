"""Logins while keys are rotated, at a server that keeps a client's key set for an hour."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt
import pytest
from django.core.management import call_command
from django.db import connections
from django.test import Client

from django_dcr.models import ClientKey, ClientRegistration
from django_dcr.models.clientkey import DUE_BEFORE, LIFETIME
from django_dcr.services import rotate_client_key
from tests.contrib import site_authlib
from tests.contrib.conftest import Visitor
from tests.contrib.login_server import LoginServer
from tests.factories import CALLBACK, WISHES, in_threads
from tests.test_client_keys import age

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

METHOD = {"token_endpoint_auth_method": "private_key_jwt"}
HOUR = timedelta(hours=1)


class KeepingServer:
    """What a server knows of a client's keys: it never asks again within the hour."""

    def __init__(self) -> None:
        self.age = HOUR
        self.document: dict[str, Any] = {}
        self.lock = threading.Lock()

    def fetch(self, url: str) -> dict[str, Any]:
        with self.lock:
            if self.age >= HOUR:
                try:
                    self.document = Client().get(urlsplit(url).path).json()
                finally:
                    connections.close_all()  # they are the server's thread's
                self.age = timedelta()
            return self.document


@pytest.fixture
def site(database_file: object, settings: Settings) -> None:
    settings.ROOT_URLCONF = site_authlib.__name__
    settings.DCR_CLIENT_METADATA = {**WISHES, **METHOD}


def pass_time(by: timedelta) -> None:
    for key in ClientKey.objects.all():
        age(key, by)


def log_in(server: LoginServer) -> Any:
    return Visitor().log_in(server, "customer-42").json()


def signed_with(server: LoginServer) -> set[str]:
    """The keys of the assertions that came since the last time."""
    forms = [server.forms.pop(0) for _ in range(len(server.forms))]
    return {jwt.get_unverified_header(form["client_assertion"])["kid"] for form in forms}


def all_logged_in(server: LoginServer, *others: Callable[[], Any]) -> bool:
    """Let four users log in at once, while something else is done."""
    outcomes = in_threads(*[partial(log_in, server)] * 4, *others)
    return outcomes[:4] == [{"sub": "jane"}] * 4


def rotate() -> None:
    call_command("dcr_client_keys", "--rotate")


def test_no_login_is_refused_while_keys_are_rotated(
    login_server: LoginServer, site: None, settings: Settings
) -> None:
    """R-184: neither before, nor while, nor after the next key takes over."""
    settings.DCR_BASE_URL = "https://site.example"
    keeper = KeepingServer()
    login_server.logins.fetch = keeper.fetch
    rotate()
    first = ClientKey.objects.get()
    assert all_logged_in(login_server)
    assert signed_with(login_server) == {first.kid}

    # Closely around the moments at which the next key is due, and takes over: the server fetches
    # the keys ten minutes before each.
    before, around, day = HOUR * 7 / 6, [HOUR / 3] * 6, timedelta(days=1)
    begin, between = LIFETIME - DUE_BEFORE - before, day - 5 * HOUR / 6 - before
    seen = []
    for step in [begin, *around, *[day] * 6, between, *around, 40 * day]:
        pass_time(step)
        keeper.age += step
        assert all_logged_in(login_server, rotate, rotate)
        seen.append(signed_with(login_server))
    second = ClientKey.objects.get(number=2)
    assert ClientKey.objects.count() == 2
    assert {first.kid} in seen
    assert seen[-1] == {second.kid}
    assert login_server.asked("PUT") == 0


def test_a_server_that_holds_the_keys_is_told_while_users_log_in(
    login_server: LoginServer, site: None
) -> None:
    """R-184."""
    rotate()
    first = ClientKey.objects.get()
    assert all_logged_in(login_server)
    pass_time(LIFETIME - DUE_BEFORE)
    signed_with(login_server)
    assert all_logged_in(login_server, rotate, rotate)
    second = ClientKey.objects.get(number=2)
    assert signed_with(login_server) == {first.kid}
    (client,) = login_server.clients.values()
    assert [key["kid"] for key in client["jwks"]["keys"]] == [first.kid, second.kid]
    pass_time(DUE_BEFORE)
    assert all_logged_in(login_server, rotate)
    assert signed_with(login_server) == {second.kid}


def test_a_secret_gives_way_to_a_key_while_a_user_logs_in(
    login_server: LoginServer, site: None, settings: Settings
) -> None:
    settings.DCR_CLIENT_METADATA = WISHES
    visitor = Visitor()
    began = login_server.log_in(visitor.begin(login_server.issuer, "o", CALLBACK))
    rotate_client_key()
    pk = str(ClientRegistration.objects.get().pk)
    call_command("dcr_update", pk, "--set", "token_endpoint_auth_method=private_key_jwt")
    assert visitor.end(began).json() == {"sub": "jane"}
    assert "client_assertion" in login_server.forms[0]

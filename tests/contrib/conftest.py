from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client

from example_project.https_site import HttpsSite
from tests.contrib.live_server import serve_openid
from tests.contrib.login_server import LoginServer
from tests.contrib.openid_server import OpenIDServer
from tests.factories import CALLBACK, WISHES
from tests.live.server import Server

if TYPE_CHECKING:
    from pytest_django import Settings


class Visitor:
    """Someone's browser, on a site whose page ``/login`` sends it to an authorization server."""

    def __init__(self, site: str = "") -> None:
        self.client = Client()
        self.site = site

    def begin(self, issuer: str, owner: str = "", callback: str = CALLBACK) -> str:
        """Ask to log in; return the authorization URL that this leads to."""
        query = {"issuer": issuer, "owner": owner, "callback": callback}
        answer = self.client.get(f"{self.site}/login", query)
        assert answer.status_code == 302, answer.content
        return str(answer.headers["Location"])

    def end(self, url: str, page: str = "/callback", **changes: str | None) -> HttpResponse:
        """Come back by ``url``, with parameters changed, or taken away by None."""
        changed = {**self.parameters(url), **changes}
        query = urlencode({name: value for name, value in changed.items() if value is not None})
        return self.client.get(f"{self.site}{page}?{query}")

    @staticmethod
    def parameters(url: str) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(url).query))

    def log_in(self, server: LoginServer, owner: str = "") -> HttpResponse:
        """Go all the way."""
        return self.end(server.log_in(self.begin(server.issuer, owner)))


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


@pytest.fixture
def login_server(settings: Settings) -> Iterator[LoginServer]:
    """A server on a loopback socket where people can log in."""
    with LoginServer() as server:
        settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
        settings.DCR_CLIENT_METADATA = dict(WISHES)
        yield server


@pytest.fixture
def other_server(login_server: LoginServer) -> Iterator[LoginServer]:
    with LoginServer() as server:
        yield server


@pytest.fixture
def server() -> Iterator[OpenIDServer]:
    with OpenIDServer() as server:
        yield server


@pytest.fixture
def another_server() -> Iterator[OpenIDServer]:
    with OpenIDServer() as server:
        yield server


@pytest.fixture(scope="session")
def real_server(
    tmp_path_factory: pytest.TempPathFactory, https_site: HttpsSite
) -> Iterator[Server]:
    """django-oauth-toolkit, in a process of its own."""
    with serve_openid(tmp_path_factory.mktemp("server"), https_site.certificate) as server:
        yield server

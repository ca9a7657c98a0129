"""The whole life of a client, at a real authorization server in a process of its own.

The databases are files: one in memory would hide a transaction that is open while HTTP goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from django_dcr import services
from django_dcr.exceptions import RegistrationGoneError, RequestRejectedError, UnsupportedError
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.conftest import stored_in
from tests.live.server import Server, make_tables, require, serve

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker, Settings

pytestmark = pytest.mark.network

METADATA = {"client_name": "Shop", "redirect_uris": ["https://shop.example/callback"]}
TOKEN = "good-for-registering"


@pytest.fixture(scope="session")
def server_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with a server's tables, to copy."""
    require()
    file = tmp_path_factory.mktemp("server") / "empty.sqlite3"
    make_tables(file)
    return file


@pytest.fixture(scope="session")
def open_server(server_tables: Path) -> Iterator[Server]:
    """A server where anyone may register."""
    file = shutil.copy(server_tables, server_tables.with_name("open.sqlite3"))
    with serve(file, permission="AllowAllDCRPermission") as server:
        yield server


@pytest.fixture(scope="session")
def closed_server(server_tables: Path) -> Iterator[Server]:
    """A server where one needs an initial access token to register."""
    file = shutil.copy(server_tables, server_tables.with_name("closed.sqlite3"))
    with serve(file, permission="IsAuthenticatedDCRPermission") as server:
        yield server


@pytest.fixture
def own(migrated: Path, tmp_path: Path) -> Path:
    """A database file of the client's own."""
    return Path(shutil.copy(migrated, tmp_path / "client.sqlite3"))


@contextmanager
def client_of(
    server: Server, database: Path, settings: Settings, blocker: DjangoDbBlocker
) -> Iterator[Server]:
    """Make this process a client of the server, which knows nobody."""
    server.empty()
    settings.DCR_INTERNAL_ORIGINS = [server.issuer]
    settings.DCR_CLIENT_METADATA = METADATA
    with stored_in(database, blocker):
        if database == server.database:
            call_command("migrate", verbosity=0)
        yield server


@pytest.fixture
def server(
    open_server: Server, own: Path, settings: Settings, django_db_blocker: DjangoDbBlocker
) -> Iterator[Server]:
    """An open server that knows nobody, with a database of its own."""
    with client_of(open_server, own, settings, django_db_blocker) as server:
        yield server


@pytest.fixture
def any_server(
    request: pytest.FixtureRequest,
    open_server: Server,
    own: Path,
    settings: Settings,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Server]:
    """The same, and once more in one database with the client, as in the example project."""
    database = own if request.param == "two databases" else open_server.database
    with client_of(open_server, database, settings, django_db_blocker) as server:
        yield server


class Python:
    """The life from a site's own code."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def discover(self) -> None:
        services.discover(AuthorizationServer.objects.for_issuer(self.issuer))

    def register(self) -> None:
        services.get_or_register(self.issuer)

    def read(self) -> None:
        services.read(ClientRegistration.objects.get())

    def update(self, **wishes: Any) -> None:
        registration = ClientRegistration.objects.get()
        registration.requested_metadata = wishes
        services.update(registration)

    def renew(self) -> str:
        """Return why the server did not do it."""
        with pytest.raises(UnsupportedError) as caught:
            services.renew(ClientRegistration.objects.get())
        return str(caught.value)

    def revoke(self) -> None:
        services.revoke(ClientRegistration.objects.get())


class Commands:
    """The life from a terminal."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def discover(self) -> None:
        self._run("dcr_discover", self.issuer)

    def register(self) -> None:
        self._run("dcr_register", self.issuer)

    def read(self) -> None:
        self._run("dcr_read", "--issuer", self.issuer)

    def update(self, **wishes: str) -> None:
        changes = [f"--set={name}={value}" for name, value in wishes.items()]
        self._run("dcr_update", "--issuer", self.issuer, *changes)

    def renew(self) -> str:
        with pytest.raises(CommandError) as caught:
            self._run("dcr_renew", "--issuer", self.issuer)
        return str(caught.value)

    def revoke(self) -> None:
        self._run("dcr_revoke", "--issuer", self.issuer)

    def _run(self, *arguments: str) -> None:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO())


class Admin:
    """The life by clicks."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.browser = Client()
        self.browser.force_login(User.objects.create_superuser("admin"))

    def discover(self) -> None:
        said = self._submit(
            "authorizationserver/add/",
            issuer=self.issuer,
            enabled="on",
            client_metadata="{}",
            trusted_origins="[]",
        )
        assert "Fetched the server's metadata." in said

    def register(self) -> None:
        server = AuthorizationServer.objects.get()
        self._submit("clientregistration/add/", server=server.pk, requested_metadata="{}")
        assert "Registered at the server." in self._act("register")

    def read(self) -> None:
        assert "Read from the server." in self._act("read")

    def update(self, **wishes: str) -> None:
        row = ClientRegistration.objects.get()
        self._submit(f"clientregistration/{row.pk}/change/", requested_metadata=json.dumps(wishes))
        assert "Updated at the server." in self._act("update")

    def renew(self) -> str:
        return self._act("renew")

    def revoke(self) -> None:
        assert "the server no longer has this client" in self._act("revoke")

    def _act(self, name: str) -> str:
        """Choose an action, and say yes on the page that asks."""
        page = self._post("clientregistration/", {"action": name, **self._negotiated()})
        hidden = re.findall(
            r'<input type="hidden" name="(\w+)" value="(\w+)"', page.content.decode()
        )
        return self._submit("clientregistration/", **dict(hidden))

    def _negotiated(self) -> dict[str, int]:
        return {ACTION_CHECKBOX_NAME: ClientRegistration.objects.get().pk}

    def _submit(self, page: str, **fields: Any) -> str:
        """Send a form; return what the next page tells."""
        return self._messages(self._post(page, fields))

    def _post(self, page: str, fields: dict[str, Any]) -> Any:
        response = self.browser.post(f"/admin/django_dcr/{page}", fields, follow=True)
        assert response.status_code == 200
        return response

    def _messages(self, response: Any) -> str:
        return " ".join(map(str, response.context["messages"]))


Way = type[Python] | type[Commands] | type[Admin]


def digest(registration: ClientRegistration) -> str:
    """The SHA-256 of the registration access token, which is all that the server keeps of it."""
    assert registration.registration_access_token
    return hashlib.sha256(registration.registration_access_token.reveal().encode()).hexdigest()


@pytest.mark.parametrize(
    ("any_server", "way"),
    [
        ("two databases", Python),
        ("two databases", Commands),
        ("two databases", Admin),
        ("one database", Python),
    ],
    ids=lambda value: getattr(value, "__name__", value),
    indirect=["any_server"],
)
def test_a_client_lives_from_discovery_to_deletion(any_server: Server, way: Way) -> None:
    server, this = any_server, way(any_server.issuer)
    this.discover()
    assert AuthorizationServer.objects.get().metadata["issuer"] == server.issuer
    assert server.clients() == []

    this.register()
    row = ClientRegistration.objects.get()
    [client] = server.clients()
    assert (row.status, row.client_id) == ("active", client["client_id"])
    assert (client["name"], client["redirect_uris"]) == ("Shop", *METADATA["redirect_uris"])
    secret = row.client_secret.reveal()
    assert check_password(secret, client["client_secret"])
    assert server.tokens() == [digest(row)]

    server.rename("Renamed by its operator")
    this.read()
    row.refresh_from_db()
    assert row.metadata["client_name"] == "Renamed by its operator"
    assert row.drift["client_name"] == {"asked": "Shop", "granted": "Renamed by its operator"}

    before = server.tokens()
    this.update(client_name="Shop and café")
    [client] = server.clients()
    assert client["name"] == "Shop and café"
    row.refresh_from_db()
    assert "client_name" not in row.drift
    assert row.client_secret.reveal() == secret
    assert server.tokens() == [digest(row)] != before

    before = server.tokens()
    assert "issued no new secret" in this.renew()
    row.refresh_from_db()
    assert (row.status, row.client_secret.reveal()) == ("active", secret)
    assert server.tokens() == [digest(row)] != before  # the attempt turned the token
    this.read()

    this.revoke()
    assert (server.clients(), server.tokens()) == ([], [])
    row.refresh_from_db()
    assert (row.status, row.client_secret, row.registration_access_token) == ("revoked", None, None)


def test_no_credential_is_in_clear_in_the_database_file(server: Server, own: Path) -> None:
    row = services.get_or_register(server.issuer)
    connections["default"].close()
    stored = own.read_bytes()
    assert row.client_id.encode() in stored
    assert row.client_secret.reveal().encode() not in stored
    assert row.registration_access_token.reveal().encode() not in stored


def test_the_credentials_open_the_token_endpoint(server: Server) -> None:
    wishes = {"grant_types": ["client_credentials"], "redirect_uris": None}
    row = services.get_or_register(server.issuer, metadata=wishes)
    headers, parameters = row.client_authentication()
    answer = requests.post(
        row.server.metadata["token_endpoint"],
        headers=headers,
        data={"grant_type": "client_credentials", **parameters},
        timeout=600,
    )
    assert answer.status_code == 200
    assert answer.json()["access_token"]


def test_an_initial_access_token_opens_a_closed_server(
    closed_server: Server, own: Path, settings: Settings, django_db_blocker: DjangoDbBlocker
) -> None:
    with client_of(closed_server, own, settings, django_db_blocker) as server:
        with pytest.raises(RequestRejectedError, match="wants an initial access token") as caught:
            services.get_or_register(server.issuer)
        assert (caught.value.status, caught.value.error) == (401, "access_denied")
        row = ClientRegistration.objects.get()
        assert (row.status, server.clients()) == ("rejected", [])

        server.admit(TOKEN)
        services.register(row, initial_access_token=TOKEN)
        assert [client["client_id"] for client in server.clients()] == [row.client_id]
        assert TOKEN.encode() not in own.read_bytes()

        row.server.initial_access_token = TOKEN
        row.server.save()
        other = services.get_or_register(server.issuer, "a customer")
        assert len(server.clients()) == 2
        services.revoke(row)
        services.revoke(other)
        assert (server.clients(), server.tokens()) == ([], [])


def test_a_wrong_token_is_told_apart_from_a_deletion_by_nobody(server: Server) -> None:
    """Fault 48: after 401 the client may live on, so the row stays until a person closes it."""
    row = services.get_or_register(server.issuer)
    row.registration_access_token = "wrong"
    row.save()
    with pytest.raises(RegistrationGoneError, match="refuses this registration's token"):
        services.read(row)
    row.refresh_from_db()
    assert (row.status, row.registration_access_token.reveal()) == ("gone", "wrong")
    assert [client["client_id"] for client in server.clients()] == [row.client_id]

    services.revoke(row, forget=True)
    assert (row.status, row.client_secret) == ("revoked", None)
    assert "may still hold the client" in row.last_error


@pytest.mark.parametrize("service", [services.read, services.update, services.renew])
def test_a_client_deleted_behind_our_back_is_gone(server: Server, service: Any) -> None:
    """Fault 129."""
    row = services.get_or_register(server.issuer)
    server.forget()
    with pytest.raises(RegistrationGoneError, match="has forgotten the client"):
        service(row)
    row.refresh_from_db()
    assert row.status == "gone"
    assert server.clients() == []

    call_command("dcr_reconcile", "--retry", str(row.pk), stdout=StringIO(), stderr=StringIO())
    successor = services.get_or_register(server.issuer)
    assert successor.pk != row.pk
    assert [client["client_id"] for client in server.clients()] == [successor.client_id]


def test_revoking_what_was_deleted_already_needs_a_persons_word(server: Server) -> None:
    """R-105: 401 may also mean that only the token is dead."""
    row = services.get_or_register(server.issuer)
    server.forget()
    with pytest.raises(RegistrationGoneError):
        services.revoke(row)
    assert row.status == "gone"
    services.revoke(row, forget=True)
    assert row.status == "revoked"


def connect(request: HttpRequest, issuer: str) -> HttpResponse:
    return HttpResponse(services.get_or_register(issuer).client_id)


@transaction.non_atomic_requests
def connect_outside(request: HttpRequest, issuer: str) -> HttpResponse:
    return connect(request, issuer)


urlpatterns = [
    path("connect/<path:issuer>", connect),
    path("connect-outside/<path:issuer>", connect_outside),
]


def test_atomic_requests_are_refused_before_anything_is_sent(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault L5."""
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    site = Client(raise_request_exception=False)
    refused = site.get(f"/connect/{server.issuer}")
    assert refused.status_code == 500
    assert "non_atomic_requests" in str(refused.exc_info[1])
    assert server.clients() == []
    assert not ClientRegistration.objects.exists()

    assert site.get(f"/connect-outside/{server.issuer}").status_code == 200
    row = ClientRegistration.objects.get()
    assert [client["client_id"] for client in server.clients()] == [row.client_id]
    # A hit only reads, and so works anywhere.
    assert site.get(f"/connect/{server.issuer}").content.decode() == row.client_id


def test_the_admin_works_under_atomic_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    this = Admin(server.issuer)
    this.discover()
    this.register()
    assert [client["name"] for client in server.clients()] == ["Shop"]
    this.update(client_name="Shop and café")
    assert [client["name"] for client in server.clients()] == ["Shop and café"]
    this.revoke()
    assert server.clients() == []


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)]
)
def test_without_a_server_to_test_against_nothing_passes_quietly(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setitem(sys.modules, "oauth2_provider", None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="NOTHING WAS TESTED AGAINST A REAL SERVER"):
        require()

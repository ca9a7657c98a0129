"""One server, its documents, rows as the services leave them, and threads that meet there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import connections
from django.utils import timezone

from django_dcr.exceptions import DCRError
from django_dcr.models import AuthorizationServer, ClientRegistration, RegistrationEvent
from tests.authorization_server import AuthorizationServer as FakeServer

ISSUER = "https://as.example/tenant"
WELL_KNOWN = "https://as.example/.well-known/oauth-authorization-server/tenant"
WELL_KNOWN_OPENID = "https://as.example/.well-known/openid-configuration/tenant"
APPENDED_OPENID = "https://as.example/tenant/.well-known/openid-configuration"
ENDPOINT = "https://as.example/register"
URI = "https://as.example/register/c1"
CALLBACK = "https://site.example/callback"

#: What a site asks for.
WISHES = {"client_name": "Shop", "redirect_uris": [CALLBACK]}
#: What a server then grants.
GRANTED = {**WISHES, "token_endpoint_auth_method": "client_secret_basic"}


def server_metadata(**changes: Any) -> dict[str, Any]:
    """A discovery document."""
    return {"issuer": ISSUER, "registration_endpoint": ENDPOINT, **changes}


def client_information(**changes: Any) -> dict[str, Any]:
    """A server's answer about a client; a member of value ``...`` is left out."""
    document = {
        "client_id": "c1",
        "client_secret": "s1",
        "client_secret_expires_at": 0,
        "registration_client_uri": URI,
        "registration_access_token": "t1",
        **GRANTED,
        **changes,
    }
    return {name: value for name, value in document.items() if value is not ...}


def make_server(**values: Any) -> AuthorizationServer:
    """A saved server whose metadata is fresh."""
    fresh = {
        "issuer": ISSUER,
        "metadata": server_metadata(),
        "metadata_url": WELL_KNOWN,
        "fresh_until": timezone.now() + timedelta(hours=1),
    }
    return AuthorizationServer.objects.create(**{**fresh, **values})


def make_draft(**values: Any) -> ClientRegistration:
    """A saved registration that was never sent."""
    wishes = {"requested_metadata": WISHES, "server": values.pop("server", None) or make_server()}
    return ClientRegistration.objects.create(**{**wishes, **values})


def make_registration(**values: Any) -> ClientRegistration:
    """A saved registration that is active."""
    issued = {
        "status": "active",
        "metadata": GRANTED,
        "client_id": "c1",
        "client_secret": "s1",
        "client_secret_expires_at": 0,
        "registration_client_uri": URI,
        "registration_access_token": "t1",
    }
    return make_draft(**{**issued, **values})


def make_registration_at(server: FakeServer, **values: Any) -> ClientRegistration:
    """A saved registration that the server on a loopback socket knows."""
    issued = server.register(dict(GRANTED))
    row = AuthorizationServer.objects.filter(issuer=server.issuer).first() or make_server(
        issuer=server.issuer, metadata=server.metadata()
    )
    names = (
        "client_id",
        "client_secret",
        "client_secret_expires_at",
        "registration_client_uri",
        "registration_access_token",
    )
    return make_registration(server=row, **{**{name: issued[name] for name in names}, **values})


def events_of(registration: ClientRegistration) -> list[RegistrationEvent]:
    """The events of the stored row, the oldest first."""
    return list(RegistrationEvent.objects.filter(registration=registration).order_by("pk"))


def stored(registration: ClientRegistration) -> ClientRegistration:
    """The row as another process finds it."""
    return ClientRegistration.objects.get(pk=registration.pk)


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Make all calls at once, each with a connection of its own; return results and errors."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except DCRError as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))

"""One server, its documents, and rows as the services leave them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_dcr.models import AuthorizationServer, ClientRegistration

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


def stored(registration: ClientRegistration) -> ClientRegistration:
    """The row as another process finds it."""
    return ClientRegistration.objects.get(pk=registration.pk)

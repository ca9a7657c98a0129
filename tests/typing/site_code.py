"""What a site writes, as type checkers see it; nothing here is run.

``make types`` checks this with mypy, with the plug-in of django-stubs and without it, and with
pyright.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type

from django_dcr.fields import Secret
from django_dcr.models import (
    AuthorizationServer,
    ClientRegistration,
    ClientRegistrationQuerySet,
    ProtectedResource,
)
from django_dcr.services import aget_or_register, get_or_register, get_or_register_for, scopes_for

ISSUER = "https://as.example"


def rows() -> None:
    assert_type(ClientRegistration.objects.live(), ClientRegistrationQuerySet)
    assert_type(ClientRegistration.objects.for_key(ISSUER, "acme"), ClientRegistrationQuerySet)
    found = ClientRegistration.objects.active().for_key(ISSUER).live().first()
    assert_type(found, ClientRegistration | None)
    assert_type(ClientRegistration.objects.get(pk=1), ClientRegistration)
    assert_type(AuthorizationServer.objects.for_issuer(ISSUER), AuthorizationServer)
    assert_type(ProtectedResource.objects.for_resource(ISSUER), ProtectedResource)


def columns() -> None:
    registration = get_or_register(ISSUER, "acme")
    assert_type(registration, ClientRegistration)
    assert_type(registration.client_secret, Secret | None)
    if registration.client_secret is not None:
        assert_type(registration.client_secret.reveal(), str)
    assert_type(registration.registration_access_token, Secret | None)
    assert_type(registration.metadata, dict[str, Any])
    assert_type(registration.server, AuthorizationServer)
    assert_type(registration.server.metadata, dict[str, Any])
    assert_type(registration.server.initial_access_token, Secret | None)
    registration.server.initial_access_token = "from a file"


def resources() -> None:
    assert_type(get_or_register_for(ISSUER, challenge=["Bearer"]), ClientRegistration)
    resource = ProtectedResource.objects.get(pk=1)
    assert_type(resource.metadata, dict[str, Any])
    assert_type(resource.servers, dict[str, str])
    assert_type(scopes_for(resource.metadata, requested=["read"]), str)


if TYPE_CHECKING:
    ClientRegistration.objects.nothing_of_that_name()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def async_views() -> None:
    assert_type(await aget_or_register(ISSUER, "acme", metadata={}), ClientRegistration)

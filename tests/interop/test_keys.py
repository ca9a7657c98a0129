"""Clients that sign, at real servers: registration, key rotation, and a change of method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command

from django_dcr import services
from django_dcr.models import ClientKey, ClientRegistration
from django_dcr.models.clientkey import DUE_BEFORE, LIFETIME, signing_key
from example_project.https_site import HttpsSite
from tests.interop import oidc_provider
from tests.interop.keycloak import Keycloak
from tests.interop.life import METADATA, discover, registered, tokens
from tests.interop.server import Server
from tests.test_client_keys import age

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

METHOD = {"token_endpoint_auth_method": "private_key_jwt"}
ALGORITHMS = ["ES256", "EdDSA", "PS256", "RS256"]


@pytest.fixture(autouse=True)
def _site(database_file: Path, settings: Settings) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    settings.DCR_CLIENT_METADATA = METADATA
    settings.DCR_MECHANISMS = ["dynamic"]
    for algorithm in ALGORITHMS:
        services.rotate_client_key(algorithm=algorithm)


def signing(server: Server, owner: str, algorithm: str = "") -> ClientRegistration:
    chosen = {"token_endpoint_auth_signing_alg": algorithm} if algorithm else {}
    return services.get_or_register(server.issuer, owner, metadata={**METHOD, **chosen})


def logs_in(server: Server, row: ClientRegistration) -> bool:
    issued = tokens(server, row)
    assert "access_token" in issued, issued
    return True


def life_with_keys(server: Server) -> None:
    discover(server)
    for algorithm in ALGORITHMS:
        row = signing(server, algorithm, algorithm)
        assert row.metadata["token_endpoint_auth_signing_alg"] == algorithm
        assert logs_in(server, row)
    for audience in ("token_endpoint", "issuer"):
        for typ in ("JWT", "", "client-authentication+jwt"):
            row.server.assertion_audience, row.server.assertion_typ = audience, typ
            assert logs_in(server, row)
    rotated(server)
    switched(server)


def rotated(server: Server) -> None:
    """An update sends the next key; the server accepts both for a week, then the next."""
    row = signing(server, "rotated")
    old = ClientKey.objects.get(algorithm="ES256")
    age(old, LIFETIME - DUE_BEFORE)
    call_command("dcr_client_keys", "--rotate")
    row = signing(server, "rotated")
    new = ClientKey.objects.get(algorithm="ES256", number=2)
    assert [key["kid"] for key in row.metadata["jwks"]["keys"]].count(new.kid) == 1
    assert logs_in(server, row)
    age(new, DUE_BEFORE)
    assert new.state == "signing"
    assert logs_in(server, row)


def life_with_an_address(server: Server, site: HttpsSite, settings: Settings) -> None:
    """The server fetches the keys, so a rotation sends it nothing."""
    settings.DCR_BASE_URL, settings.DCR_CA_BUNDLE = site.origin, str(site.certificate)
    discover(server)
    row = signing(server, "fetched")
    assert row.metadata["jwks_uri"] == f"{site.origin}/oauth/jwks.json"
    assert "jwks" not in row.metadata
    assert logs_in(server, row)
    age(ClientKey.objects.get(algorithm="ES256"), LIFETIME - DUE_BEFORE)
    call_command("dcr_client_keys", "--rotate")
    assert logs_in(server, row)
    new = ClientKey.objects.get(algorithm="ES256", number=2)
    age(new, DUE_BEFORE)
    server.pass_time(row.client_id, DUE_BEFORE)
    assert signing_key(row) == new
    assert logs_in(server, row)
    row.refresh_from_db()
    assert [event.action for event in row.events.all()] == ["register"]


def switched(server: Server) -> None:
    """From a secret to a key by an update, and back."""
    row = registered(server, "switched")
    assert not row.signs
    assert logs_in(server, row)
    row.requested_metadata = METHOD
    assert services.update(row).signs
    assert logs_in(server, row)


def test_clients_sign_at_oidc_provider(tmp_path: Path, https_site: HttpsSite) -> None:
    with oidc_provider.serve("plain", tmp_path, https_site.certificate) as server:
        life_with_keys(server)


def test_oidc_provider_fetches_the_keys(
    tmp_path: Path, https_site: HttpsSite, settings: Settings
) -> None:
    with oidc_provider.serve("plain", tmp_path, https_site.certificate) as server:
        life_with_an_address(server, https_site, settings)


def test_clients_sign_at_keycloak(running_keycloak: Keycloak) -> None:
    life_with_keys(running_keycloak.realm("anonymous", "keys by value"))


def test_keycloak_fetches_the_keys(
    running_keycloak: Keycloak, https_site: HttpsSite, settings: Settings
) -> None:
    life_with_an_address(
        running_keycloak.realm("anonymous", "keys by address"), https_site, settings
    )

"""Probing real servers with a valid client, a wrong secret and an unknown client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_dcr import services
from django_dcr.models import ClientRegistration
from example_project.https_site import HttpsSite
from tests.interop import django_oauth_toolkit, mcp_sdk, oidc_provider
from tests.interop.keycloak import Keycloak
from tests.interop.life import METADATA, discover, registered
from tests.interop.server import Server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _site(database_file: Path, settings: Settings) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    settings.DCR_CLIENT_METADATA = METADATA
    settings.DCR_MECHANISMS = ["dynamic"]


def probed(row: ClientRegistration) -> tuple[bool | None, bool | None]:
    found = services.probe(row)
    return found.credentials_accepted, found.client_known


def tells(server: Server) -> tuple[bool | None, bool | None]:
    """Probe a client in each condition; return the finding for a deleted one."""
    discover(server)
    row = registered(server)
    assert probed(row) == (True, True)
    secret, row.client_secret = row.client_secret, "wrong"
    row.save()
    row.refresh_from_db()
    assert probed(row) == (False, True)
    row.client_secret = secret
    row.save()
    assert probed(row) == (True, True)
    server.forget(row.client_id)
    return probed(row)


def test_django_oauth_toolkit_reveals_wrong_credentials(
    tmp_path: Path, https_site: HttpsSite
) -> None:
    """Its authorization endpoint fails with 500 for an unknown client and prompt=none."""
    with django_oauth_toolkit.serve("open", tmp_path, https_site.certificate) as server:
        assert tells(server) == (False, None)


def test_oidc_provider_reveals_unknown_clients(tmp_path: Path, https_site: HttpsSite) -> None:
    with oidc_provider.serve("plain", tmp_path, https_site.certificate) as server:
        assert tells(server) == (False, False)


def test_the_mcp_sdk_reveals_unknown_clients(tmp_path: Path) -> None:
    with mcp_sdk.serve("trailing-slash issuer", tmp_path) as server:
        assert tells(server) == (False, False)


def test_keycloak_reveals_unknown_clients(running_keycloak: Keycloak) -> None:
    assert tells(running_keycloak.realm("anonymous", "probed")) == (False, False)

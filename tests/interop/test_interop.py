"""The whole life of a client at real servers, each in its own process on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_dcr import services
from example_project.https_site import HttpsSite
from tests.interop import django_oauth_toolkit, keycloak, mcp_sdk, oidc_provider
from tests.interop.life import METADATA, discover, life, registered, tokens
from tests.interop.report import Table

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _site(database_file: Path, https_site: HttpsSite, settings: Settings) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1", https_site.origin]
    settings.DCR_CLIENT_METADATA = METADATA
    settings.DCR_MECHANISMS = ["dynamic"]
    settings.DCR_BASE_URL = https_site.origin
    settings.DCR_CA_BUNDLE = str(https_site.certificate)
    services.rotate_client_key()


@pytest.mark.parametrize("variant", django_oauth_toolkit.VARIANTS)
def test_every_step_at_django_oauth_toolkit(
    variant: str, table: Table, tmp_path: Path, https_site: HttpsSite
) -> None:
    with django_oauth_toolkit.serve(variant, tmp_path, https_site.certificate) as server:
        table.add(server, life(server))


@pytest.mark.parametrize("variant", oidc_provider.VARIANTS)
def test_every_step_at_oidc_provider(
    variant: str, table: Table, tmp_path: Path, https_site: HttpsSite
) -> None:
    with oidc_provider.serve(variant, tmp_path, https_site.certificate) as server:
        table.add(server, life(server))


@pytest.mark.parametrize("variant", mcp_sdk.VARIANTS)
def test_every_step_at_the_mcp_sdk(variant: str, table: Table, tmp_path: Path) -> None:
    with mcp_sdk.serve(variant, tmp_path) as server:
        table.add(server, life(server))


def test_the_mcp_sdk_requires_the_client_id_in_the_form(tmp_path: Path) -> None:
    """Once this fails, the setting in docs/servers.md is no longer needed."""
    with mcp_sdk.serve("trailing-slash issuer", tmp_path) as server:
        server.client_metadata = {}
        discover(server)
        row = registered(server)
        assert row.metadata["token_endpoint_auth_method"] == "client_secret_basic"
        assert tokens(server, row)["error_description"] == "Missing client_id"


@pytest.mark.parametrize("variant", keycloak.VARIANTS)
def test_every_step_at_keycloak(
    variant: str, table: Table, running_keycloak: keycloak.Keycloak
) -> None:
    realm = running_keycloak.realm(variant)
    table.add(realm, life(realm))

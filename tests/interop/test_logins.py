"""Logins through each library at oidc-provider, with clients that sign, and with documents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_dcr import services
from example_project.https_site import HttpsSite
from tests.contrib.libraries import LIBRARIES, Library
from tests.interop import oidc_provider
from tests.interop.server import PERSON, ControlledServer, browse

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, https_site: HttpsSite
) -> Iterator[ControlledServer]:
    folder = tmp_path_factory.mktemp("oidc-provider")
    with oidc_provider.serve("plain", folder, https_site.certificate) as server:
        yield server


@pytest.fixture(params=LIBRARIES)
def library(
    request: pytest.FixtureRequest,
    server: ControlledServer,
    database_file: Path,
    https_site: HttpsSite,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Library:
    settings.DCR_BASE_URL, settings.DCR_CA_BUNDLE = https_site.origin, str(https_site.certificate)
    settings.DCR_INTERNAL_ORIGINS = [server.issuer, https_site.origin]
    services.rotate_client_key()
    found = LIBRARIES[request.param]
    found.set_up(settings, monkeypatch, server.issuer)
    return found


@pytest.mark.parametrize("mechanism", ["dynamic", "metadata_document"])
@pytest.mark.parametrize("method", ["private_key_jwt", "none"])
def test_a_user_logs_in(
    library: Library, server: ControlledServer, settings: Settings, mechanism: str, method: str
) -> None:
    settings.DCR_MECHANISMS = [mechanism]
    # The server caches documents and keys: another SECRET_KEY gives them another URL.
    settings.SECRET_KEY = f"{library} {method}"
    settings.DCR_CLIENT_METADATA = {
        **settings.DCR_CLIENT_METADATA,
        "token_endpoint_auth_method": method,
    }
    registration = services.get_or_register(server.issuer)
    assert registration.mechanism == mechanism
    assert registration.authentication_method == method
    [callback] = registration.metadata["redirect_uris"]
    assert library.logs_in(registration, partial(browse, answers=PERSON, callback=callback))

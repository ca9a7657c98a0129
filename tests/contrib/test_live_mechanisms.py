"""Logins through each library, with a client of each mechanism, at django-oauth-toolkit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_dcr import services
from django_dcr.models import AuthorizationServer
from example_project.https_site import HttpsSite
from tests.contrib.libraries import LIBRARIES, Library
from tests.contrib.live_server import consent
from tests.live.server import Server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

REGISTER = """
from oauth2_provider.models import Application
Application.objects.create(
    name="Shop", client_id="{client_id}", client_secret="{secret}", redirect_uris="{uri}",
    client_type="confidential", authorization_grant_type="authorization-code", algorithm="RS256",
)
"""


@pytest.fixture(params=LIBRARIES)
def library(
    request: pytest.FixtureRequest,
    real_server: Server,
    database_file: Path,
    https_site: HttpsSite,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Library:
    real_server.forget()  # it keeps a document for five minutes, and each site has another one
    settings.DCR_BASE_URL, settings.DCR_CA_BUNDLE = https_site.origin, str(https_site.certificate)
    settings.DCR_INTERNAL_ORIGINS = [real_server.issuer, https_site.origin]
    # Of its two documents the first that is looked for has no userinfo_endpoint.
    server = AuthorizationServer.objects.for_issuer(real_server.issuer)
    server.discovery_url = f"{real_server.issuer}/.well-known/openid-configuration"
    server.save()
    found = LIBRARIES[request.param]
    found.set_up(settings, monkeypatch, real_server.issuer)
    return found


def test_a_user_logs_in_with_a_metadata_document_at_a_real_server(
    library: Library, real_server: Server
) -> None:
    registration = services.get_or_register(real_server.issuer)
    assert registration.mechanism == "metadata_document"
    assert library.logs_in(registration, partial(consent, real_server))
    there = {client["client_id"]: client for client in real_server.clients()}
    assert there[registration.client_id]["registration_source"] == "cimd"


def test_a_user_logs_in_with_an_adopted_client_at_a_real_server(
    library: Library, real_server: Server, request: pytest.FixtureRequest
) -> None:
    client_id = f"adopted {request.node.callspec.id}".replace(" ", "-")
    uri = library.redirect_uri(real_server.issuer)
    real_server.run(REGISTER.format(client_id=client_id, secret="from a console", uri=uri))
    registration = services.adopt(
        real_server.issuer,
        client_id=client_id,
        client_secret=" from a console\n",
        metadata={"redirect_uris": [uri], "scope": "openid"},
    )
    assert library.logs_in(registration, partial(consent, real_server))
    assert registration.mechanism == "pre_registered"

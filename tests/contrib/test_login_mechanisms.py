"""Logins with clients that were not registered by the site: adopted ones, and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_dcr import services
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.contrib.conftest import Visitor
from tests.contrib.login_server import LoginServer
from tests.factories import WISHES

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]


@pytest.fixture(autouse=True, params=["authlib", "requests_oauthlib"])
def _site(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ROOT_URLCONF = f"tests.contrib.site_{request.param}"
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_a_user_logs_in_with_an_adopted_client(
    login_server: LoginServer, visitor: Visitor, method: str
) -> None:
    """By the method that is stored, whatever the server says it offers."""
    client = login_server.register({**WISHES, "token_endpoint_auth_method": method})
    services.adopt(
        login_server.issuer,
        "acme",
        client_id=client["client_id"],
        client_secret=None if method == "none" else client["client_secret"],
        metadata={**WISHES, "token_endpoint_auth_method": method},
    )
    assert visitor.log_in(login_server, "acme").json() == {"sub": "jane"}
    assert len(login_server.clients) == 1


def test_a_user_logs_in_with_a_metadata_document(
    login_server: LoginServer, visitor: Visitor
) -> None:
    members = {**WISHES, "token_endpoint_auth_method": "none"}
    url = "https://shop.example/oauth/clients/0123456789abcdef"
    login_server.clients[url] = {"client_id": url, **members}  # as the server has fetched it
    ClientRegistration.objects.create(
        server=AuthorizationServer.objects.for_issuer(login_server.issuer),
        owner="acme",
        mechanism="metadata_document",
        document_slug="0123456789abcdef",
        status="active",
        client_id=url,
        metadata=members,
        requested_metadata=WISHES,
    )
    assert visitor.log_in(login_server, "acme").json() == {"sub": "jane"}
    assert login_server.forms[0]["client_id"] == url


def test_a_user_logs_in_with_the_sites_shared_client(
    login_server: LoginServer, visitor: Visitor
) -> None:
    server = AuthorizationServer.objects.for_issuer(login_server.issuer)
    server.shared = True
    server.save()
    assert visitor.log_in(login_server, "acme").json() == {"sub": "jane"}
    assert visitor.log_in(login_server, "other").json() == {"sub": "jane"}
    assert ClientRegistration.objects.get().owner == ""

"""Logins through each library, with a client of each mechanism, at django-oauth-toolkit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from django_dcr import services
from django_dcr.contrib.allauth.views import redirect_uri
from django_dcr.models import ClientRegistration
from example_project.https_site import HttpsSite
from tests.contrib import conftest, test_allauth, test_live_logins, test_mozilla_oidc
from tests.contrib.live_server import consent
from tests.factories import CALLBACK
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


class Library(NamedTuple):
    """A site that logs people in with this library."""

    urls: str
    redirect_uri: Callable[[str], str]
    #: Whether a user has come back from the server, and is logged in.
    logs_in: Callable[[Server, ClientRegistration], bool]


def of_the_sites_own(library: str) -> Library:
    def logs_in(server: Server, registration: ClientRegistration) -> bool:
        visitor = conftest.Visitor(f"/{library}")
        answer = visitor.end(consent(server, visitor.begin(server.issuer)))
        return bool(answer.json()["sub"] == "1")

    return Library(test_live_logins.__name__, lambda issuer: CALLBACK, logs_in)


def allauth_logs_in(server: Server, registration: ClientRegistration) -> bool:
    visitor = test_allauth.Visitor()
    answer: HttpResponse = visitor.end(consent(server, visitor.begin(registration)))
    return test_allauth.is_in(answer)


def mozilla_logs_in(server: Server, registration: ClientRegistration) -> bool:
    visitor = test_mozilla_oidc.Visitor()
    answer: HttpResponse = visitor.end(consent(server, visitor.begin(server)))
    return test_mozilla_oidc.is_in(answer)


LIBRARIES = {
    "authlib": of_the_sites_own("authlib"),
    "requests_oauthlib": of_the_sites_own("requests_oauthlib"),
    "allauth": Library(
        "tests.contrib.site_allauth",
        lambda issuer: redirect_uri(RequestFactory().get("/", secure=True), issuer, ""),
        allauth_logs_in,
    ),
    "mozilla_oidc": Library(
        "tests.contrib.site_mozilla_oidc",
        lambda issuer: test_mozilla_oidc.CALLBACK,
        mozilla_logs_in,
    ),
}


@pytest.fixture(params=LIBRARIES)
def library(
    request: pytest.FixtureRequest,
    real_server: Server,
    database_file: Path,
    https_site: HttpsSite,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Library:
    found = LIBRARIES[request.param]
    real_server.forget()  # it keeps a document for five minutes, and each site has another one
    settings.ROOT_URLCONF = found.urls
    settings.DCR_BASE_URL, settings.DCR_CA_BUNDLE = https_site.origin, str(https_site.certificate)
    settings.DCR_INTERNAL_ORIGINS = [real_server.issuer, https_site.origin]
    settings.SOCIALACCOUNT_ADAPTER = "django_dcr.contrib.allauth.adapter.SocialAccountAdapter"
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    settings.LOGIN_REDIRECT_URL = (
        "/accounts/profile/" if request.param == "allauth" else "/profile/"
    )
    if request.param == "mozilla_oidc":
        backend = "django_dcr.contrib.mozilla_oidc.AuthenticationBackend"
        settings.AUTHENTICATION_BACKENDS = [backend]
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback
    uris = [found.redirect_uri(real_server.issuer)]
    settings.DCR_CLIENT_METADATA = {
        "client_name": "Shop",
        "redirect_uris": uris,
        "scope": "openid",
    }
    return found


def test_a_user_logs_in_with_a_metadata_document_at_a_real_server(
    library: Library, real_server: Server
) -> None:
    registration = services.get_or_register(real_server.issuer)
    assert registration.mechanism == "metadata_document"
    assert library.logs_in(real_server, registration)
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
    assert library.logs_in(real_server, registration)
    assert registration.mechanism == "pre_registered"

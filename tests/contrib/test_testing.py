"""A login by each integrated library at the server of ``django_dcr.testing``, without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from django_dcr import services
from django_dcr.contrib.allauth.views import redirect_uri
from django_dcr.testing import AuthorizationServer
from tests.contrib.browser import Browser
from tests.factories import CALLBACK, WISHES

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("library", ["authlib", "requests_oauthlib"])
def test_where_the_site_has_the_views(settings: Settings, library: str) -> None:
    settings.ROOT_URLCONF = f"tests.contrib.site_{library}"
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    browser = Browser()
    with AuthorizationServer() as server:
        query = {"issuer": server.issuer, "owner": "acme", "callback": CALLBACK}
        page = browser.get("/login", **query)
        page = browser.end(server.log_in(page.headers["Location"]))
    assert page.json() == server.user


def test_allauth(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_allauth"
    settings.SOCIALACCOUNT_ADAPTER = "django_dcr.contrib.allauth.adapter.SocialAccountAdapter"
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    browser = Browser()
    with AuthorizationServer() as server:
        uri = redirect_uri(RequestFactory().get("/", secure=True), server.issuer)
        wishes = {"redirect_uris": [uri], "scope": "openid email"}
        registration = services.get_or_register(server.issuer, metadata=wishes)
        page = browser.post(f"/accounts/dcr/{registration.key_digest}/login/")
        page = browser.end(server.log_in(page.headers["Location"]))
    assert goes_to(page, "/accounts/profile/")
    assert browser.get("/accounts/profile/").json() == {"user": "jane"}


def test_mozilla_django_oidc(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_mozilla_oidc"
    settings.AUTHENTICATION_BACKENDS = ["django_dcr.contrib.mozilla_oidc.AuthenticationBackend"]
    settings.LOGIN_REDIRECT_URL = "/profile/"
    uri = "https://testserver/oidc/callback/"
    settings.DCR_CLIENT_METADATA = {"redirect_uris": [uri], "scope": "openid email"}
    browser = Browser()
    with AuthorizationServer() as server:
        services.get_or_register(server.issuer)
        page = browser.get("/oidc/authenticate/", iss=server.issuer)
        page = browser.end(server.log_in(page.headers["Location"]))
        endpoints = [request.endpoint for request in server.requests[-3:]]
    assert goes_to(page, "/profile/")
    assert endpoints == ["token", "jwks", "userinfo"]


def goes_to(page: HttpResponse, path: str) -> bool:
    return page.status_code == 302 and page.headers["Location"] == path

"""Sites that log people in with each library, alike to whoever tests them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from django.test import RequestFactory

from django_dcr.contrib.allauth.views import redirect_uri
from django_dcr.models import ClientRegistration
from tests.contrib import conftest, test_allauth, test_mozilla_oidc
from tests.factories import CALLBACK

if TYPE_CHECKING:
    from pytest_django import Settings

#: Goes from an authorization URL to where the user is sent back to.
Go = Callable[[str], str]


@dataclass(frozen=True)
class Library:
    #: The site's URLs.
    urls: str
    #: Where users come back from an issuer.
    redirect_uri: Callable[[str], str]
    #: Whether a user who has come back is logged in.
    logs_in: Callable[[ClientRegistration, Go], bool]
    settings: dict[str, Any] = field(default_factory=dict)

    def set_up(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, issuer: str) -> None:
        """Make the site of the tests one that uses this library."""
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback
        settings.ROOT_URLCONF = self.urls
        settings.DCR_CLIENT_METADATA = {
            "client_name": "Shop",
            "redirect_uris": [self.redirect_uri(issuer)],
            "scope": "openid",
        }
        for name, value in self.settings.items():
            setattr(settings, name, value)


def _of_the_sites_own(registration: ClientRegistration, go: Go) -> bool:
    visitor = conftest.Visitor()
    answer = visitor.end(go(visitor.begin(registration.server.issuer)))
    return bool(answer.json()["sub"])


def _allauth(registration: ClientRegistration, go: Go) -> bool:
    visitor = test_allauth.Visitor()
    return test_allauth.is_in(visitor.end(go(visitor.begin(registration))))


def _mozilla_oidc(registration: ClientRegistration, go: Go) -> bool:
    visitor = test_mozilla_oidc.Visitor()
    return test_mozilla_oidc.is_in(visitor.end(go(visitor.begin(registration.server))))


LIBRARIES = {
    "authlib": Library("tests.contrib.site_authlib", lambda issuer: CALLBACK, _of_the_sites_own),
    "requests_oauthlib": Library(
        "tests.contrib.site_requests_oauthlib", lambda issuer: CALLBACK, _of_the_sites_own
    ),
    "allauth": Library(
        "tests.contrib.site_allauth",
        lambda issuer: redirect_uri(RequestFactory().get("/", secure=True), issuer, ""),
        _allauth,
        {
            "SOCIALACCOUNT_ADAPTER": "django_dcr.contrib.allauth.adapter.SocialAccountAdapter",
            "ACCOUNT_EMAIL_VERIFICATION": "none",
        },
    ),
    "mozilla_oidc": Library(
        "tests.contrib.site_mozilla_oidc",
        lambda issuer: test_mozilla_oidc.CALLBACK,
        _mozilla_oidc,
        {
            "AUTHENTICATION_BACKENDS": ["django_dcr.contrib.mozilla_oidc.AuthenticationBackend"],
            "LOGIN_REDIRECT_URL": "/profile/",
        },
    ),
}

"""The same logins at a real server in a process of its own: django-oauth-toolkit."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_dcr.contrib.authlib import OAuth
from django_dcr.contrib.requests_oauthlib import OAuth2Session, answered_session
from django_dcr.models import ClientRegistration
from django_dcr.services import for_login
from tests.contrib.conftest import Visitor
from tests.contrib.live_server import GRANTED, consent
from tests.factories import CALLBACK, WISHES
from tests.live.server import Server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

oauth = OAuth()


def authlib_log_in(request: HttpRequest) -> HttpResponse:
    client = oauth.create_client(request.GET["issuer"], request.GET["owner"])
    return client.authorize_redirect(request, CALLBACK, scope="openid")


def authlib_callback(request: HttpRequest) -> HttpResponse:
    token = oauth.answered_client(request).authorize_access_token(request)
    return JsonResponse(token["userinfo"])


def requests_oauthlib_log_in(request: HttpRequest) -> HttpResponse:
    registration = for_login(request.GET["issuer"], request.GET["owner"])
    session = OAuth2Session(registration, redirect_uri=CALLBACK, scope=["openid"])
    return session.authorize_redirect(request)


def requests_oauthlib_callback(request: HttpRequest) -> HttpResponse:
    session = answered_session(request)
    first = session.authorize_access_token(request)
    endpoint = session.registration.server.metadata["token_endpoint"]
    second = session.refresh_token(endpoint)
    assert first["access_token"] != second["access_token"]
    issuer = session.registration.server.issuer
    return JsonResponse(session.get(f"{issuer}/userinfo/").json())


urlpatterns = [
    path("authlib/login", authlib_log_in),
    path("authlib/callback", authlib_callback),
    path("requests_oauthlib/login", requests_oauthlib_log_in),
    path("requests_oauthlib/callback", requests_oauthlib_callback),
]


@pytest.mark.parametrize("method", GRANTED)
@pytest.mark.parametrize("library", ["authlib", "requests_oauthlib"])
def test_a_user_logs_in_at_a_real_server(
    real_server: Server,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    method: str,
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DCR_INTERNAL_ORIGINS = [real_server.issuer]
    settings.DCR_CLIENT_METADATA = {**WISHES, "token_endpoint_auth_method": method}
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback
    visitor = Visitor(f"/{library}")
    answer = consent(real_server, visitor.begin(real_server.issuer, f"{library} {method}"))
    assert dict(parse_qsl(urlsplit(answer).query))["iss"] == real_server.issuer
    assert visitor.end(answer).json()["sub"] == "1"
    registration = ClientRegistration.objects.get()
    assert registration.metadata["token_endpoint_auth_method"] == GRANTED[method]

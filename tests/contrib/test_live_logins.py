"""The same logins at a real server in a process of its own: django-oauth-toolkit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_dcr.contrib.authlib import OAuth
from django_dcr.contrib.requests_oauthlib import OAuth2Session, answered_session
from django_dcr.models import ClientRegistration
from django_dcr.services import for_login
from tests.contrib.conftest import Visitor
from tests.factories import CALLBACK, WISHES
from tests.live.server import Server, make_tables, require, serve

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

TOKEN = "token-of-a-user"
#: By the method that is asked for, the one that is granted: it tells one secret from none only.
GRANTED = {
    "client_secret_basic": "client_secret_basic",
    "client_secret_post": "client_secret_basic",
    "none": "none",
}
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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    options = {
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": pem.decode(),
        "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": [*GRANTED],
        "SCOPES": {"openid": "Who you are"},
    }
    file = tmp_path_factory.mktemp("server") / "server.sqlite3"
    make_tables(file)
    with serve(file, permission="AllowAllDCRPermission", options=options) as server:
        server.admit(TOKEN)
        yield server


def consent(server: Server, url: str) -> str:
    """Send the consent form, whose page this site has no template for."""
    # The server gives a client that has registered itself no key for its ID tokens.
    server.sql("UPDATE oauth2_provider_application SET algorithm = 'RS256'")
    place = urlsplit(url)
    answer = requests.post(
        place._replace(query="").geturl(),
        data={**dict(parse_qsl(place.query)), "allow": "Authorize"},
        headers={"Authorization": f"Bearer {TOKEN}"},
        allow_redirects=False,
        timeout=10,
    )
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


@pytest.mark.parametrize("method", GRANTED)
@pytest.mark.parametrize("library", ["authlib", "requests_oauthlib"])
def test_a_user_logs_in_at_a_real_server(
    running: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch, library: str, method: str
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DCR_INTERNAL_ORIGINS = [running.issuer]
    settings.DCR_CLIENT_METADATA = {**WISHES, "token_endpoint_auth_method": method}
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback
    visitor = Visitor(f"/{library}")
    answer = consent(running, visitor.begin(running.issuer, f"{library} {method}"))
    assert dict(parse_qsl(urlsplit(answer).query))["iss"] == running.issuer
    assert visitor.end(answer).json()["sub"] == "1"
    registration = ClientRegistration.objects.get()
    assert registration.metadata["token_endpoint_auth_method"] == GRANTED[method]

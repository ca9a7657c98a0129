from __future__ import annotations

import logging
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from oauthlib.oauth2 import MismatchingStateError
from oauthlib.oauth2.rfc6749.errors import MissingCodeError

from django_dcr import services
from django_dcr.contrib.requests_oauthlib import OAuth2Session, answered_session
from django_dcr.exceptions import InvalidResponseError
from tests.contrib.conftest import Visitor
from tests.contrib.login_server import LoginServer
from tests.factories import CALLBACK

RESOURCE = "https://mcp.example/mcp"

pytestmark = [pytest.mark.network, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def begin(server: LoginServer, **options: Any) -> tuple[HttpRequest, str]:
    """Begin a login; return the request, whose session has it, and the authorization URL."""
    request = RequestFactory().get("/login")
    request.session = {}  # type: ignore[assignment]
    registration = services.for_login(server.issuer)
    session = OAuth2Session(registration, redirect_uri=CALLBACK, **options)
    return request, session.authorize_redirect(request).url


def answered(begun: HttpRequest, **parameters: str) -> HttpRequest:
    request = RequestFactory().get("/callback", parameters)
    request.session = begun.session
    return request


def test_an_answer_without_a_code_is_an_error(login_server: LoginServer) -> None:
    begun, url = begin(login_server)
    request = answered(
        begun, state=Visitor.parameters(url)["state"], iss=login_server.issuer, code=""
    )
    with pytest.raises(MissingCodeError):
        answered_session(request).authorize_access_token(request)


def test_a_refused_answer_uses_the_login_up(login_server: LoginServer) -> None:
    begun, url = begin(login_server)
    request = answered(begun, state=Visitor.parameters(url)["state"], code="x")
    with pytest.raises(InvalidResponseError, match="does not name its issuer"):
        answered_session(request).authorize_access_token(request)
    with pytest.raises(MismatchingStateError):
        answered_session(request)


def test_an_answer_that_is_posted_is_read_from_the_form(login_server: LoginServer) -> None:
    begun, url = begin(login_server)
    answer = login_server.log_in(url).partition("?")[2]
    post = RequestFactory().post("/callback", answer, "application/x-www-form-urlencoded")
    post.session = begun.session
    token = answered_session(post).authorize_access_token(post)
    assert token["access_token"] in login_server.tokens


def test_a_token_is_refreshed_with_the_registered_method(login_server: LoginServer) -> None:
    registration = services.for_login(login_server.issuer)
    token = {"access_token": "old", "refresh_token": "again", "token_type": "Bearer"}
    session = OAuth2Session(registration, token=token)
    login_server.issue("again")
    fresh = session.refresh_token(f"{login_server.issuer}/token")
    assert fresh["access_token"] in login_server.tokens


def test_a_sessions_resource_is_sent_in_all_three_requests(login_server: LoginServer) -> None:
    """R-156, R-189."""
    begun, url = begin(login_server, resource=RESOURCE)
    assert Visitor.parameters(url)["resource"] == RESOURCE
    request = answered(begun, **Visitor.parameters(login_server.log_in(url)))
    session = answered_session(request)
    session.authorize_access_token(request)
    session.refresh_token(f"{login_server.issuer}/token")
    session.refresh_token(f"{login_server.issuer}/token", resource=f"{RESOURCE}/other")
    named = [form["resource"] for form in login_server.forms]
    assert named == [RESOURCE, RESOURCE, f"{RESOURCE}/other"]


def test_a_server_that_refuses_pkce_is_not_asked_for_it(login_server: LoginServer) -> None:
    login_server.changes = {"code_challenge_methods_supported": ["plain"]}
    begun, url = begin(login_server)
    assert "code_challenge" not in Visitor.parameters(url)
    request = answered(
        begun, state=Visitor.parameters(url)["state"], iss=login_server.issuer, code="unknown"
    )
    login_server.clients.clear()
    with pytest.raises(Exception, match="invalid_client"):
        answered_session(request).authorize_access_token(request)
    assert "code_verifier" not in login_server.forms[0]


def test_the_scope_that_is_asked_for_goes_before_the_registered_one(
    login_server: LoginServer,
) -> None:
    _begun, url = begin(login_server, scope=["email"])
    assert Visitor.parameters(url)["scope"] == "email"


def test_a_session_keeps_the_newest_logins_only(login_server: LoginServer) -> None:
    begun, url = begin(login_server)
    session = OAuth2Session(services.for_login(login_server.issuer), redirect_uri=CALLBACK)
    for _ in range(20):
        newest = session.authorize_redirect(begun).url
    assert len(begun.session["django_dcr_logins"]) == 20
    answered_session(answered(begun, state=Visitor.parameters(newest)["state"]))
    with pytest.raises(MismatchingStateError):
        answered_session(answered(begun, state=Visitor.parameters(url)["state"]))


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_the_librarys_own_log_does_not_have_the_secret(
    login_server: LoginServer, settings: Any, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = method
    begun, url = begin(login_server)
    request = answered(begun, **Visitor.parameters(login_server.log_in(url)))
    with caplog.at_level(logging.DEBUG):
        answered_session(request).authorize_access_token(request)
    assert "Request headers were" in caplog.text
    assert "client_secret-" not in caplog.text
    assert "Basic " not in caplog.text.replace("Basic auth credentials", "")

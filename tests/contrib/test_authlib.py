from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from authlib.integrations.base_client import MismatchingStateError
from authlib.integrations.django_client import DjangoOAuth2App
from django.http import QueryDict
from django.test import RequestFactory

from django_dcr.contrib.authlib import OAuth
from tests.contrib.conftest import Visitor
from tests.contrib.login_server import LoginServer
from tests.contrib.openid_server import OpenIDServer
from tests.factories import CALLBACK, WISHES

if TYPE_CHECKING:
    from pytest_django import Settings

RESOURCE = "https://mcp.example/mcp"

pytestmark = [pytest.mark.network, pytest.mark.django_db]


def test_a_client_of_authlibs_own_is_made_as_ever() -> None:
    oauth = OAuth()
    oauth.register("static", client_id="by hand")
    client = oauth.create_client("static")
    assert type(client) is DjangoOAuth2App
    assert client is oauth.static


def test_a_client_is_made_again_for_each_use(login_server: LoginServer) -> None:
    oauth = OAuth()
    first, second = (oauth.create_client(login_server.issuer) for _ in "12")
    assert first is not second
    assert first.client_id == second.client_id
    assert first.client_secret is None


def test_a_client_asks_for_the_metadata_that_is_wished(login_server: LoginServer) -> None:
    wishes = {"redirect_uris": ["https://other.example/callback"]}
    client = OAuth().create_client(login_server.issuer, metadata=wishes)
    assert client.registration.metadata["redirect_uris"] == wishes["redirect_uris"]


def test_a_server_sets_no_option_of_authlibs_session(login_server: LoginServer) -> None:
    """Each member of the metadata that Authlib is given becomes one."""
    login_server.changes = {"trust_env": True, "code_challenge_method": None, "scope": "all"}
    client = OAuth().create_client(login_server.issuer)
    assert client.server_metadata.keys() <= {*login_server.metadata(), "issuer"}
    assert not {"trust_env", "scope"} & client.server_metadata.keys()


def test_an_answer_that_is_posted_is_read_from_the_form(login_server: LoginServer) -> None:
    """OAuth 2.0 Form Post Response Mode."""
    request = RequestFactory().get("/login")
    request.session = {}  # type: ignore[assignment]
    oauth = OAuth()
    begun = oauth.create_client(login_server.issuer).authorize_redirect(request, CALLBACK)
    answer = login_server.log_in(begun.url).partition("?")[2]
    post = RequestFactory().post("/callback", answer, "application/x-www-form-urlencoded")
    post.session = request.session
    token = oauth.answered_client(post).authorize_access_token(post)
    assert token["access_token"] in login_server.tokens
    assert post.session == {}  # used up
    with pytest.raises(MismatchingStateError):
        oauth.answered_client(post)


def test_a_clients_resource_is_sent_in_all_three_requests(login_server: LoginServer) -> None:
    """R-156, R-189."""
    request = RequestFactory().get("/login")
    request.session = {}  # type: ignore[assignment]
    oauth = OAuth()
    client = oauth.create_client(login_server.issuer, resource=RESOURCE)
    url = client.authorize_redirect(request, CALLBACK).url
    assert Visitor.parameters(url)["resource"] == RESOURCE
    back = RequestFactory().get("/callback", Visitor.parameters(login_server.log_in(url)))
    back.session = request.session
    client = oauth.answered_client(back)
    token = client.authorize_access_token(back)
    with client._get_oauth_client() as session:
        for resource in ({}, {"resource": f"{RESOURCE}/other"}):
            session.refresh_token(
                f"{login_server.issuer}/token", refresh_token=token["refresh_token"], **resource
            )
    named = [form["resource"] for form in login_server.forms]
    assert named == [RESOURCE, RESOURCE, f"{RESOURCE}/other"]


def test_without_a_resource_a_refresh_names_none(login_server: LoginServer) -> None:
    client = OAuth().create_client(login_server.issuer)
    with client._get_oauth_client() as session:
        login_server.issue("again")
        session.refresh_token(f"{login_server.issuer}/token", refresh_token="again")
    assert "resource" not in login_server.forms[0]


def test_a_token_without_an_id_token_names_no_user(login_server: LoginServer) -> None:
    client = OAuth().create_client(login_server.issuer)
    assert client.parse_id_token({"access_token": "a"}, "nonce") is None


def test_a_refused_answer_uses_the_login_up(login_server: LoginServer) -> None:
    request = RequestFactory().get("/login")
    request.session = {}  # type: ignore[assignment]
    client = OAuth().create_client(login_server.issuer)
    begun = client.authorize_redirect(request, CALLBACK)
    state = Visitor.parameters(begun.url)["state"]
    request.GET = {"state": state, "code": "x"}  # type: ignore[assignment]
    with pytest.raises(Exception, match="does not name its issuer"):
        client.authorize_access_token(request)
    assert request.session == {}


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        pytest.param({}, "", id="as it should be"),
        pytest.param({"aud": "another"}, "for another client", id="another audience"),
        pytest.param({"exp": None}, "exp", id="no expiry"),
        pytest.param({"azp": "another"}, "azp", id="issued to another"),
    ],
)
def test_an_id_token_for_another_client_lets_nobody_in(
    server: OpenIDServer, settings: Settings, claims: dict[str, Any], message: str
) -> None:
    """OpenID Connect Core section 3.1.3.7; Authlib takes any audience if ``azp`` is this client."""
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    settings.DCR_CLIENT_METADATA = {**WISHES, "scope": "openid"}
    request = RequestFactory().get("/login")
    request.session = {}  # type: ignore[assignment]
    oauth = OAuth()
    client = oauth.create_client(server.issuer)
    server.claims = {"azp": client.client_id, **claims}
    begun = client.authorize_redirect(request, CALLBACK)
    request.GET = QueryDict(urlsplit(server.log_in(begun.url)).query)
    with pytest.raises(Exception, match=message) if message else nullcontext():
        token = oauth.answered_client(request).authorize_access_token(request)
        assert token["userinfo"]["sub"] == "jane"

"""Logins with each library that leaves the pages to the site, at a server on loopback."""

from __future__ import annotations

import base64
import logging
from traceback import TracebackException
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
import requests
from authlib.common.errors import AuthlibBaseError
from django.db import transaction
from oauthlib.oauth2 import OAuth2Error
from requests import HTTPError

from django_dcr import services
from django_dcr.exceptions import ConflictError, InvalidResponseError, NotAllowedError
from django_dcr.models import ClientRegistration
from tests.contrib.conftest import Visitor
from tests.contrib.login_server import METHODS, LoginServer
from tests.interruptions import TimeLimitExceeded, interrupted, shown

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

#: What the libraries raise where the server says no.
REFUSED = (AuthlibBaseError, OAuth2Error)


@pytest.fixture(autouse=True, params=["authlib", "requests_oauthlib"])
def _site(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ROOT_URLCONF = f"tests.contrib.site_{request.param}"
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback


@pytest.mark.parametrize("method", METHODS)
def test_a_user_logs_in_with_the_method_that_was_registered(
    login_server: LoginServer, visitor: Visitor, settings: Settings, method: str
) -> None:
    services.rotate_client_key()
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = method
    assert visitor.log_in(login_server, "customer-42").json() == {"sub": "jane"}
    registration = ClientRegistration.objects.get()
    assert (registration.owner, registration.status) == ("customer-42", "active")
    assert registration.metadata["token_endpoint_auth_method"] == method


def test_a_renewed_secret_is_used_from_the_next_login_on(
    login_server: LoginServer, visitor: Visitor
) -> None:
    visitor.log_in(login_server)
    login_server.rotates_secrets = login_server.rotates_tokens = True
    services.renew(ClientRegistration.objects.get())
    assert visitor.log_in(login_server).json() == {"sub": "jane"}


def test_a_secret_that_is_renewed_while_a_user_logs_in_is_used_at_once(
    login_server: LoginServer, visitor: Visitor
) -> None:
    url = visitor.begin(login_server.issuer)
    login_server.rotates_secrets = True
    services.renew(ClientRegistration.objects.get())
    assert visitor.end(login_server.log_in(url)).json() == {"sub": "jane"}


def test_the_secret_is_kept_nowhere_but_in_the_row(
    login_server: LoginServer, visitor: Visitor
) -> None:
    visitor.begin(login_server.issuer)
    secret = ClientRegistration.objects.get().client_secret
    assert secret is not None
    assert secret.reveal() not in str(visitor.client.session.items())


def test_a_login_asks_for_the_registered_scope_with_pkce(
    login_server: LoginServer, visitor: Visitor, settings: Settings
) -> None:
    settings.DCR_CLIENT_METADATA["scope"] = "profile email"
    query = parse_qs(urlsplit(visitor.begin(login_server.issuer)).query)
    assert query["scope"] == ["profile email"]
    assert query["code_challenge_method"] == ["S256"]


@pytest.mark.parametrize(
    ("iss", "message"),
    [
        pytest.param("https://evil.example", "names another issuer", id="another"),
        pytest.param(None, "does not name its issuer", id="missing though promised"),
        pytest.param("", "names another issuer", id="empty"),
    ],
)
def test_an_answer_without_the_right_issuer_is_not_used(
    login_server: LoginServer, visitor: Visitor, iss: str | None, message: str
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(InvalidResponseError, match=message):
        visitor.end(answer, iss=iss)
    assert login_server.forms == []


def test_the_issuer_is_compared_to_the_letter(login_server: LoginServer, visitor: Visitor) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(InvalidResponseError, match="names another issuer"):
        visitor.end(answer, iss=f"{login_server.issuer}/")


def test_an_error_of_another_issuer_is_not_taken_for_this_ones(
    login_server: LoginServer, visitor: Visitor
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(InvalidResponseError, match="names another issuer"):
        visitor.end(answer, code=None, error="access_denied", iss="https://evil.example")


@pytest.mark.parametrize("error", ["", "access_denied"])
def test_an_error_beside_a_code_does_not_stand_in_for_the_issuer(
    login_server: LoginServer, visitor: Visitor, error: str
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(InvalidResponseError, match="does not name its issuer"):
        visitor.end(answer, error=error, iss=None)
    assert login_server.forms == []


def test_a_server_that_promises_no_issuer_may_leave_it_out(
    login_server: LoginServer, visitor: Visitor
) -> None:
    login_server.changes = {"authorization_response_iss_parameter_supported": None}
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    assert visitor.end(answer, iss=None).json() == {"sub": "jane"}


def test_the_answer_to_a_login_at_one_server_goes_to_no_other(
    login_server: LoginServer, other_server: LoginServer, visitor: Visitor
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(InvalidResponseError, match="began with another registration"):
        visitor.end(answer, page=f"/callback/{other_server.issuer}")
    assert login_server.forms == other_server.forms == []


def test_two_logins_at_two_servers_can_be_open_at_once(
    login_server: LoginServer, other_server: LoginServer, visitor: Visitor
) -> None:
    first = login_server.log_in(visitor.begin(login_server.issuer))
    second = other_server.log_in(visitor.begin(other_server.issuer))
    assert visitor.end(first).json() == visitor.end(second).json() == {"sub": "jane"}
    assert [len(login_server.forms), len(other_server.forms)] == [1, 1]


def test_a_server_cannot_send_its_users_to_another_ones_login(
    login_server: LoginServer, other_server: LoginServer, visitor: Visitor
) -> None:
    """The first half of a mix-up attack (RFC 9700 section 4.4.1)."""
    login_server.changes = {"authorization_endpoint": f"{other_server.issuer}/authorize"}
    with pytest.raises(NotAllowedError, match="add it to the server's trusted_origins"):
        visitor.begin(login_server.issuer)


def test_a_login_that_nobody_began_ends_nowhere(
    login_server: LoginServer, visitor: Visitor
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(REFUSED, match="mismatching_state"):
        Visitor().end(answer)


def test_an_answer_is_used_once(login_server: LoginServer, visitor: Visitor) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    visitor.end(answer)
    with pytest.raises(REFUSED, match="mismatching_state"):
        visitor.end(answer)


@pytest.mark.parametrize("iss", [pytest.param({}, id="iss"), pytest.param({"iss": None}, id="no")])
def test_a_user_who_says_no_is_an_error_of_the_library(
    login_server: LoginServer, visitor: Visitor, iss: dict[str, None]
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    with pytest.raises(REFUSED, match="access_denied"):
        visitor.end(answer, code=None, error="access_denied", **iss)


def test_a_client_that_was_replaced_meanwhile_has_the_user_begin_again(
    login_server: LoginServer, visitor: Visitor
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    services.revoke(ClientRegistration.objects.get())
    with pytest.raises(ConflictError, match="Begin the login again"):
        visitor.end(answer)
    assert visitor.log_in(login_server).json() == {"sub": "jane"}


@pytest.mark.parametrize(
    "answered", [{"code": None, "error": "access_denied"}, {}], ids=["access_denied", "code"]
)
def test_who_comes_back_registers_nothing(
    login_server: LoginServer, visitor: Visitor, answered: dict[str, str | None]
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    services.revoke(ClientRegistration.objects.get())
    login_server.requests.clear()
    with pytest.raises(ConflictError, match="was revoked or replaced"):
        visitor.end(answer, **answered)
    assert ClientRegistration.objects.count() == 1
    assert login_server.requests == []


def test_who_comes_back_renews_nothing(login_server: LoginServer, visitor: Visitor) -> None:
    """The secret has expired meanwhile; whether it is still good is for the server to say."""
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    ClientRegistration.objects.update(client_secret_expires_at=1)
    assert visitor.end(answer).json() == {"sub": "jane"}
    assert login_server.asked("PUT") == 0
    assert ClientRegistration.objects.count() == 1


def test_a_refused_client_that_the_server_forgot_is_gone(
    login_server: LoginServer, visitor: Visitor, heard: list[object]
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    registration = ClientRegistration.objects.get()
    login_server.clients.clear()
    with pytest.raises(REFUSED, match="invalid_client"):
        visitor.end(answer)
    assert ClientRegistration.objects.get().status == "gone"
    assert ("gone", registration, "gone") in heard


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (400, {"error": "unauthorized_client"}),
        (400, {"error": "invalid_request", "error_description": "unknown client"}),
        (404, {"error": "not_found"}),
        (422, {"message": "The client c1 does not exist."}),
    ],
    ids=["unauthorized_client", "invalid_request", "404", "422"],
)
def test_a_forgotten_client_is_noticed_whatever_the_token_endpoint_calls_it(
    login_server: LoginServer, visitor: Visitor, status: int, document: dict[str, str]
) -> None:
    """Some servers do not say invalid_client."""
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    login_server.clients.clear()
    login_server.refusal = status, document
    with pytest.raises((*REFUSED, HTTPError)):
        visitor.end(answer)
    assert ClientRegistration.objects.get().status == "gone"


def test_a_refused_secret_is_told_to_the_operator(
    login_server: LoginServer, visitor: Visitor
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    registration = ClientRegistration.objects.get()
    login_server.clients[registration.client_id]["token_endpoint_auth_method"] = "none"
    with pytest.raises(REFUSED, match="invalid_client"):
        visitor.end(answer)
    registration = ClientRegistration.objects.get()
    assert registration.status == "active"
    assert registration.last_error.startswith("The token endpoint refused this client's")
    assert registration.events.last().action == "login"


def test_a_refused_client_whose_secret_the_server_changed_has_it_at_the_next_login(
    login_server: LoginServer, visitor: Visitor
) -> None:
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    registration = ClientRegistration.objects.get()
    login_server.clients[registration.client_id]["client_secret"] = "another"
    with pytest.raises(REFUSED, match="invalid_client"):
        visitor.end(answer)
    assert visitor.log_in(login_server).json() == {"sub": "jane"}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_server_that_hangs_up_leaves_no_secret_in_the_traceback(
    login_server: LoginServer, visitor: Visitor, settings: Settings, method: str
) -> None:
    """The variables of every frame, the library's own included, as error trackers show them."""
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = method
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    login_server.hangs_up = True
    with pytest.raises(requests.ConnectionError, match="The connection broke off") as caught:
        visitor.end(answer)
    lines = TracebackException.from_exception(caught.value, capture_locals=True).format()
    [client] = login_server.clients.values()
    pair = f"{client['client_id']}:{quote_plus(client['client_secret'])}"
    shown = "".join(lines)
    assert "client_authentication" not in shown  # it went well, so the next line means something
    assert client["client_secret"] not in shown
    assert quote_plus(client["client_secret"]) not in shown
    assert base64.b64encode(pair.encode()).decode() not in shown


def test_a_refusal_inside_a_transaction_stays_the_librarys_error(
    login_server: LoginServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a view under ATOMIC_REQUESTS."""
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    login_server.clients.clear()
    with transaction.atomic(), pytest.raises(REFUSED, match="invalid_client"):
        visitor.end(answer)
    assert ClientRegistration.objects.get().status == "active"
    assert "cannot run inside a transaction" in caplog.text


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_login_that_is_interrupted_shows_no_credentials(
    login_server: LoginServer, visitor: Visitor, settings: Settings, method: str
) -> None:
    """Not even those that the library has put into texts of its own."""
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = method
    answer = login_server.log_in(visitor.begin(login_server.issuer))
    login_server.is_slow = True
    with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
        visitor.end(answer)
    page = shown(caught.value)
    assert "http/client.py" in page
    assert [
        each for each in login_server.credentials(ClientRegistration.objects.get()) if each in page
    ] == []


def test_a_client_whose_key_the_server_does_not_know_is_told_where_to_look(
    login_server: LoginServer, visitor: Visitor, settings: Settings
) -> None:
    """R-192: and one that the server has forgotten is gone."""
    services.rotate_client_key()
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = "private_key_jwt"
    first = login_server.log_in(visitor.begin(login_server.issuer))
    second = login_server.log_in(visitor.begin(login_server.issuer))
    [client] = login_server.clients.values()
    held, client["jwks"] = client["jwks"], {"keys": []}
    login_server.while_handling["GET"] = lambda document: document.update(jwks=held)
    with pytest.raises(REFUSED, match="invalid_client"):
        visitor.end(first)
    assert "assertion_audience" in ClientRegistration.objects.get().last_error
    login_server.clients.clear()
    ClientRegistration.objects.update(refused_at=None)
    with pytest.raises(REFUSED, match="invalid_client"):
        visitor.end(second)
    assert ClientRegistration.objects.get().status == "gone"


def test_an_assertion_is_good_once(login_server: LoginServer, settings: Settings) -> None:
    services.rotate_client_key()
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = "private_key_jwt"
    registration = services.for_login(login_server.issuer)
    _headers, form = registration.client_authentication()
    grant = {"grant_type": "client_credentials"}
    answers = [login_server.token({**grant, **form}, "")[0] for _ in range(2)]
    assert answers == [200, 401]


@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_jwt"])
def test_what_a_client_has_signed_is_seen_by_the_server_alone(
    login_server: LoginServer,
    visitor: Visitor,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """An assertion is as good as a password, for four minutes."""
    services.rotate_client_key()
    settings.DCR_CLIENT_METADATA["token_endpoint_auth_method"] = method
    with caplog.at_level(logging.DEBUG):
        visitor.log_in(login_server)
    assertion = login_server.forms[-1]["client_assertion"]
    assert assertion not in caplog.text
    assert assertion not in str(visitor.client.session.items())

    answer = login_server.log_in(visitor.begin(login_server.issuer))
    login_server.is_slow = True
    with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
        visitor.end(answer)
    page = shown(caught.value)
    assert "http/client.py" in page
    assert login_server.forms[-1]["client_assertion"] not in page

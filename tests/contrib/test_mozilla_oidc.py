"""Logins with mozilla-django-oidc, at a server on loopback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.module_loading import import_string

from django_dcr import services
from django_dcr.contrib.mozilla_oidc import AuthenticationCallbackView, AuthenticationRequestView
from django_dcr.models import ClientRegistration
from tests.contrib.browser import Browser
from tests.contrib.documentation import documented
from tests.contrib.live_server import GRANTED, consent
from tests.contrib.login_server import METHODS
from tests.contrib.openid_server import OpenIDServer
from tests.factories import ISSUER, make_draft
from tests.interruptions import TimeLimitExceeded, interrupted, shown
from tests.live.server import Server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

CALLBACK = "https://testserver/oidc/callback/"
User = get_user_model()


@pytest.fixture(autouse=True)
def _site(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_mozilla_oidc"
    settings.AUTHENTICATION_BACKENDS = ["django_dcr.contrib.mozilla_oidc.AuthenticationBackend"]
    settings.LOGIN_REDIRECT_URL = "/profile/"
    settings.LOGIN_REDIRECT_URL_FAILURE = "/failed/"
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    settings.DCR_CLIENT_METADATA = {"client_name": "Shop", "redirect_uris": [CALLBACK]}


class Visitor(Browser):
    def begin(self, server: OpenIDServer | Server) -> str:
        """Return the authorization URL that the site's login page leads to."""
        answer = self.get("/oidc/authenticate/", iss=server.issuer)
        assert answer.status_code == 302, answer.content
        return str(answer.headers["Location"])

    def log_in(self, server: OpenIDServer) -> HttpResponse:
        """Go all the way."""
        return self.end(server.log_in(self.begin(server)))


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


def register(server: OpenIDServer | Server, **metadata: Any) -> ClientRegistration:
    return services.get_or_register(server.issuer, metadata=metadata)


def is_in(answer: HttpResponse) -> bool:
    return answer.status_code == 302 and answer.headers["Location"] == "/profile/"


def has_failed(answer: HttpResponse) -> bool:
    return answer.status_code == 302 and answer.headers["Location"] == "/failed/"


@pytest.mark.parametrize("method", METHODS)
def test_a_user_logs_in_with_the_method_that_was_registered(
    server: OpenIDServer, visitor: Visitor, method: str
) -> None:
    services.rotate_client_key()
    register(server, token_endpoint_auth_method=method)
    assert is_in(visitor.log_in(server))
    user = User.objects.get()
    assert user.email == "jane@example.com"
    assert visitor.get("/profile/").json() == {"user": user.username}
    assert "code_verifier" in server.forms[0]


@pytest.mark.parametrize("method", GRANTED)
def test_a_user_logs_in_at_a_real_server(
    real_server: Server, visitor: Visitor, method: str
) -> None:
    registration = register(real_server, token_endpoint_auth_method=method, scope="openid")
    assert registration.metadata["token_endpoint_auth_method"] == GRANTED[method]
    assert is_in(visitor.end(consent(real_server, visitor.begin(real_server))))
    assert User.objects.count() == 1


def test_every_request_of_a_login_goes_through_the_one_door(
    server: OpenIDServer, visitor: Visitor
) -> None:
    register(server)
    visitor.log_in(server)
    assert [*server.agents] == ["/token", "/jwks", "/userinfo"]
    assert all(agent.startswith("django-dcr/") for agent in server.agents.values())


def test_a_renewed_secret_is_used_from_the_next_login_on(
    server: OpenIDServer, visitor: Visitor
) -> None:
    registration = register(server)
    visitor.log_in(server)
    server.rotates_secrets = True
    services.renew(registration)
    assert is_in(Visitor().log_in(server))
    assert User.objects.count() == 1


def test_a_secret_that_is_renewed_while_a_user_logs_in_is_used_at_once(
    server: OpenIDServer, visitor: Visitor
) -> None:
    registration = register(server)
    url = visitor.begin(server)
    server.rotates_secrets = True
    services.renew(registration)
    assert is_in(visitor.end(server.log_in(url)))


def test_the_secret_is_kept_nowhere_but_in_the_row(server: OpenIDServer, visitor: Visitor) -> None:
    registration = register(server)
    visitor.log_in(server)
    assert registration.client_secret is not None
    assert registration.client_secret.reveal() not in str(visitor.client.session.items())


@pytest.mark.parametrize(
    ("iss", "message"),
    [
        pytest.param("https://evil.example", "names another issuer", id="another"),
        pytest.param(None, "does not name its issuer", id="missing though promised"),
    ],
)
def test_an_answer_without_the_right_issuer_is_not_used(
    server: OpenIDServer,
    visitor: Visitor,
    caplog: pytest.LogCaptureFixture,
    iss: str | None,
    message: str,
) -> None:
    register(server)
    answer = server.log_in(visitor.begin(server))
    assert has_failed(visitor.end(answer, iss=iss))
    assert message in caplog.text
    assert visitor.end(answer).status_code == 400  # for the login is over
    assert server.forms == []


def test_an_error_of_another_issuer_is_not_taken_for_this_ones(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    register(server)
    answer = server.log_in(visitor.begin(server))
    assert has_failed(visitor.end(answer, code=None, error="no", iss="https://evil.example"))
    assert "names another issuer" in caplog.text


def test_a_user_who_says_no_is_not_in(server: OpenIDServer, visitor: Visitor) -> None:
    register(server)
    answer = server.log_in(visitor.begin(server))
    assert has_failed(visitor.end(answer, code=None, error="access_denied", iss=None))
    assert visitor.client.session["oidc_states"] == {}


def test_what_has_a_code_is_no_error(server: OpenIDServer, visitor: Visitor) -> None:
    """The library would use the code, so the answer has to name its issuer."""
    register(server)
    answer = server.log_in(visitor.begin(server))
    assert has_failed(visitor.end(answer, error="", iss=None))
    assert server.forms == []


def test_two_logins_at_two_servers_can_be_open_at_once(
    server: OpenIDServer, another_server: OpenIDServer, visitor: Visitor
) -> None:
    """And Jane of the one server is not Jane of the other, whatever address both claim."""
    register(server)
    register(another_server)
    first = server.log_in(visitor.begin(server))
    second = another_server.log_in(visitor.begin(another_server))
    assert is_in(visitor.end(first))
    assert is_in(visitor.end(second))
    assert [len(server.forms), len(another_server.forms)] == [1, 1]
    assert User.objects.filter(email="jane@example.com").count() == 2


def test_a_login_that_nobody_began_ends_nowhere(server: OpenIDServer, visitor: Visitor) -> None:
    register(server)
    answer = server.log_in(visitor.begin(server))
    assert has_failed(Visitor().end(answer))
    assert server.forms == []


def test_an_answer_is_used_once(server: OpenIDServer, visitor: Visitor) -> None:
    register(server)
    answer = server.log_in(visitor.begin(server))
    assert is_in(visitor.end(answer))
    assert visitor.end(answer).status_code == 400


def test_a_login_that_the_library_began_by_itself_is_not_answered_with_a_registration(
    visitor: Visitor,
) -> None:
    session = visitor.client.session
    session["oidc_states"] = {"s1": {"nonce": None, "code_verifier": None, "added_on": 0}}
    session.save()
    assert has_failed(visitor.get("/oidc/callback/", state="s1", code="c1"))


def test_a_site_says_whose_registration_it_is(server: OpenIDServer, visitor: Visitor) -> None:
    answer = visitor.get("/oidc/tenants/", issuer=server.issuer)
    assert is_in(visitor.end(server.log_in(answer.headers["Location"])))
    assert ClientRegistration.objects.get().owner == "customer-42"


@pytest.mark.parametrize("query", [{}, {"iss": "https://evil.example"}, {"iss": ISSUER}])
def test_nobody_outside_makes_the_site_register(visitor: Visitor, query: dict[str, str]) -> None:
    draft = make_draft()
    assert visitor.get("/oidc/authenticate/", **query).status_code == 404
    assert [row.status for row in ClientRegistration.objects.all()] == [draft.status]


def test_who_comes_back_does_not_make_the_site_register_again(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    registration = register(server)
    answer = server.log_in(visitor.begin(server))
    services.revoke(registration)
    assert has_failed(visitor.end(answer))
    assert "was revoked or replaced while the user was logging in" in caplog.text
    assert ClientRegistration.objects.count() == 1


def test_an_expired_secret_is_renewed_even_where_requests_are_transactions(
    server: OpenIDServer, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    register(server)
    server.rotates_secrets = True
    ClientRegistration.objects.update(client_secret_expires_at=1)
    assert is_in(visitor.log_in(server))


def test_a_server_that_sends_its_users_elsewhere_is_left_alone(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    register(server)
    server.changes = {"authorization_endpoint": "https://evil.example/authorize"}
    services.discover(ClientRegistration.objects.get().server, refresh=True)
    assert has_failed(visitor.get("/oidc/authenticate/", iss=server.issuer))
    assert "trusted_origins" in caplog.text


def test_a_refused_client_is_noticed_even_where_requests_are_transactions(
    server: OpenIDServer,
    visitor: Visitor,
    heard: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    registration = register(server)
    answer = server.log_in(visitor.begin(server))
    server.clients.clear()
    assert has_failed(visitor.end(answer))
    assert ("gone", registration, "gone") in heard


def test_an_authorization_endpoint_may_have_a_query(server: OpenIDServer, visitor: Visitor) -> None:
    server.changes = {"authorization_endpoint": f"{server.issuer}/authorize?p=policy"}
    register(server)
    assert is_in(visitor.log_in(server))


def test_pkce_is_left_out_where_the_server_refuses_it(
    server: OpenIDServer, visitor: Visitor
) -> None:
    server.changes = {"code_challenge_methods_supported": ["plain"]}
    register(server)
    assert "code_challenge" not in visitor.begin(server)


def test_a_login_asks_for_the_registered_scope(server: OpenIDServer, visitor: Visitor) -> None:
    register(server, scope="openid profile email")
    query = parse_qs(urlsplit(visitor.begin(server)).query)
    assert query["scope"] == ["openid profile email"]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        pytest.param({"iss": "https://evil.example"}, "another issuer's", id="issuer"),
        pytest.param({"aud": ["another"]}, "for another client", id="audience"),
        pytest.param({"iat": None}, "when it was", id="no time of issue"),
        pytest.param({"nonce": "another"}, "Nonce verification failed", id="nonce"),
        pytest.param({"exp": 1}, "expired", id="expired"),
        pytest.param({"exp": None}, "when it does", id="no expiry"),
        pytest.param({"azp": "another"}, "issued to another client", id="authorized party"),
        pytest.param({"sub": None}, "whose it is", id="no subject"),
    ],
)
def test_an_id_token_that_is_not_for_this_login_lets_nobody_in(
    server: OpenIDServer,
    visitor: Visitor,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, Any],
    message: str,
) -> None:
    register(server)
    server.claims = claims
    assert has_failed(visitor.log_in(server))
    assert message in caplog.text


def test_a_token_may_be_for_others_too(server: OpenIDServer, visitor: Visitor) -> None:
    client_id = register(server).client_id
    server.claims = {"aud": ["another", client_id], "azp": client_id}
    assert is_in(visitor.log_in(server))


@pytest.mark.parametrize("keys", [None, "none", ["none"], [{"kid": "another"}]])
def test_a_token_whose_key_is_not_published_lets_nobody_in(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture, keys: object
) -> None:
    register(server)
    server.jwks = {"keys": keys}
    assert has_failed(visitor.log_in(server))
    assert "no key of the token's id" in caplog.text


def test_a_token_may_be_signed_with_the_client_secret(
    server: OpenIDServer, visitor: Visitor
) -> None:
    registration = register(server, id_token_signed_response_alg="HS256")
    secret = "s" * 32
    server.clients[registration.client_id]["client_secret"] = server.signing_secret = secret
    services.read(registration)
    assert is_in(visitor.log_in(server))
    server.signing_secret = "another".ljust(32)
    assert has_failed(Visitor().log_in(server))


def test_a_client_without_a_secret_takes_no_token_that_is_signed_with_one(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    register(server, token_endpoint_auth_method="none")
    ClientRegistration.objects.update(
        client_secret=None,
        metadata={"token_endpoint_auth_method": "none", "id_token_signed_response_alg": "HS256"},
    )
    server.signing_secret = "guessed".ljust(32)
    assert has_failed(visitor.log_in(server))
    assert "no secret to check the token with" in caplog.text


def test_userinfo_may_be_signed(server: OpenIDServer, visitor: Visitor) -> None:
    client_id = register(server).client_id
    server.userinfo = server.signed(aud=client_id, email="signed@example.com")
    assert is_in(visitor.log_in(server))
    assert User.objects.get().email == "signed@example.com"


def test_userinfo_of_another_user_lets_nobody_in(server: OpenIDServer, visitor: Visitor) -> None:
    register(server)
    server.userinfo = {"sub": "joe", "email": "jane@example.com"}
    assert has_failed(visitor.log_in(server))


def test_without_userinfo_the_id_token_says_who_logged_in(
    server: OpenIDServer, visitor: Visitor
) -> None:
    server.changes = {"userinfo_endpoint": None}
    server.claims = {"email": "token@example.com"}
    register(server)
    assert is_in(visitor.log_in(server))
    assert User.objects.get().email == "token@example.com"


def test_a_server_that_does_not_say_who_logged_in_lets_nobody_in(
    server: OpenIDServer, visitor: Visitor
) -> None:
    server.issues_id_tokens = False
    register(server)
    assert has_failed(visitor.log_in(server))


def test_the_documented_settings_name_what_these_tests_use(
    server: OpenIDServer, visitor: Visitor, settings: Settings
) -> None:
    module = documented("login.md", "mozilla-oidc")
    settings.AUTHENTICATION_BACKENDS = module.AUTHENTICATION_BACKENDS
    assert import_string(module.OIDC_AUTHENTICATE_CLASS) is AuthenticationRequestView
    assert import_string(module.OIDC_CALLBACK_CLASS) is AuthenticationCallbackView
    register(server)
    assert is_in(visitor.log_in(server))


def test_the_documented_view_says_whose_registration_it_is() -> None:
    module = documented("login.md", "mozilla-oidc-owners", "https://as.example")
    request = RequestFactory().get("/")
    request.tenant = "customer-42"
    assert module.TenantsRequestView().get_login(request) == ("https://as.example", "customer-42")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_login_that_is_interrupted_shows_no_credentials(
    server: OpenIDServer, visitor: Visitor, method: str
) -> None:
    """Not even those that the library has put into texts of its own."""
    registration = register(server, token_endpoint_auth_method=method)
    answer = server.log_in(visitor.begin(server))
    server.is_slow = True
    with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
        visitor.end(answer)
    page = shown(caught.value)
    assert "http/client.py" in page
    assert [each for each in server.credentials(registration) if each in page] == []


@pytest.mark.parametrize("uses_basic", [True, False])
def test_a_client_of_the_librarys_settings_is_adopted_as_documented(
    server: OpenIDServer,
    visitor: Visitor,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    uses_basic: bool,
) -> None:
    """And a user of before keeps the account."""
    method = "client_secret_basic" if uses_basic else "client_secret_post"
    wishes = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": method}
    client = server.register(wishes)
    settings.OIDC_RP_CLIENT_ID = client["client_id"]
    settings.OIDC_RP_CLIENT_SECRET = client["client_secret"]
    settings.OIDC_RP_SIGN_ALGO = "RS256"
    settings.OIDC_TOKEN_USE_BASIC_AUTH = uses_basic
    user = User.objects.create_user("of before", email="Jane@example.com")
    documented("mechanisms.md", "adopt-mozilla", server.issuer)
    row = ClientRegistration.objects.get()
    assert row.metadata["token_endpoint_auth_method"] == method
    row.metadata["redirect_uris"] = [CALLBACK]  # the address of this site
    row.save()
    backends = documented("mechanisms.md", "adopt-mozilla-users")
    monkeypatch.setitem(sys.modules, backends.__name__, backends)
    settings.AUTHENTICATION_BACKENDS = [f"{backends.__name__}.KeepingBackend"]
    assert is_in(visitor.log_in(server))
    assert is_in(Visitor().log_in(server))
    assert User.objects.get() == user
    assert ClientRegistration.objects.get().mechanism == "pre_registered"
    assert len(server.clients) == 1

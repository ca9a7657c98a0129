"""Logins with django-allauth, at a server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialAccount, SocialApp
from allauth.socialaccount.providers.base import Provider
from allauth.socialaccount.providers.dummy.provider import DummyProvider
from django.core import serializers
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory

from django_dcr import services
from django_dcr.contrib.allauth.views import redirect_uri
from django_dcr.models import ClientRegistration
from tests.contrib.browser import Browser
from tests.contrib.documentation import documented
from tests.contrib.live_server import GRANTED, consent
from tests.contrib.login_server import METHODS
from tests.contrib.openid_server import OpenIDServer
from tests.factories import make_registration, make_server
from tests.interruptions import TimeLimitExceeded, interrupted, shown
from tests.live.server import Server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _site(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_allauth"
    settings.SOCIALACCOUNT_ADAPTER = "django_dcr.contrib.allauth.adapter.SocialAccountAdapter"
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]


class Visitor(Browser):
    def press(self, registration: ClientRegistration) -> HttpResponse:
        """Press the button of a server on the login page."""
        return self.post(f"/accounts/dcr/{registration.key_digest}/login/")

    def begin(self, registration: ClientRegistration) -> str:
        """Return the authorization URL that the button leads to."""
        answer = self.press(registration)
        assert answer.status_code == 302, answer.content
        return str(answer.headers["Location"])

    def log_in(self, server: OpenIDServer, registration: ClientRegistration) -> HttpResponse:
        """Go all the way."""
        return self.end(server.log_in(self.begin(registration)))


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


def register(server: OpenIDServer | Server, owner: str = "", **metadata: Any) -> ClientRegistration:
    uri = redirect_uri(RequestFactory().get("/", secure=True), server.issuer, owner)
    wishes = {"client_name": "Shop", "redirect_uris": [uri], **metadata}
    return services.get_or_register(server.issuer, owner, metadata=wishes)


def is_in(answer: HttpResponse) -> bool:
    return answer.status_code == 302 and answer.headers["Location"] == "/accounts/profile/"


def has_failed(answer: HttpResponse) -> bool:
    return b"An error occurred while attempting to login" in answer.content


@pytest.mark.parametrize("method", METHODS)
def test_a_user_logs_in_with_the_method_that_was_registered(
    server: OpenIDServer, visitor: Visitor, method: str
) -> None:
    services.rotate_client_key()
    registration = register(server, token_endpoint_auth_method=method)
    assert is_in(visitor.log_in(server, registration))
    account = SocialAccount.objects.get()
    assert (account.provider, account.uid) == (registration.key_digest, "jane")
    assert visitor.get("/accounts/profile/").json() == {"user": account.user.username}
    assert "code_verifier" in server.forms[0]


@pytest.mark.parametrize("method", GRANTED)
def test_a_user_logs_in_at_a_real_server(
    real_server: Server, visitor: Visitor, method: str
) -> None:
    wishes = {"token_endpoint_auth_method": method, "scope": "openid"}
    registration = register(real_server, method, **wishes)
    assert registration.metadata["token_endpoint_auth_method"] == GRANTED[method]
    assert is_in(visitor.end(consent(real_server, visitor.begin(registration))))
    assert SocialAccount.objects.get().uid == "1"


def test_every_request_of_a_login_goes_through_the_one_door(
    server: OpenIDServer, visitor: Visitor
) -> None:
    visitor.log_in(server, register(server))
    assert [*server.agents] == ["/token", "/userinfo"]
    assert all(agent.startswith("django-dcr/") for agent in server.agents.values())


def test_a_renewed_secret_is_used_from_the_next_login_on(
    server: OpenIDServer, visitor: Visitor
) -> None:
    registration = register(server)
    visitor.log_in(server, registration)
    server.rotates_secrets = True
    services.renew(registration)
    assert is_in(Visitor().log_in(server, registration))


def test_a_secret_that_is_renewed_while_a_user_logs_in_is_used_at_once(
    server: OpenIDServer, visitor: Visitor
) -> None:
    registration = register(server)
    url = visitor.begin(registration)
    server.rotates_secrets = True
    services.renew(registration)
    assert is_in(visitor.end(server.log_in(url)))


def test_the_same_user_comes_back_after_the_client_was_replaced(
    server: OpenIDServer, visitor: Visitor
) -> None:
    registration = register(server)
    visitor.log_in(server, registration)
    services.revoke(registration)
    assert is_in(Visitor().log_in(server, register(server)))
    assert SocialAccount.objects.count() == 1


def test_the_secret_is_kept_nowhere_but_in_the_row(server: OpenIDServer, visitor: Visitor) -> None:
    registration = register(server)
    visitor.begin(registration)
    assert registration.client_secret is not None
    secret = registration.client_secret.reveal()
    assert secret not in str(visitor.client.session.items())
    assert not SocialApp.objects.exists()
    [app] = get_adapter().list_apps(None, provider="dcr")
    assert secret not in serializers.serialize("json", [app])


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
    answer = server.log_in(visitor.begin(register(server)))
    assert has_failed(visitor.end(answer, iss=iss))
    assert message in caplog.text
    assert server.forms == []


def test_an_error_of_another_issuer_is_not_taken_for_this_ones(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    answer = server.log_in(visitor.begin(register(server)))
    assert has_failed(visitor.end(answer, code=None, error="no", iss="https://evil.example"))
    assert "names another issuer" in caplog.text


def test_the_answer_to_a_login_at_one_server_goes_to_no_other(
    server: OpenIDServer, another_server: OpenIDServer, visitor: Visitor
) -> None:
    """As a server would have it that knows the other one's redirect URI."""
    other = register(another_server)
    answer = server.log_in(visitor.begin(register(server)))
    query = urlsplit(answer).query
    assert has_failed(visitor.get(f"{other.metadata['redirect_uris'][0]}?{query}"))
    assert server.forms == another_server.forms == []


def test_a_login_that_nobody_began_ends_nowhere(server: OpenIDServer, visitor: Visitor) -> None:
    answer = server.log_in(visitor.begin(register(server)))
    assert has_failed(Visitor().end(answer))
    assert server.forms == []


@pytest.mark.parametrize("claims", [{"iss": "https://evil.example"}, {"aud": "another"}])
def test_an_id_token_that_is_not_for_this_login_lets_nobody_in(
    server: OpenIDServer,
    visitor: Visitor,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, Any],
) -> None:
    server.claims = claims
    assert has_failed(visitor.log_in(server, register(server)))
    assert "A login failed. Invalid id_token" in caplog.text


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        pytest.param({"exp": None}, "when it does", id="no expiry"),
        pytest.param({"azp": "another"}, "issued to another", id="issued to another"),
    ],
)
def test_an_id_token_that_allauth_would_take_is_checked_further(
    server: OpenIDServer,
    visitor: Visitor,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, Any],
    message: str,
) -> None:
    server.claims = claims
    assert has_failed(visitor.log_in(server, register(server)))
    assert message in caplog.text
    assert not SocialAccount.objects.exists()


def test_a_user_who_says_no_is_led_back(server: OpenIDServer, visitor: Visitor) -> None:
    answer = server.log_in(visitor.begin(register(server)))
    cancelled = visitor.end(answer, code=None, error="access_denied", iss=None)
    assert cancelled.headers["Location"] == "/accounts/3rdparty/login/cancelled/"


def test_a_refused_client_is_noticed_even_where_requests_are_transactions(
    server: OpenIDServer,
    visitor: Visitor,
    heard: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    registration = register(server)
    answer = server.log_in(visitor.begin(registration))
    server.clients.clear()
    assert has_failed(visitor.end(answer))
    assert ("gone", registration, "gone") in heard


def test_a_server_that_sends_its_users_elsewhere_is_left_alone(
    server: OpenIDServer, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    server.changes = {"authorization_endpoint": "https://evil.example/authorize"}
    assert has_failed(visitor.press(register(server)))
    assert "trusted_origins" in caplog.text


def test_an_authorization_endpoint_may_have_a_query(server: OpenIDServer, visitor: Visitor) -> None:
    server.changes = {"authorization_endpoint": f"{server.issuer}/authorize?p=policy"}
    assert is_in(visitor.log_in(server, register(server)))


def test_pkce_is_left_out_where_the_server_refuses_it(
    server: OpenIDServer, visitor: Visitor
) -> None:
    server.changes = {"code_challenge_methods_supported": ["plain"]}
    assert "code_challenge" not in visitor.begin(register(server))


def test_a_login_asks_for_the_registered_scope(server: OpenIDServer, visitor: Visitor) -> None:
    [scope] = parse_qs(urlsplit(visitor.begin(register(server, scope="openid"))).query)["scope"]
    assert scope == "openid"


def test_without_userinfo_the_id_token_says_who_logged_in(
    server: OpenIDServer, visitor: Visitor
) -> None:
    server.changes = {"userinfo_endpoint": None, "jwks_uri": None}
    assert is_in(visitor.log_in(server, register(server)))
    assert [*server.agents] == ["/token"]


def test_a_server_that_does_not_say_who_logged_in_lets_nobody_in(
    server: OpenIDServer, visitor: Visitor
) -> None:
    server.changes = {"userinfo_endpoint": None}
    server.issues_id_tokens = False
    assert has_failed(visitor.log_in(server, register(server)))


def test_a_registration_that_is_no_more_is_no_page(server: OpenIDServer, visitor: Visitor) -> None:
    registration = register(server)
    services.revoke(registration)
    assert visitor.press(registration).status_code == 404


def test_the_login_page_offers_the_sites_own_registrations(visitor: Visitor) -> None:
    mine = make_registration()
    tenants = make_registration(server=mine.server, owner="tenant", client_id="c2")
    disabled = make_registration(server=make_server(issuer="https://b.example", enabled=False))
    page = visitor.get("/accounts/login/").content.decode()
    button = f"/accounts/dcr/{mine.key_digest}/login/"
    assert button in page
    assert mine.server.issuer in visitor.get(button).content.decode()
    assert tenants.key_digest not in page
    assert disabled.key_digest not in page


def test_two_servers_may_issue_the_same_client_id() -> None:
    """A signup that is interrupted finds its provider again by what the session keeps."""
    mine = make_registration()
    make_registration(server=make_server(issuer="https://b.example"))
    adapter = get_adapter()
    provider = adapter.get_provider(None, mine.key_digest)
    again = Provider.deserialize(provider.serialize())
    assert again.app.settings["issuer"] == mine.server.issuer
    named = adapter.list_apps(None, provider=mine.key_digest, client_id="another")
    assert named == []


def test_other_providers_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    adapter = get_adapter()
    assert adapter.get_requests_session().trust_env
    adapter.on_authentication_error(None, DummyProvider(None), exception=ValueError("No."))
    assert caplog.text == ""


def test_the_documented_settings_are_those_of_these_tests(settings: Settings) -> None:
    module = documented("login.md", "allauth", INSTALLED_APPS=[], MIDDLEWARE=[])
    assert {*module.INSTALLED_APPS} <= {*settings.INSTALLED_APPS}
    assert {*module.MIDDLEWARE} <= {*settings.MIDDLEWARE}
    assert module.SOCIALACCOUNT_ADAPTER == settings.SOCIALACCOUNT_ADAPTER


def test_the_documented_view_registers_for_logins(server: OpenIDServer, visitor: Visitor) -> None:
    module = documented("login.md", "allauth-register", server.issuer)
    answer = module.connect(RequestFactory().get("/", secure=True))
    assert answer.headers["Location"] == "/accounts/login/"
    assert is_in(visitor.log_in(server, ClientRegistration.objects.get()))


def test_the_documented_adapter_offers_the_owners_registrations() -> None:
    mine = make_registration(owner="tenant")
    make_registration(server=mine.server, client_id="c2")
    module = documented("login.md", "allauth-owners")
    request = RequestFactory().get("/")
    request.tenant = "tenant"
    assert [*module.TenantsAdapter().list_registrations(request)] == [mine]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_login_that_is_interrupted_shows_no_credentials(
    server: OpenIDServer, visitor: Visitor, method: str
) -> None:
    """Not even those that the library has put into texts of its own."""
    registration = register(server, token_endpoint_auth_method=method)
    answer = server.log_in(visitor.begin(registration))
    server.is_slow = True
    with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
        visitor.end(answer)
    page = shown(caught.value)
    assert "http/client.py" in page
    assert [each for each in server.credentials(registration) if each in page] == []

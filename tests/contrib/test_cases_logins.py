"""Cases from the field: what a login cannot succeed for is told before the user leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.test import RequestFactory

from django_dcr import services
from django_dcr.contrib.allauth.views import redirect_uri
from django_dcr.contrib.authlib import OAuth
from django_dcr.contrib.requests_oauthlib import OAuth2Session, answered_session
from django_dcr.exceptions import DCRError, NotAllowedError, UnsupportedError
from django_dcr.models import ClientRegistration
from tests.contrib.browser import Browser
from tests.contrib.openid_server import OpenIDServer
from tests.factories import CALLBACK

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

MOZILLA = "https://testserver/oidc/callback/"
RESOURCE = "https://api.example/v1"


@pytest.fixture(autouse=True)
def _site(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # there is no TLS on loopback
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    settings.SOCIALACCOUNT_ADAPTER = "django_dcr.contrib.allauth.adapter.SocialAccountAdapter"
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    settings.AUTHENTICATION_BACKENDS = ["django_dcr.contrib.mozilla_oidc.AuthenticationBackend"]
    settings.LOGIN_REDIRECT_URL_FAILURE = "/failed/"
    settings.LOGIN_REDIRECT_URL = "/profile/"


def begun(**session: Any) -> HttpRequest:
    request = RequestFactory().get("/login")
    request.session = session  # type: ignore[assignment]
    return request


class Site(ABC):
    """A way to begin a login; returns the authorization URL, or raises or logs why not."""

    def __init__(self, server: OpenIDServer) -> None:
        self.server = server
        self.request = begun()

    def register(self, **metadata: Any) -> ClientRegistration:
        wishes = {"client_name": "Shop", "redirect_uris": [self.callback], **metadata}
        return services.get_or_register(self.server.issuer, metadata=wishes)

    callback = CALLBACK

    @abstractmethod
    def begin(self, **options: Any) -> str:
        """Begin a login."""

    @abstractmethod
    def end(self, url: str) -> Any:
        """Come back."""


class Authlib(Site):
    oauth = OAuth()

    def begin(self, callback: str = CALLBACK, **options: Any) -> str:
        client = self.oauth.create_client(self.server.issuer)
        return str(client.authorize_redirect(self.request, callback, **options).url)

    def end(self, url: str) -> Any:
        self.request.GET = QueryDict(urlsplit(url).query)
        return self.oauth.answered_client(self.request).authorize_access_token(self.request)


class RequestsOAuthlib(Site):
    def begin(self, callback: str = CALLBACK, **options: Any) -> str:
        registration = services.for_login(self.server.issuer)
        session = OAuth2Session(registration, redirect_uri=callback)
        return session.authorize_redirect(self.request, **options).url

    def end(self, url: str) -> Any:
        self.request.GET = QueryDict(urlsplit(url).query)
        return answered_session(self.request).authorize_access_token(self.request)


class Pages(Site):
    """A library that has the pages itself, and logs what is wrong."""

    page = ""

    def __init__(self, server: OpenIDServer) -> None:
        super().__init__(server)
        self.browser = Browser()

    @abstractmethod
    def press(self, **options: Any) -> HttpResponse:
        """Press the button of the page."""

    def begin(self, **options: Any) -> str:
        answer = self.press(**options)
        url = str(answer.headers.get("Location", ""))
        if not url.startswith(self.server.issuer):
            raise Refused
        return url

    def end(self, url: str) -> Any:
        answer = self.browser.end(url)
        assert answer.status_code == 302
        assert "failed" not in answer.headers["Location"]


class Refused(Exception):  # noqa: N818
    """The user stayed in the site; the log says why."""


class Mozilla(Pages):
    callback = MOZILLA

    def press(self, **options: Any) -> HttpResponse:
        return self.browser.get("/oidc/authenticate/", iss=self.server.issuer)


class Allauth(Pages):
    @property
    def callback(self) -> str:  # type: ignore[override]
        return redirect_uri(RequestFactory().get("/", secure=True), self.server.issuer)

    def press(self, **options: Any) -> HttpResponse:
        registration = ClientRegistration.objects.get()
        return self.browser.post(f"/accounts/dcr/{registration.key_digest}/login/")


SITES: dict[str, Callable[[OpenIDServer], Site]] = {
    "authlib": Authlib,
    "requests-oauthlib": RequestsOAuthlib,
    "mozilla-django-oidc": Mozilla,
    "allauth": Allauth,
}


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, settings: Settings, server: OpenIDServer) -> Site:
    module = "allauth" if request.param == "allauth" else "mozilla_oidc"
    settings.ROOT_URLCONF = f"tests.contrib.site_{module}"
    return SITES[request.param](server)


def refusal(site: Site, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    """Begin a login that must not leave the site; return why."""
    with pytest.raises((DCRError, Refused)) as caught:
        site.begin(**options)
    assert site.server.codes == {}
    return caplog.text if caught.type is Refused else str(caught.value)


def sent(url: str, name: str) -> list[str]:
    return parse_qs(urlsplit(url).query).get(name, [])


# --- redirect URIs -----------------------------------------------------------------------------


def test_a_redirect_uri_that_is_not_registered_is_an_error_in_the_site(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    uris = ["https://site.example/registered", "https://site.example/another"]
    site.register(redirect_uris=uris)
    why = refusal(site, caplog)
    assert f'The redirect URI "{site.callback}" is not registered' in why
    assert 'which has "https://site.example/registered" and 1 more' in why


@pytest.mark.parametrize("name", ["authlib", "requests-oauthlib"])
@pytest.mark.parametrize(
    "uri", ["https://site.example/other", f"{CALLBACK}/", CALLBACK.upper(), f"{CALLBACK}?a=b"]
)
def test_a_redirect_uri_is_compared_to_the_letter(
    name: str, uri: str, server: OpenIDServer
) -> None:
    login = SITES[name](server)
    login.register()
    with pytest.raises(NotAllowedError, match="is not registered at this server"):
        login.begin(callback=uri)


@pytest.mark.parametrize("name", ["authlib", "requests-oauthlib"])
def test_the_port_of_a_loopback_redirect_may_differ(name: str, server: OpenIDServer) -> None:
    """RFC 8252 section 7.3."""
    login = SITES[name](server)
    login.register(redirect_uris=["http://127.0.0.1/callback"])
    assert login.begin(callback="http://127.0.0.1:51004/callback").startswith(server.issuer)
    for uri in (
        "http://127.0.0.1:51004/other",
        "http://[::1]/callback",
        "http://localhost/callback",
    ):
        with pytest.raises(NotAllowedError):
            login.begin(callback=uri)


@pytest.mark.parametrize("name", ["authlib", "requests-oauthlib"])
def test_without_a_redirect_uri_the_server_takes_the_registered_one(
    name: str, server: OpenIDServer
) -> None:
    """RFC 6749 section 3.1.2.3."""
    login = SITES[name](server)
    login.register()
    assert sent(login.begin(callback=None), "redirect_uri") == []


# --- scopes ------------------------------------------------------------------------------------

SCOPES = {
    "more granted": ("openid email", "email openid offline_access a b c d", "openid email"),
    "less granted": ("openid email phone", "openid", "openid"),
    "another order": ("b openid a", "a openid b", "b openid a"),
}


@pytest.mark.parametrize(("asked", "granted", "expected"), SCOPES.values(), ids=SCOPES.keys())
def test_a_login_asks_for_what_was_asked_and_granted(
    site: Site, asked: str, granted: str, expected: str
) -> None:
    row = site.register(scope=asked)
    ClientRegistration.objects.update(metadata={**row.metadata, "scope": granted})
    [scope] = sent(site.begin(), "scope")
    assert sorted(scope.split()) == sorted(expected.split())  # allauth has an order of its own


def test_without_a_wish_a_login_asks_for_what_was_granted(site: Site) -> None:
    row = site.register()
    ClientRegistration.objects.update(metadata={**row.metadata, "scope": "openid a"})
    [scope] = sent(site.begin(), "scope")
    assert sorted(scope.split()) == ["a", "openid"]


# --- resources ---------------------------------------------------------------------------------


def test_a_resource_is_sent_to_both_endpoints(site: Site, settings: Settings) -> None:
    """R-156, R-189: RFC 8707 section 2."""
    site.register(scope="openid")
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"resource": RESOURCE}
    settings.SOCIALACCOUNT_PROVIDERS = {"dcr": {"AUTH_PARAMS": {"resource": RESOURCE}}}
    url = site.begin(resource=RESOURCE)
    assert sent(url, "resource") == [RESOURCE]
    site.end(site.server.log_in(url))
    assert site.server.forms[0]["resource"] == RESOURCE


def test_without_a_resource_none_is_sent(site: Site) -> None:
    site.register(scope="openid")
    url = site.begin()
    assert sent(url, "resource") == []
    site.end(site.server.log_in(url))
    assert "resource" not in site.server.forms[0]


# --- what this app cannot do -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_a_method_that_cannot_be_used_keeps_the_user_here(
    site: Site, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    row = site.register()
    ClientRegistration.objects.update(
        metadata={**row.metadata, "token_endpoint_auth_method": method}
    )
    assert f'cannot authenticate by "{method}"' in refusal(site, caplog)


def test_a_client_that_lacks_its_secret_keeps_the_user_here(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.register()
    ClientRegistration.objects.update(client_secret=None)
    assert "needs a client secret, and this registration has none" in refusal(site, caplog)


REQUIRED = ["require_pushed_authorization_requests", "require_signed_request_object"]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("who", ["server", "client"])
def test_a_server_that_takes_no_plain_requests_keeps_the_user_here(
    site: Site, caplog: pytest.LogCaptureFixture, who: str, name: str
) -> None:
    """RFC 9126 section 5, RFC 9101 section 10.5."""
    if who == "server":
        site.server.changes = {name: True}
    row = site.register()
    if who == "client":
        ClientRegistration.objects.update(metadata={**row.metadata, name: True})
    assert name in refusal(site, caplog)
    with pytest.raises(UnsupportedError, match="accept plain ones"):
        services.for_login(site.server.issuer)


@pytest.mark.parametrize("value", [False, None, "true"])
def test_a_server_that_only_offers_pushed_requests_is_sent_plain_ones(
    server: OpenIDServer, value: object
) -> None:
    server.changes = dict.fromkeys(REQUIRED, value)
    login = Authlib(server)
    login.register()
    assert login.begin().startswith(server.issuer)


# --- keys --------------------------------------------------------------------------------------

KEYS = {
    "none": (None, "metadata has no jwks_uri"),
    "empty": ("", "metadata has no jwks_uri"),
    "elsewhere": ("https://keys.example/jwks", "an address at https://keys.example"),
}


@pytest.mark.parametrize(("jwks_uri", "why"), KEYS.values(), ids=KEYS.keys())
@pytest.mark.parametrize("name", ["mozilla-django-oidc", "authlib"])
def test_a_server_without_keys_keeps_the_user_here(
    settings: Settings,
    server: OpenIDServer,
    caplog: pytest.LogCaptureFixture,
    name: str,
    jwks_uri: str | None,
    why: str,
) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_mozilla_oidc"
    server.changes = {"jwks_uri": jwks_uri}
    login = SITES[name](server)
    login.register(scope="openid")
    assert why in refusal(login, caplog)


@pytest.mark.parametrize("name", ["requests-oauthlib", "allauth"])
def test_a_login_that_needs_no_keys_is_not_kept_for_them(
    settings: Settings, server: OpenIDServer, name: str
) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_allauth"
    server.changes = {"jwks_uri": "https://keys.example/jwks"}
    login = SITES[name](server)
    login.register(scope="openid")
    login.end(server.log_in(login.begin()))


def test_authlib_needs_no_keys_without_openid(server: OpenIDServer) -> None:
    server.changes = {"jwks_uri": None}
    login = Authlib(server)
    login.register(scope="profile")
    assert login.begin().startswith(server.issuer)


@pytest.mark.parametrize("how", ["algorithm", "key"])
def test_mozilla_needs_no_published_keys_where_it_has_others(
    settings: Settings, server: OpenIDServer, how: str
) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_mozilla_oidc"
    server.changes = {"jwks_uri": None}
    login = Mozilla(server)
    if how == "key":
        login.register()
        settings.OIDC_RP_IDP_SIGN_KEY = "a key"
    else:
        row = login.register()
        granted = {**row.metadata, "id_token_signed_response_alg": "HS256"}
        ClientRegistration.objects.update(metadata=granted)
    assert login.begin().startswith(server.issuer)


# --- userinfo elsewhere ------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://users.example/userinfo", ""])
def test_claims_that_are_elsewhere_are_taken_from_the_id_token(
    settings: Settings, server: OpenIDServer, url: str
) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_allauth"
    server.changes = {"userinfo_endpoint": url}
    login = Allauth(server)
    login.register(scope="openid")
    login.end(server.log_in(login.begin()))
    assert "/userinfo" not in server.agents


# --- the server's words ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_the_words_of_a_token_endpoint_are_told_without_what_was_sent(
    settings: Settings, server: OpenIDServer, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    settings.ROOT_URLCONF = "tests.contrib.site_mozilla_oidc"
    login = Mozilla(server)
    row = login.register(token_endpoint_auth_method=method)
    said: list[str] = []

    def refuse(form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        said.extend([form["code"], form["code_verifier"], authorization.removeprefix("Basic ")])
        return 422, {"message": f"The code is used up: {said}"}

    server.token = refuse  # type: ignore[method-assign]
    login.browser.end(server.log_in(login.begin()))
    assert "with 422, in its words \"The code is used up: ['********'" in caplog.text
    secret = [] if row.client_secret is None else [row.client_secret.reveal()]
    assert [text for text in filter(None, [*said, *secret]) if text in caplog.text] == []

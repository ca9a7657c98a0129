"""Logins with requests-oauthlib (the extra ``requests-oauthlib``).

::

    def log_in(request):
        registration = for_login("https://login.example.com/realms/shop", "customer-42")
        session = OAuth2Session(registration, redirect_uri="https://shop.example/callback")
        return session.authorize_redirect(request)

    def callback(request):
        session = answered_session(request)
        token = session.authorize_access_token(request)
"""

from __future__ import annotations

from typing import Any

import requests_oauthlib
from django.http import HttpRequest, HttpResponseRedirect
from django.views.decorators.debug import sensitive_variables
from oauthlib.oauth2 import MismatchingStateError, WebApplicationClient
from oauthlib.oauth2.rfc6749.errors import MissingCodeError, raise_from_error

from django_dcr import services
from django_dcr.contrib.logins import authenticate, check_response, response_of
from django_dcr.models import ClientRegistration
from django_dcr.text import hides_variables

_SESSION_KEY = "django_dcr_logins"
# More than a browser has open; the oldest are dropped.
_MAX_LOGINS = 20


class OAuth2Session(requests_oauthlib.OAuth2Session):
    """requests-oauthlib's session with one registration, to be used within one request.

    ``options`` are that library's own, such as ``redirect_uri``, ``scope`` (by default what the
    server registered) and ``token``. ``resource`` (RFC 8707) is sent in authorization, token and
    refresh requests.
    """

    def __init__(
        self, registration: ClientRegistration, *, resource: str | None = None, **options: Any
    ) -> None:
        self.registration = registration
        self.resource = resource
        client = WebApplicationClient(registration.client_id)
        options = {"scope": services.login_scope(registration) or None, **options}
        super().__init__(client=client, **options)
        services.login_session(self, registration)

    def authorize_redirect(self, request: HttpRequest, **parameters: str) -> HttpResponseRedirect:
        """Send the user to the server to log in, and store the login in Django's session.

        ``parameters`` are sent with the request; ``resource`` (RFC 8707) is sent to the token
        endpoint, too. Raises UnsupportedError where the server refuses the PKCE method that this
        client needs, and what ``check_login_request`` raises.
        """
        services.check_login_request(self.registration, self.redirect_uri)
        login: dict[str, Any] = {
            **services.login_attempt(self.registration),
            "redirect_uri": self.redirect_uri,
            "scope": self.scope,
        }
        if method := services.code_challenge_method(self.registration):
            verifier = self._client.create_code_verifier(64)
            challenge = self._client.create_code_challenge(verifier, method)
            parameters |= {"code_challenge": challenge, "code_challenge_method": method}
            login["code_verifier"] = verifier
        parameters = {**self._named_resource(), **parameters}
        if "resource" in parameters:
            login["resource"] = parameters["resource"]
        endpoint = self.registration.server.metadata["authorization_endpoint"]
        url, state = self.authorization_url(endpoint, **parameters)
        logins = request.session.get(_SESSION_KEY, {})
        kept = list(logins.items())[1 - _MAX_LOGINS :]
        request.session[_SESSION_KEY] = {**dict(kept), state: login}
        return HttpResponseRedirect(url)

    @hides_variables
    def authorize_access_token(self, request: HttpRequest) -> Any:
        """Return the token for the authorization response in ``request``.

        The response has to belong to a login that this registration began (RFC 9207), which it
        ends. Raises oauthlib's OAuth2Error, a DCRError, and where the server
        cannot be reached requests.RequestException.
        """
        response, login = response_of(request), _login(request)
        logins = request.session[_SESSION_KEY]
        others = {state: kept for state, kept in logins.items() if state != response["state"]}
        request.session[_SESSION_KEY] = others
        check_response(self.registration, login, response)
        if error := response.get("error"):
            raise_from_error(error, response.dict())
        if not response.get("code"):
            raise MissingCodeError
        self.redirect_uri, self.scope = login["redirect_uri"], login["scope"]
        self.resource = login.get("resource")
        kept = {"code_verifier": login["code_verifier"]} if "code_verifier" in login else {}
        endpoint = self.registration.server.metadata["token_endpoint"]
        return self.fetch_token(endpoint, code=response["code"], **kept)

    def _named_resource(self) -> dict[str, str]:
        return {"resource": self.resource} if self.resource else {}

    @hides_variables
    def fetch_token(self, token_url: str, **options: Any) -> Any:
        """Fetch a token with the registered client authentication (RFC 6749 section 2.3.1)."""
        options = {**self._named_resource(), **options, "auth": self._authenticate}
        return super().fetch_token(token_url, **options)

    @hides_variables
    def refresh_token(self, token_url: str, **options: Any) -> Any:
        """Refresh the token with the registered client authentication."""
        options = {**self._named_resource(), **options, "auth": self._authenticate}
        return super().refresh_token(token_url, **options)

    @sensitive_variables()
    def _authenticate(self, request: Any) -> Any:
        request.body = authenticate(self.registration, request.headers, request.body or "")
        return request


def answered_session(request: HttpRequest) -> OAuth2Session:
    """Return a session of the registration to whose login the response in ``request`` belongs.

    Raises oauthlib's MismatchingStateError where no login of Django's session has its state,
    and any DCRError.
    """
    return OAuth2Session(services.resume_login(_login(request)))


def _login(request: HttpRequest) -> dict[str, Any]:
    logins = request.session.get(_SESSION_KEY, {})
    login: dict[str, Any] | None = logins.get(response_of(request).get("state"))
    if login is None:
        raise MismatchingStateError
    return login

"""Logins with Authlib's Django client (the extra ``authlib``).

::

    oauth = OAuth()

    def log_in(request):
        client = oauth.create_client("https://login.example.com/realms/shop", "customer-42")
        return client.authorize_redirect(request, "https://shop.example/callback")

    def callback(request):
        client = oauth.answered_client(request)
        token = client.authorize_access_token(request)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from authlib.common.urls import add_params_to_qs
from authlib.integrations import django_client
from authlib.integrations.base_client import MismatchingStateError
from authlib.integrations.requests_client import OAuth2Session
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from django_dcr import services
from django_dcr.contrib.logins import authenticate, check_response, response_of
from django_dcr.models import ClientRegistration
from django_dcr.text import hides_variables

#: The client's name in Authlib's session keys. All have the same, so that a login is found by its
#: state alone; which client it belongs to is stored with it, and checked.
_NAME = "django_dcr"

# Authlib uses all members as options of its session, which include "hooks", "trust_env" and
# "code_challenge_method": a server must not set those.
_MEMBERS = (
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "revocation_endpoint",
    "introspection_endpoint",
    "end_session_endpoint",
    "id_token_signing_alg_values_supported",
)


class RegisteredApp(django_client.DjangoOAuth2App):
    """Authlib's client for one registration, to be used within one request.

    ``resource`` (RFC 8707) is sent in authorization, token and refresh requests.
    """

    def __init__(
        self, framework: Any, registration: ClientRegistration, resource: str | None = None
    ) -> None:
        self.registration = registration
        self.resource = resource
        metadata = registration.server.metadata
        super().__init__(
            framework,
            registration.server.issuer,
            client_id=registration.client_id,
            client_kwargs={
                "scope": services.login_scope(registration) or None,
                "code_challenge_method": services.code_challenge_method(registration) or None,
                "token_endpoint_auth_method": "registered",
                "revocation_endpoint_auth_method": "registered",
            },
            **{name: metadata[name] for name in _MEMBERS if name in metadata},
        )

    def client_cls(self, **options: Any) -> OAuth2Session:
        """Make the session for one exchange with the server."""
        session = OAuth2Session(**options)
        session.register_client_auth_method(("registered", self._authenticate))
        session.register_compliance_hook("refresh_token_request", self._name_resource)
        return services.login_session(session, self.registration)

    @sensitive_variables()
    def _authenticate(
        self, _auth: object, _method: str, uri: str, headers: dict[str, str], body: str
    ) -> tuple[str, dict[str, str], bytes]:
        return uri, headers, authenticate(self.registration, headers, body or "")

    def _name_resource(
        self, url: str, headers: dict[str, str], body: str
    ) -> tuple[str, dict[str, str], str]:
        """Add the resource to a refresh request, unless it names one (RFC 8707 section 2.2)."""
        if self.resource and "resource" not in dict(parse_qsl(body)):
            body = add_params_to_qs(body, [("resource", self.resource)])
        return url, headers, body

    def create_authorization_url(
        self, redirect_uri: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Return where to send the user, and what to keep until the response.

        As Authlib's own, after a check that the login can succeed (``check_login_request``, whose
        errors this raises). ``resource`` (RFC 8707) is sent to the token endpoint, too.
        """
        if self.resource:
            parameters.setdefault("resource", self.resource)
        services.check_login_request(self.registration, redirect_uri)
        scope = str(parameters.get("scope") or self.client_kwargs["scope"] or "")
        if "openid" in scope.split():
            services.login_endpoint(self.registration, "jwks_uri")
        begun: dict[str, Any] = super().create_authorization_url(redirect_uri, **parameters)
        if resource := parameters.get("resource"):
            begun["resource"] = resource
        return begun

    def save_authorize_data(self, request: HttpRequest, **data: Any) -> None:
        """Store what a login needs when its response comes, and where it began."""
        attempt = services.login_attempt(self.registration)
        super().save_authorize_data(request, login=attempt, **data)

    @hides_variables
    def authorize_access_token(self, request: HttpRequest, **options: Any) -> Any:
        """Return the token for the authorization response in ``request``.

        As Authlib's own, after a check that the response belongs to a login that this client
        began (RFC 9207). Raises Authlib's errors, a DCRError, and where the server
        cannot be reached requests.RequestException.
        """
        response = response_of(request)
        data = _login_data(self.framework, request)
        if "resource" in data:
            options = {"resource": data["resource"], **options}
            self.resource = options["resource"]
        try:
            check_response(self.registration, data["login"], response)
            return super().authorize_access_token(request, **options)
        finally:
            self.framework.clear_state_data(request.session, response["state"])

    def parse_id_token(self, token: Any, nonce: str, *args: Any, **options: Any) -> Any:
        """Return the claims of a token's ID token, checked.

        As Authlib's own, which also accepts one for another audience (OpenID Connect Core
        section 3.1.3.7).
        """
        claims = super().parse_id_token(token, nonce, *args, **options)
        if claims is not None:
            services.check_id_token(self.registration, claims)
        return claims


class OAuth(django_client.OAuth):
    """Authlib's registry, whose clients come from the database each time."""

    def create_client(
        self,
        issuer: str,
        owner: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        resource: str | None = None,
    ) -> Any:
        """Return the client of ``owner`` at ``issuer``, for one request.

        It is registered where there is none, and requests ``metadata`` where that is given (see
        ``services.for_login``, whose errors this raises). Its tokens are for ``resource``, where
        that is given. A name that was given to ``register()`` is a client of Authlib's own.
        """
        if issuer in self._registry:
            return super().create_client(issuer)
        registration = services.for_login(issuer, owner, metadata=metadata)
        return RegisteredApp(self._framework(), registration, resource)

    def answered_client(self, request: HttpRequest) -> RegisteredApp:
        """Return the client to whose login the authorization response in ``request`` belongs.

        Raises Authlib's MismatchingStateError where no login of this session has its state,
        and any DCRError.
        """
        attempt = _login_data(self._framework(), request)["login"]
        return RegisteredApp(self._framework(), services.resume_login(attempt))

    def _framework(self) -> Any:
        return self.framework_integration_cls(_NAME, self.cache)


def _login_data(framework: Any, request: HttpRequest) -> dict[str, Any]:
    state = response_of(request).get("state")
    data: dict[str, Any] | None = framework.get_state_data(request.session, state)
    if not data:
        raise MismatchingStateError
    return data

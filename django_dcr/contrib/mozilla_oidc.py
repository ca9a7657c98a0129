"""Logins with mozilla-django-oidc (the extra ``mozilla-oidc``).

::

    AUTHENTICATION_BACKENDS = ["django_dcr.contrib.mozilla_oidc.AuthenticationBackend"]
    OIDC_AUTHENTICATE_CLASS = "django_dcr.contrib.mozilla_oidc.AuthenticationRequestView"
    OIDC_CALLBACK_CLASS = "django_dcr.contrib.mozilla_oidc.AuthenticationCallbackView"

    path("oidc/", include("mozilla_django_oidc.urls"))

``/oidc/authenticate/?iss=https://login.example.com/realms/shop`` then begins a login.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import SuspiciousOperation
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.utils import import_from_settings
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from django_dcr import protocol, services, transport
from django_dcr.contrib.logins import check_response, join_query, log_failure
from django_dcr.exceptions import DCRError, errors_at
from django_dcr.fields import Secret, digest
from django_dcr.models import ClientRegistration
from django_dcr.text import SensitiveBytes, hides_variables

_ATTEMPT = "django_dcr"
_STEP = "login"


def _member(name: str) -> Callable[[ClientRegistration], Any]:
    return lambda registration: registration.server.metadata.get(name, "")


#: The library's settings whose values come from the registration.
_SETTINGS: dict[str, Callable[[ClientRegistration], Any]] = {
    "OIDC_OP_AUTHORIZATION_ENDPOINT": _member("authorization_endpoint"),
    "OIDC_OP_TOKEN_ENDPOINT": _member("token_endpoint"),
    "OIDC_OP_USER_ENDPOINT": _member("userinfo_endpoint"),
    "OIDC_OP_JWKS_ENDPOINT": _member("jwks_uri"),
    "OIDC_RP_CLIENT_ID": lambda registration: registration.client_id,
    "OIDC_RP_CLIENT_SECRET": lambda registration: registration.client_secret,  # still encrypted
    # OpenID Connect Registration section 2 has this default, the library another.
    "OIDC_RP_SIGN_ALGO": lambda registration: registration.metadata.get(
        "id_token_signed_response_alg", "RS256"
    ),
    "OIDC_USE_PKCE": lambda registration: bool(services.code_challenge_method(registration)),
    "OIDC_PKCE_CODE_CHALLENGE_METHOD": services.code_challenge_method,
}


def _is_registered(issuer: str, owner: str) -> bool:
    return ClientRegistration.objects.for_key(issuer, owner).live().active().exists()


class _Registered:
    #: The client to log in with; None until a request names it.
    registration: ClientRegistration | None = None

    def get_settings(self, attr: str, *default: Any) -> Any:
        """Return what the registration says, else the site's own setting."""
        if attr in _SETTINGS:
            return self.registration and _SETTINGS[attr](self.registration)
        if attr == "OIDC_RP_SCOPES" and self.registration:
            default = (services.login_scope(self.registration) or "openid email",)
        return import_from_settings(attr, *default)

    def failed(self, error: Exception) -> HttpResponse:
        """Send the user to ``LOGIN_REDIRECT_URL_FAILURE``, and log why."""
        log_failure(error)
        return HttpResponseRedirect(self.get_settings("LOGIN_REDIRECT_URL_FAILURE", "/"))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class AuthenticationRequestView(_Registered, OIDCAuthenticationRequestView):
    """Sends the user to the server of a registration."""

    def get_login(self, request: HttpRequest) -> tuple[str, str]:
        """Return issuer and owner of the registration to log in with, to be overridden.

        Here it is the site's own at the issuer that the query's ``iss`` names (OpenID Connect
        Core section 4), and has to exist: nobody outside may make this site register.
        """
        issuer = request.GET.get("iss", "")
        if not _is_registered(issuer, ""):
            raise Http404
        return issuer, ""

    def get(self, request: HttpRequest) -> HttpResponse:
        issuer, owner = self.get_login(request)
        try:
            self.registration = services.for_login(issuer, owner)
            super().__init__()  # which reads the settings
            self._check_keys(self.registration)
            response: HttpResponseRedirect = super().get(request)
            sent = parse_qs(urlsplit(response.url).query)
            services.check_login_request(self.registration, sent["redirect_uri"][0])
        except DCRError as exc:
            return self.failed(exc)
        *_, newest = request.session["oidc_states"].values()
        newest[_ATTEMPT] = services.login_attempt(self.registration)
        if "resource" in sent:
            newest[_ATTEMPT]["resource"] = sent["resource"]
        request.session.modified = True
        return HttpResponseRedirect(join_query(response.url, self.OIDC_OP_AUTH_ENDPOINT))

    def _check_keys(self, registration: ClientRegistration) -> None:
        """Check that there are keys to check an ID token with, before the user leaves."""
        algorithm = self.get_settings("OIDC_RP_SIGN_ALGO")
        if algorithm.startswith("HS") or self.get_settings("OIDC_RP_IDP_SIGN_KEY", None):
            return
        services.login_endpoint(registration, "jwks_uri")


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class AuthenticationCallbackView(_Registered, OIDCAuthenticationCallbackView):
    """Logs the user in, if the response comes from the issuer where the login began."""

    @hides_variables
    def get(self, request: HttpRequest) -> HttpResponse:
        states = request.session.get("oidc_states", {})
        state = request.GET.get("state")
        attempt = states.get(state, {}).get(_ATTEMPT)
        if attempt is None:  # no login of this session, or one of the library's own
            return self._log_in(request)
        try:
            registration = services.resume_login(attempt)
            check_response(registration, attempt, request.GET)
            request.dcr_registration = registration  # type: ignore[attr-defined]
            request.dcr_resource = attempt.get("resource")  # type: ignore[attr-defined]
            return self._log_in(request)
        except (DCRError, jwt.PyJWTError, SuspiciousOperation) as exc:
            if states.pop(state, None):  # one response per login
                request.session.modified = True
            return self.failed(exc)

    def _log_in(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = super().get(request)
        return response


class AuthenticationBackend(_Registered, OIDCAuthenticationBackend):
    """Finds out who the user is, as the registration's client.

    Users are found by issuer and subject, the only claims to rely on with more than one server
    (OpenID Connect Core section 5.7): each of them may claim any e-mail address.
    """

    registration: ClientRegistration
    #: The resources of the authorization request (RFC 8707).
    resource: list[str] | None = None

    def __init__(self) -> None:
        self.UserModel = get_user_model()  # ``authenticate`` reads the settings

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        """Return the user, or None. Raises DCRError, PyJWTError and SuspiciousOperation."""
        registration = getattr(request, "dcr_registration", None)
        if registration is None:
            return None
        self.registration = registration
        self.resource = getattr(request, "dcr_resource", None)
        super().__init__()
        return super().authenticate(request, **kwargs)

    @sensitive_variables()
    def get_token(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Exchange the code by the registered client authentication (RFC 6749 section 4.1.3)."""
        headers, credentials = self.registration.client_authentication()
        grant = {k: v for k, v in payload.items() if k not in ("client_id", "client_secret")}
        if self.resource:  # RFC 8707 section 2.2
            grant["resource"] = self.resource
        reply = self._send(
            "POST",
            self.OIDC_OP_TOKEN_ENDPOINT,
            body=SensitiveBytes(urlencode({**grant, **credentials}, doseq=True).encode()),
            headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
        )
        refused = protocol.client_refusal(reply)
        if refused:
            services.client_refused(self.registration, error=refused)
        basic = headers.get("Authorization", "").removeprefix("Basic ")
        client_secret = self.registration.client_secret
        return self._document(
            reply,
            basic,
            "" if client_secret is None else client_secret.reveal(),
            *(str(payload.get(name, "")) for name in ("code", "code_verifier")),
        )

    @sensitive_variables()
    def get_userinfo(
        self, access_token: str, id_token: str, payload: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the user's claims: those of the ID token where the server has no more."""
        if not self.OIDC_OP_USER_ENDPOINT:
            return payload
        reply = self._send("GET", self.OIDC_OP_USER_ENDPOINT, token=access_token)
        if reply.headers.get("Content-Type", "").lower().startswith("application/jwt"):
            claims: dict[str, Any] = super().verify_token(reply.body.decode(errors="replace"))
            services.check_signed_claims(self.registration, claims)
        else:
            claims = self._document(reply, access_token)
        if claims.get("sub") != payload["sub"]:
            raise SuspiciousOperation("The userinfo is another user's than the ID token.")
        return claims

    def retrieve_matching_jwk(self, token: str) -> jwt.PyJWK:
        """Return the server's key for a token, by the key's id."""
        wanted = jwt.get_unverified_header(token).get("kid")
        keys = self._document(self._send("GET", self.OIDC_OP_JWKS_ENDPOINT)).get("keys")
        for key in keys if isinstance(keys, list) else []:
            if isinstance(key, dict) and key.get("kid") == wanted:
                return jwt.PyJWK(key, self.OIDC_RP_SIGN_ALGO)
        raise SuspiciousOperation("The server publishes no key of the token's id.")

    @sensitive_variables()
    def get_payload_data(self, token: str, key: Any) -> dict[str, Any]:
        """Return the claims of a token that ``key`` signed, which may be the client secret."""
        if key is None:
            raise SuspiciousOperation("This client has no secret to check the token with.")
        plain = key.reveal() if isinstance(key, Secret) else key
        claims: dict[str, Any] = super().get_payload_data(token, plain)
        return claims

    def verify_token(self, token: str, **kwargs: Any) -> dict[str, Any]:
        """Return the claims of an ID token, if this server issued it to this client.

        The library checks the signature and the nonce, but not the audience or the expiry.
        """
        claims: dict[str, Any] = super().verify_token(token, **kwargs)
        services.check_id_token(self.registration, claims)
        return claims

    def filter_users_by_claims(self, claims: Mapping[str, Any]) -> QuerySet[AbstractBaseUser]:
        """Return the user of these claims, if there is one yet."""
        name = self.UserModel.USERNAME_FIELD
        return self.UserModel._default_manager.filter(**{name: self.get_username(claims)})

    def get_username(self, claims: Mapping[str, Any]) -> str:
        """Return 64 hexadecimal digits that no other issuer and subject have."""
        return digest(self.registration.server.issuer, claims["sub"])

    @sensitive_variables()
    def _send(self, method: str, url: str, **options: Any) -> transport.Reply:
        with errors_at(self.registration.server.issuer, _STEP, self.registration.pk):
            return transport.send(method, url, **options)

    @sensitive_variables()
    def _document(self, reply: transport.Reply, *secrets: str) -> dict[str, Any]:
        """Return the document in a response; no error repeats any of the ``secrets``."""
        with errors_at(self.registration.server.issuer, _STEP, self.registration.pk):
            protocol.check_status(reply, {200}, step=_STEP, secrets=secrets)
            return protocol.parse_object(reply.body)

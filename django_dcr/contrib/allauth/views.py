"""The two steps of a login in allauth, with the client of a registration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Client, OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from allauth.utils import build_absolute_uri
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from django_dcr.contrib.logins import check_response, join_query
from django_dcr.exceptions import DCRError
from django_dcr.fields import digest
from django_dcr.models import ClientRegistration
from django_dcr.services import check_id_token
from django_dcr.text import hides_variables

if TYPE_CHECKING:
    from django_dcr.contrib.allauth.provider import RegisteredClientProvider


def redirect_uri(request: HttpRequest, issuer: str, owner: str = "") -> str:
    """Return the redirect URI to register for the users of ``owner``.

    Each registration has a different one, so that no server's response can be taken for another's
    (RFC 9700 section 4.4.2.2).
    """
    return _absolute(request, digest(issuer, owner))


class RegisteredClient(OAuth2Client):
    """A client that authenticates as its registration says (RFC 6749)."""

    registration: ClientRegistration
    resource: str | None = None

    def get_redirect_url(
        self, authorization_url: str, scope: Iterable[str], extra_params: Mapping[str, str]
    ) -> str:
        """Return where to send the user, also where the endpoint has a query."""
        url: str = super().get_redirect_url(authorization_url, scope, extra_params)
        return join_query(url, authorization_url)

    @sensitive_variables()
    def get_access_token(
        self,
        code: str,
        pkce_code_verifier: str | None = None,
        extra_data: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Exchange the code (section 4.1.3). Raises OAuth2Error, and any DCRError."""
        headers, credentials = self.registration.client_authentication()
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback_url,
            **({"code_verifier": pkce_code_verifier} if pkce_code_verifier else {}),
            **({"resource": self.resource} if self.resource else {}),
            **(extra_data or {}),
            **credentials,
        }
        with get_adapter().get_requests_session() as session:
            response = session.post(self.access_token_url, data=data, headers=headers)
        token: Any = response.json() if response.status_code == 200 else None
        if not isinstance(token, dict) or "access_token" not in token:
            raise OAuth2Error(f"The token endpoint answered {response.status_code}, and no token.")
        return token


class RegistrationAdapter(OpenIDConnectOAuth2Adapter):
    """allauth's view of the server, all of it from the registration's row."""

    client_class = RegisteredClient

    @cached_property
    def provider(self) -> RegisteredClientProvider:
        provider: RegisteredClientProvider = super().get_provider()
        return provider

    def get_provider(self) -> RegisteredClientProvider:
        return self.provider

    @property
    def openid_config(self) -> dict[str, Any]:
        """The server's metadata, with empty values for optional members that allauth reads."""
        metadata = self.provider.registration.server.metadata
        return {"jwks_uri": "", "userinfo_endpoint": "", **metadata}

    def get_client(self, request: HttpRequest, app: SocialApp) -> RegisteredClient:
        client: RegisteredClient = super().get_client(request, app)
        client.registration = self.provider.registration
        client.resource = self.provider.resource
        return client

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return _absolute(request, self.provider_id)

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        """Return the claims; allauth accepts tokens without ``exp`` and for other clients."""
        claims: dict[str, Any] = super()._decode_id_token(app, id_token)
        check_id_token(self.provider.registration, claims)
        return claims


class CallbackView(OAuth2CallbackView):
    """Ends a login, after a check of the response's issuer (RFC 9207)."""

    adapter: RegistrationAdapter

    @hides_variables
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.adapter.provider.is_callback = True
        try:
            response: HttpResponse = super().dispatch(request, *args, **kwargs)
        except DCRError as exc:
            response = render_authentication_error(request, self.adapter.provider, exception=exc)
        return response

    def _get_state(self, request: HttpRequest, provider: RegisteredClientProvider) -> Any:
        state, response = super()._get_state(request, provider)
        if state is not None:
            attempt = state.get("login_attempt", {})
            provider.resource = attempt.get("resource")
            check_response(provider.registration, attempt, request.GET)
        return state, response


@transaction.non_atomic_requests  # since the client may have to be renewed first
@login_not_required
def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Send the user to the registration's server."""
    return _run(OAuth2LoginView, request, provider_id)


@transaction.non_atomic_requests
@login_not_required
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Log the user in, if the server's response is valid."""
    return _run(CallbackView, request, provider_id)


def _run(view: Any, request: HttpRequest, provider_id: str) -> HttpResponse:
    adapter = RegistrationAdapter(request, provider_id)
    try:
        response: HttpResponse = view.adapter_view(adapter)(request)
    except SocialApp.DoesNotExist as exc:
        raise Http404 from exc
    return response


def _absolute(request: HttpRequest, provider_id: str) -> str:
    path = reverse("dcr_callback", kwargs={"provider_id": provider_id})
    return str(build_absolute_uri(request, path))

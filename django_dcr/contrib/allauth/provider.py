"""The provider that ``allauth.urls`` and the login page find by this module's name."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.oauth2.utils import generate_code_challenge
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.http import HttpRequest, HttpResponse

from django_dcr.contrib.allauth.adapter import PROVIDER
from django_dcr.contrib.allauth.views import RegistrationAdapter
from django_dcr.exceptions import DCRError
from django_dcr.models import ClientRegistration
from django_dcr.services import (
    check_login_request,
    code_challenge_method,
    for_login,
    login_attempt,
    resume_login,
)


class RegisteredClientProvider(OpenIDConnectProvider):
    """OpenID Connect with the client of a registration, its server and its authentication."""

    id = PROVIDER
    name = "OAuth client registration"
    oauth2_adapter_class = RegistrationAdapter
    # An ID token that a browser sends does not say where its login began.
    supports_token_authentication = False

    #: Whether this request ends a login.
    is_callback = False
    #: The resource of the authorization request (RFC 8707).
    resource: str | None = None

    @cached_property
    def registration(self) -> ClientRegistration:
        """The usable registration, of this request alone. Raises any DCRError."""
        key = {name: self.app.settings[name] for name in ("issuer", "owner")}
        registration = resume_login(key) if self.is_callback else for_login(**key)
        self.app.client_id = registration.client_id  # a renewal may have changed it
        self.request.dcr_registration = registration
        return registration

    def get_oauth2_adapter(self, request: HttpRequest) -> RegistrationAdapter:
        adapter: RegistrationAdapter = super().get_oauth2_adapter(request)
        adapter.provider = self
        return adapter

    def get_pkce_params(self) -> dict[str, Any]:
        return generate_code_challenge() if code_challenge_method(self.registration) else {}

    def redirect(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Send the user to the registration's server, and store where this login began."""
        try:
            adapter = self.get_oauth2_adapter(request)
            check_login_request(self.registration, adapter.get_callback_url(request, self.app))
            attempt: dict[str, Any] = login_attempt(self.registration)
            parameters = kwargs.get("auth_params") or self.get_auth_params()
            if resource := parameters.get("resource"):
                attempt["resource"] = resource
            response: HttpResponse = super().redirect(
                request, *args, login_attempt=attempt, **kwargs
            )
        except DCRError as exc:
            response = render_authentication_error(request, self, exception=exc)
        return response

    def serialize(self) -> dict[str, Any]:
        # Two servers may give the same client_id.
        return {"id": self.sub_id}


provider_classes = [RegisteredClientProvider]

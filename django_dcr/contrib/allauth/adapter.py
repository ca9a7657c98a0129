"""allauth's adapter: which clients there are, and the session for requests to their servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp
from django.http import HttpRequest

from django_dcr import protocol
from django_dcr.contrib.logins import log_failure
from django_dcr.models import ClientRegistration
from django_dcr.services import login_scope, login_session

PROVIDER = "dcr"


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """allauth's adapter, with the registrations among the apps: for ``SOCIALACCOUNT_ADAPTER``."""

    def list_registrations(self, request: HttpRequest | None) -> Iterable[ClientRegistration]:
        """Return the registrations that the login page offers: the site's own, unless overridden.

        Others can be used, too, through the address of their login.
        """
        rows = ClientRegistration.objects.live().active().filter(owner="", server__enabled=True)
        return rows.select_related("server").order_by("pk")

    def list_apps(
        self, request: HttpRequest | None, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """Return allauth's own apps, and an unsaved one without a secret per registration."""
        found = super().list_apps(request, provider=provider, client_id=client_id)
        if provider in (None, PROVIDER):
            rows = self.list_registrations(request)
        else:
            named = ClientRegistration.objects.live().active().filter(key_digest=provider)
            rows = named.select_related("server")
        return [*found, *(_app(row) for row in rows if client_id in (None, row.client_id))]

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: str | None = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        """Log why a login failed, which the user's page does not say."""
        if provider.id == PROVIDER and exception is not None:
            log_failure(exception)
        super().on_authentication_error(request, provider, error, exception, extra_context)

    def get_requests_session(self) -> Any:
        """Return a session under this app's rules for requests to a registration's server."""
        session = super().get_requests_session()
        registration = getattr(self.request, "dcr_registration", None)
        return session if registration is None else login_session(session, registration)


def _app(registration: ClientRegistration) -> SocialApp:
    """Return allauth's model of a client, without the secret."""
    server, scope = registration.server, login_scope(registration)
    withheld = protocol.unusable_endpoints(
        server.metadata,
        ["userinfo_endpoint"],
        issuer=server.issuer,
        trusted_origins=server.trusted_origins,
    )
    return SocialApp(
        provider=PROVIDER,
        provider_id=registration.key_digest,  # which identifies the issuer and the owner
        name=str(server),
        client_id=registration.client_id,
        settings={
            "server_url": server.metadata_url,
            "issuer": server.issuer,
            "owner": registration.owner,
            "fetch_userinfo": bool(server.metadata.get("userinfo_endpoint")) and not withheld,
            **({"scope": scope.split()} if scope else {}),
        },
    )

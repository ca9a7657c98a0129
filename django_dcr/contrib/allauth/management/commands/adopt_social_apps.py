"""Adopt the clients of allauth's own apps for OpenID Connect servers."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from allauth.socialaccount.models import SocialApp
from django.core.management import BaseCommand, CommandError
from django.views.decorators.debug import sensitive_variables

from django_dcr.exceptions import DCRError, NotAllowedError
from django_dcr.models import ClientRegistration, Status, actor, live_registration
from django_dcr.services import adopt
from django_dcr.text import clean


class Command(BaseCommand):
    help = (
        "Store the clients of allauth's apps for OpenID Connect servers as registrations. The apps "
        "stay as they are, and what is stored already is passed over."
    )
    requires_system_checks = ("django_dcr",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--owner",
            help='whose clients these are, "" for the site (default: the provider_id of each)',
        )

    def handle(self, *, owner: str | None, **options: Any) -> None:
        failed: list[str] = []
        apps = SocialApp.objects.filter(provider="openid_connect").order_by("pk")
        with actor("manage.py adopt_social_apps"):
            for app in apps:
                try:
                    row = _adopted(app, app.provider_id if owner is None else owner)
                except DCRError as exc:
                    failed.append(f"  {clean(app.name, 60)}: {exc}")
                else:
                    self.stdout.write(f"{clean(app.name, 60)}: registration {row.pk}")
        if failed:
            raise CommandError("\n".join(["Not adopted:", *failed]))


@sensitive_variables()
def _adopted(app: SocialApp, owner: str) -> ClientRegistration:
    issuer = _issuer(app)
    found = live_registration(issuer, owner)
    if found and (found.status, found.client_id) == (Status.ACTIVE, app.client_id.strip()):
        return found
    # As allauth has it: its default is the first method of the server's metadata.
    method = app.settings.get("token_auth_method")
    return adopt(
        issuer,
        owner,
        client_id=app.client_id,
        client_secret=app.secret or None,
        metadata={"token_endpoint_auth_method": method} if method else None,
    )


def _issuer(app: SocialApp) -> str:
    """Return the issuer of an app's server, of which the app may name the metadata document."""
    url = str(app.settings.get("server_url") or "")
    if not url:
        raise NotAllowedError("The app's settings name no server_url; adopt it with: dcr_adopt")
    issuer, found, rest = url.partition("/.well-known/")
    # Inserted between host and path, or appended (RFC 8414 section 5).
    path = rest.partition("/")[2] if found else ""
    return f"{issuer}/{path}" if path else issuer

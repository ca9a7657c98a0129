from __future__ import annotations

from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management import CommandError
from django.db import models

from django_dcr.exceptions import DCRError
from django_dcr.fields import digest
from django_dcr.management.failures import check_row
from django_dcr.management.output import DCRCommand, moment
from django_dcr.models import AuthorizationServer, CachedDocument, ProtectedResource
from django_dcr.services import discover, discover_resource
from django_dcr.text import clean


class Command(DCRCommand):
    help = (
        "Ask an authorization server (RFC 8414) or a protected resource (RFC 9728) for its "
        "metadata, store it and show it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "issuer", nargs="?", help="the issuer identifier, exactly as the server has it"
        )
        parser.add_argument(
            "--resource",
            metavar="URL",
            help="the address of a protected resource, in place of an issuer",
        )
        parser.add_argument(
            "--pin",
            metavar="ISSUER",
            help="with --resource: the server to register at, one that the resource names; "
            '"" for the only one',
        )
        parser.add_argument(
            "--alias",
            metavar="NAME",
            help="with --resource: the resource that its metadata may state in place of the URL, "
            'such as its origin; "" for none',
        )

    def handle(
        self,
        *,
        issuer: str | None,
        resource: str | None,
        pin: str | None,
        alias: str | None,
        **options: Any,
    ) -> None:
        if resource is not None and issuer is None:
            self._discover_resource(resource, pin, alias)
        elif issuer is None or resource is not None:
            raise CommandError("Give either an issuer or --resource URL.")
        elif pin is not None or alias is not None:
            raise CommandError("--pin and --alias go with --resource.")
        else:
            self._discover(issuer)

    def _discover(self, issuer: str) -> None:
        servers = AuthorizationServer.objects
        is_new = not servers.filter(issuer_digest=digest(issuer)).exists()
        server = servers.for_issuer(issuer)
        try:
            discover(server, refresh=True)
        except DCRError:
            if is_new:  # the issuer may be mistyped
                with suppress(models.ProtectedError):
                    server.delete()
            raise
        if "registration_endpoint" not in server.metadata:
            self.note(
                "Warning: this server offers no registration: its metadata names no "
                "registration_endpoint. Ask its operator to enable it."
            )
        if server.untrusted_origins:
            self.note(
                "Warning: some endpoints are on other origins, and are not used until the "
                "server's trusted_origins list these: "
                f"{clean(', '.join(server.untrusted_origins), 400)}"
            )
        self.write_document(
            {
                **_found(server),
                "supports_documents": server.takes_documents,
                "supports_registration": "registration_endpoint" in server.metadata,
                "untrusted_origins": server.untrusted_origins,
                "supports_pkce": server.supports_pkce,
                "metadata": server.metadata,
            }
        )

    def _discover_resource(self, url: str, pin: str | None, alias: str | None) -> None:
        if alias is not None:
            _set(ProtectedResource.objects.for_resource(url), alias=alias)
        resource = discover_resource(url, refresh=True)
        if pin:
            resource.choose_issuer(pin)
        if pin is not None:
            _set(resource, pinned_issuer=pin)
        try:
            chosen: str | None = resource.choose_issuer()
        except DCRError as exc:
            chosen = None
            self.note(f"Warning: {exc}")
        servers = resource.servers
        self.write_document(
            {
                **_found(resource),
                "asked_in_vain": [f"{place} {outcome}" for place, outcome in resource.attempts],
                "alias": resource.alias,
                "indicator": resource.indicator,
                "pinned_issuer": resource.pinned_issuer,
                "server": chosen,
                "allowed_servers": [issuer for issuer, refusal in servers.items() if not refusal],
                "refused_servers": {issuer: text for issuer, text in servers.items() if text},
                "scopes_supported": resource.offered("scopes_supported"),
                "metadata": resource.metadata,
            }
        )


def _found(row: CachedDocument) -> dict[str, Any]:
    return {
        row.IDENTITY: row.identity,
        "metadata_url": row.metadata_url,
        "fetched_at": moment(row.fetched_at),
        "fresh_until": moment(row.fresh_until),
    }


def _set(resource: ProtectedResource, **values: str) -> None:
    """Store values that an operator has chosen."""
    for name, value in values.items():
        setattr(resource, name, value)
    check_row(resource)
    resource.save(update_fields=[*values, "updated_at"])

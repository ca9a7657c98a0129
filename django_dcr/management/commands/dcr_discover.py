from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django_dcr.management.output import DCRCommand, moment
from django_dcr.models import AuthorizationServer
from django_dcr.services import discover
from django_dcr.text import clean


class Command(DCRCommand):
    help = "Ask an authorization server for its metadata, store it and show it (RFC 8414)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as the server has it")

    def handle(self, *, issuer: str, **options: Any) -> None:
        server = discover(AuthorizationServer.objects.for_issuer(issuer), refresh=True)
        if "registration_endpoint" not in server.metadata:
            self.note(
                "Warning: this server offers no registration: its metadata names no "
                "registration_endpoint. Ask its operator to turn it on."
            )
        if server.untrusted_origins:
            self.note(
                "Warning: some endpoints are on other origins, and are not used until the "
                "server's trusted_origins list these: "
                f"{clean(', '.join(server.untrusted_origins), 400)}"
            )
        self.write_document(
            {
                "issuer": server.issuer,
                "metadata_url": server.metadata_url,
                "fetched_at": moment(server.fetched_at),
                "fresh_until": moment(server.fresh_until),
                "supports_documents": server.takes_documents,
                "supports_registration": "registration_endpoint" in server.metadata,
                "untrusted_origins": server.untrusted_origins,
                "supports_pkce": server.supports_pkce,
                "metadata": server.metadata,
            }
        )

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django_dcr.management.output import DCRCommand
from django_dcr.models import AuthorizationServer
from django_dcr.services import discover
from django_dcr.services.discovery import untrusted_origins


class Command(DCRCommand):
    help = "Ask an authorization server for its metadata, store it and show it (RFC 8414)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as the server has it")

    def handle(self, *, issuer: str, **options: Any) -> None:
        server = discover(AuthorizationServer.objects.for_issuer(issuer), refresh=True)
        untrusted = untrusted_origins(server)
        self.write_document(
            {
                "issuer": server.issuer,
                "metadata_url": server.metadata_url,
                "fetched_at": _text(server.fetched_at),
                "fresh_until": _text(server.fresh_until),
                "supports_registration": "registration_endpoint" in server.metadata,
                "supports_pkce": server.supports_pkce,
                "untrusted_origins": untrusted,
                "metadata": server.metadata,
            }
        )
        if untrusted:
            self.note(
                f"The server has endpoints at {', '.join(untrusted)}, which are not the issuer's "
                "origin, and those are not used. If you trust them, add them to the server's "
                "trusted_origins in the admin."
            )


def _text(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="seconds")

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django_dcr.management.output import DCRCommand
from django_dcr.models import AuthorizationServer
from django_dcr.services import discover


class Command(DCRCommand):
    help = "Ask an authorization server for its metadata, store it and show it (RFC 8414)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("issuer", help="the issuer identifier, exactly as the server has it")

    def handle(self, *, issuer: str, **options: Any) -> None:
        server = discover(AuthorizationServer.objects.for_issuer(issuer), refresh=True)
        self.write_document(
            {
                "issuer": server.issuer,
                "metadata_url": server.metadata_url,
                "fetched_at": _text(server.fetched_at),
                "fresh_until": _text(server.fresh_until),
                "supports_registration": "registration_endpoint" in server.metadata,
                "supports_pkce": server.supports_pkce,
                "metadata": server.metadata,
            }
        )


def _text(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="seconds")

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import Any

from django_dcr.management.registrations import RegistrationsCommand
from django_dcr.models import Status
from django_dcr.services import revoke


class Command(RegistrationsCommand):
    help = "Delete registrations at their servers and wipe the credentials (RFC 7592)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--forget",
            action="store_true",
            help="close them here even where the server cannot be asked or refuses",
        )

    def handle(self, *, forget: bool, **options: Any) -> None:
        unclosed = [status for status in Status if status != Status.REVOKED]
        self.work(self.choose(options, *unclosed), partial(revoke, forget=forget), done="revoked")

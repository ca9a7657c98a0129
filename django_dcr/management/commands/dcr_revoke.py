from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import Any

from django_dcr.management.queue import QueueCommand
from django_dcr.models import Status
from django_dcr.services import revoke


class Command(QueueCommand):
    help = "Delete registrations at their servers and wipe the credentials (RFC 7592)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--forget",
            action="store_true",
            help="close them here even where the server cannot be asked or refuses",
        )

    def handle(self, *, forget: bool, queue: bool, **options: Any) -> None:
        unclosed = [status for status in Status if status != Status.REVOKED]
        rows = self.choose(options, *unclosed)
        if queue:
            self.enqueue(rows, "forget" if forget else "revoke")
        else:
            self.work(rows, partial(revoke, forget=forget), done="revoked")

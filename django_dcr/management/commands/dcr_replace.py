from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.core.management import CommandError

from django_dcr.management.selection import ActionCommand
from django_dcr.mechanisms import AUTOMATIC
from django_dcr.models import Status
from django_dcr.services import replace


class Command(ActionCommand):
    help = (
        "Put a new client in the place of each registration, then delete the old one: after a "
        "secret has leaked, or to move to another mechanism."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--mechanism",
            choices=AUTOMATIC,
            help="how to get the new clients (default: as the old ones); registrations that are "
            "not named by their id, and have this mechanism already, are left alone",
        )

    def handle(self, *, mechanism: str | None, **options: Any) -> None:
        rows = self.choose(options, Status.ACTIVE)
        if not options["ids"]:
            rows = rows.live()
            rows = rows.exclude(mechanism=mechanism) if mechanism else rows
        if options["queue"] and mechanism:
            raise CommandError("A queued job cannot carry --mechanism; use --workers instead.")

        service = partial(replace, mechanism=mechanism)
        self.carry_out("replace", rows, options, service=service, done="replaced")

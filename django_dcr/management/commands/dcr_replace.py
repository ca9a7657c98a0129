from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError

from django_dcr.management.queue import QueueCommand
from django_dcr.mechanisms import AUTOMATIC
from django_dcr.models import ClientRegistration, Status
from django_dcr.services import replace


class Command(QueueCommand):
    help = (
        "Put a new client in the place of each registration, then delete the old one: after a "
        "secret has leaked, or to move to another mechanism."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--mechanism",
            choices=AUTOMATIC,
            help="how the new clients come about (default: as the old ones did); registrations "
            "that are chosen by what they have in common, and came about so, are left alone",
        )

    def handle(self, *, mechanism: str | None, **options: Any) -> None:
        rows = self.choose(options, Status.ACTIVE)
        if not options["ids"]:
            rows = rows.live()
            rows = rows.exclude(mechanism=mechanism) if mechanism else rows
        if options["queue"] and mechanism:
            raise CommandError("A queued job cannot carry --mechanism; use --workers instead.")

        def act(registration: ClientRegistration) -> ClientRegistration:
            successor = replace(registration, mechanism=mechanism)
            self.note(f"Registration {registration.pk} was replaced by {successor.pk}.")
            return successor

        self.carry_out(rows, options, action="replace", service=act, done="replaced")

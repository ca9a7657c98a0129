from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django_dcr.management import arguments
from django_dcr.management.selection import ActionCommand
from django_dcr.models import ClientRegistration, Status


class Command(ActionCommand):
    help = (
        "Ask the servers for the client metadata that registrations request (RFC 7592): changed "
        "with --set, replaced with --metadata, or as it is, after the defaults have changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        arguments.add_metadata(parser)

    def handle(self, *, metadata: str | None, changes: list[str], **options: Any) -> None:
        requested = arguments.read_metadata(metadata, changes)

        def change(registration: ClientRegistration) -> ClientRegistration:
            registration.request_metadata(requested(registration.requested_metadata))
            return registration

        rows = self.choose(options, Status.ACTIVE)
        self.carry_out("update", rows, options, done="updated", change=change)

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django_dcr.management import client_metadata
from django_dcr.management.queue import QueueCommand
from django_dcr.models import ClientRegistration, Status
from django_dcr.services import update


class Command(QueueCommand):
    help = (
        "Ask the servers for the client metadata that registrations request (RFC 7592): changed "
        "with --set, replaced with --metadata, or as it is, after the defaults have changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        client_metadata.add_arguments(parser)

    def handle(self, *, metadata: str | None, changes: list[str], **options: Any) -> None:
        members = client_metadata.read_changes(changes)
        document = client_metadata.read_document(metadata)

        def change(registration: ClientRegistration) -> ClientRegistration:
            stored = registration.requested_metadata
            registration.request_metadata(client_metadata.requested(stored, document, members))
            return registration

        rows = self.choose(options, Status.ACTIVE)
        self.carry_out(
            rows, options, action="update", service=update, done="updated", change=change
        )

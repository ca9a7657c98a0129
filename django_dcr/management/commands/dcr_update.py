from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django_dcr import protocol
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

    def handle(
        self, *, metadata: str | None, changes: list[str], queue: bool, **options: Any
    ) -> None:
        members = client_metadata.read_changes(changes)
        document = client_metadata.read_document(metadata)

        def wish(registration: ClientRegistration) -> ClientRegistration:
            stored = registration.requested_metadata
            registration.requested_metadata = client_metadata.requested(stored, document, members)
            protocol.check_client_metadata(registration.asked)
            return registration

        def store(registration: ClientRegistration) -> None:
            registration.has_drift = bool(wish(registration).drift)
            fields = ["requested_metadata", "has_drift", "updated_at"]
            registration.save(update_fields=fields)

        rows = self.choose(options, Status.ACTIVE)
        if queue:
            self.enqueue(rows, "update", prepare=store)
        else:
            self.work(rows, lambda registration: update(wish(registration)), done="updated")

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError

from django_dcr.management.output import DCRCommand
from django_dcr.management.selection import with_ids
from django_dcr.models import ClientRegistration
from django_dcr.services import inspect_document


class Command(DCRCommand):
    help = (
        "Show the metadata document that is a registration's client, fetch it as authorization "
        "servers do, and say what they would refuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pk", metavar="ID", help="the registration's id")

    def handle(self, *, pk: str, **options: Any) -> None:
        registration = with_ids(ClientRegistration.objects.select_related("server"), [pk]).get()
        found = inspect_document(registration)
        self.write_document(
            {
                "url": registration.client_id,
                "document": found.document,
                "faults": found.faults,
                "warnings": found.warnings,
            }
        )
        if found.faults:
            raise CommandError(
                f"Servers would refuse the document {registration.client_id}: "
                f"{'; '.join(found.faults)}."
            )
        self.note("Servers can use this document.")

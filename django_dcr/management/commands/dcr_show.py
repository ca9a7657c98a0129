from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError

from django_dcr.fields import Secret
from django_dcr.management.output import SECRETS, DCRCommand
from django_dcr.management.selection import among
from django_dcr.models import ClientRegistration


class Command(DCRCommand):
    help = "Show one registration in full."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pk", metavar="ID", help="the registration's id")
        parser.add_argument("--reveal", action="store_true", help="show the secrets too")

    def handle(self, *, pk: str, reveal: bool, **options: Any) -> None:
        rows = among(ClientRegistration.objects.select_related("server"), [pk])
        registration = rows.get()
        secrets = None
        if reveal:
            stored = {name: getattr(registration, name) for name in SECRETS}
            secrets = {name: _revealed(secret) for name, secret in stored.items()}
            if not registration.note("reveal"):
                raise CommandError("Another process is at work on this registration. Try again.")
        self.write_registration(registration, secrets=secrets)


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()

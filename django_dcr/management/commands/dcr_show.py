from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError

from django_dcr.fields import Secret
from django_dcr.management.output import SECRETS, DCRCommand, moment
from django_dcr.management.selection import with_ids
from django_dcr.models import ClientRegistration, RegistrationEvent


class Command(DCRCommand):
    help = "Show one registration in full."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("pk", metavar="ID", help="the registration's id")
        shown = parser.add_mutually_exclusive_group()
        shown.add_argument("--reveal", action="store_true", help="show the secrets too")
        shown.add_argument(
            "--history",
            action="store_true",
            help="show what happened to it instead, the oldest first: when, who, what and how",
        )

    def handle(self, *, pk: str, reveal: bool, history: bool, **options: Any) -> None:
        rows = with_ids(ClientRegistration.objects.select_related("server"), [pk])
        registration = rows.get()
        if history:
            events = registration.events.order_by("pk")
            self.write_rows(map(self._describe, events), none="No events.")
            return
        secrets = None
        if reveal:
            stored = {name: getattr(registration, name) for name in SECRETS}
            secrets = {name: _revealed(secret) for name, secret in stored.items()}
            if not registration.note("reveal"):
                raise CommandError("Another process is at work on this registration. Try again.")
        self.write_registration(registration, secrets=secrets)

    def _describe(self, event: RegistrationEvent) -> dict[str, Any]:
        at = moment(event.at)
        if self.stdout.isatty() and not self.as_json:
            at = at[: len("2027-01-31T12:00:00")]  # no room for the offset
        names = ("actor", "action", "outcome", "error", "new_secret", "note")
        return {"at": at, **{name: getattr(event, name) for name in names}}


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()

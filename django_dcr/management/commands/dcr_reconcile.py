from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management import CommandError

from django_dcr.management.interruptions import under_way
from django_dcr.management.output import Row
from django_dcr.management.selection import WorkCommand, among
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet, Status
from django_dcr.services import retry, revoke
from django_dcr.services.reconciliation import settled
from django_dcr.services.runs import one_run


class Command(WorkCommand):
    help = (
        "Settle what crashes and lost answers left behind, and name what needs a person; or, "
        "with --retry and --forget, carry out what a person has decided."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--retry",
            action="append",
            default=[],
            dest="retried",
            metavar="ID",
            help="register a new client in place of this unknown or gone registration",
        )
        parser.add_argument(
            "--forget",
            action="append",
            default=[],
            dest="forgotten",
            metavar="ID",
            help="close this registration here, whatever its server holds",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="print the registrations that are to be settled; send and store nothing",
        )

    def handle(
        self, *, retried: list[str], forgotten: list[str], dry_run: bool, **options: Any
    ) -> None:
        if retried or forgotten:
            self._decide(retried, forgotten, dry_run=dry_run)
        elif dry_run:
            self._preview(ClientRegistration.objects.needs_reconciliation(), "settled")
        else:
            self._settle()

    def _preview(self, rows: ClientRegistrationQuerySet, done: str) -> None:
        done = f"would be {done}; nothing was sent or stored"
        self.work(rows, lambda registration: registration, done=done)
        self._note_leases()

    def _note_leases(self) -> None:
        held = under_way()
        if held:
            self.note(f"{held} Then run this again.")

    def _decide(self, retried: list[str], forgotten: list[str], *, dry_run: bool) -> None:
        every = ClientRegistration.objects.all()
        again = set(among(every, retried).values_list("pk", flat=True))
        if not again.isdisjoint(among(every, forgotten).values_list("pk", flat=True)):
            raise CommandError("Decide for --retry or --forget, not for both.")

        def act(registration: ClientRegistration) -> ClientRegistration:
            if registration.pk not in again:
                return revoke(registration, forget=True)
            try:
                return retry(registration)
            finally:
                # Whether the new one was registered or not: from here on it is the one to look at.
                row = ClientRegistration.objects.with_places().get(pk=registration.pk)
                if row.replaced_by:
                    self.note(f"Registration {row.pk} was replaced by {row.replaced_by}.")

        rows = among(every, [*retried, *forgotten])
        if dry_run:
            self._preview(rows, "decided")
        else:
            self.work(rows, act, done="decided", leaves_silent=not forgotten)

    def _settle(self) -> None:
        outcomes: list[str | None] = []

        def rows() -> Iterator[Row]:
            for row in settled():
                reason = _open(row)
                outcomes.append(reason and f"  {row.pk} ({row.status}): {reason}")
                yield row, {"error": reason}

        with one_run():
            self.write_registrations(rows(), none="Nothing to settle.")
        lines = [line for line in outcomes if line]
        text = f"{len(outcomes) - len(lines)} of {len(outcomes)} settled."
        if lines:
            advice = "Decide on the unknown ones with: manage.py dcr_reconcile --retry ID, or "
            raise CommandError("\n".join([f"{text} Not settled:", *lines, f"{advice}--forget ID"]))
        self.note(text)
        self._note_leases()


def _open(registration: ClientRegistration) -> str | None:
    """Why the row needs a person or another run, or None where it is settled."""
    in_doubt = registration.status in (Status.UNKNOWN, Status.REVOKING)
    is_spare = registration.status == Status.ACTIVE and not registration.live
    if in_doubt or is_spare or registration.lease:
        return registration.last_error or "The answer was lost."
    return None

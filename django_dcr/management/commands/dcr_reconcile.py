from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management import CommandError

from django_dcr.exceptions import DCRError
from django_dcr.management.failures import describe_leases
from django_dcr.management.output import Row
from django_dcr.management.selection import with_ids
from django_dcr.management.work import WorkCommand
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet, Status
from django_dcr.runs import one_run
from django_dcr.services import retry, revoke
from django_dcr.services.reconciliation import settled


class Command(WorkCommand):
    help = (
        "Settle what crashes and lost responses have left, and list what needs a decision; or, "
        "with --retry and --forget, carry out what was decided."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--retry",
            action="append",
            default=[],
            dest="retried",
            metavar="ID",
            help="register a new client to replace this unknown or gone registration",
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
            help="print the registrations to reconcile; send and store nothing",
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
        leases = describe_leases()
        if leases:
            self.note(f"{leases} Then run this again.")

    def _decide(self, retried: list[str], forgotten: list[str], *, dry_run: bool) -> None:
        every = ClientRegistration.objects.all()
        to_retry = set(with_ids(every, retried).values_list("pk", flat=True))
        if not to_retry.isdisjoint(with_ids(every, forgotten).values_list("pk", flat=True)):
            raise CommandError("Decide for --retry or --forget, not for both.")

        def carry_out(registration: ClientRegistration) -> ClientRegistration:
            if registration.pk not in to_retry:
                return revoke(registration, forget=True)
            try:
                return retry(registration)
            except DCRError:
                # The new registration may have failed: then it is the one to retry next.
                row = ClientRegistration.objects.with_replacements().get(pk=registration.pk)
                if row.replaced_by:
                    self.note(f"Registration {row.pk} was replaced by {row.replaced_by}.")
                raise

        rows = with_ids(every, [*retried, *forgotten])
        if dry_run:
            self._preview(rows, "decided")
        else:
            self.work(rows, carry_out, done="decided", leaves_silent=not forgotten)

    def _settle(self) -> None:
        seen: list[int] = []
        unsettled: list[str] = []

        def rows() -> Iterator[Row]:
            for row in settled():
                seen.append(row.pk)
                reason = _reason(row)
                if reason:
                    unsettled.append(f"  {row.pk} ({row.status}): {reason}")
                    reason = self.failure_cell(reason)
                yield row, {"error": reason}

        with one_run():
            self.write_registrations(rows(), none="Nothing to settle.")
        text = f"{len(seen) - len(unsettled)} of {len(seen)} settled."
        if unsettled:
            advice = "Decide on the unknown ones with: manage.py dcr_reconcile --retry ID, or "
            unsettled.append(f"{advice}--forget ID")
        self.sum_up(text, unsettled, label="Not settled:")
        self._note_leases()


def _reason(registration: ClientRegistration) -> str | None:
    """Return why the row needs a decision or another run, or None where it is settled."""
    in_doubt = registration.status in (Status.UNKNOWN, Status.REVOKING)
    is_orphaned = registration.status == Status.ACTIVE and not registration.live
    if in_doubt or is_orphaned or registration.lease:
        return registration.last_error or "The response was lost."
    return None

"""Leaving the work of a command to the background."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management import CommandError

from django_dcr import tasks
from django_dcr.exceptions import NetworkError
from django_dcr.management.selection import RegistrationsCommand, threads
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet


class QueueCommand(RegistrationsCommand):
    """A command on registrations that ``--queue`` lets others do, one job a registration."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--workers",
            type=threads,
            default=1,
            metavar="N",
            help="work on so many registrations at once, each in a thread (default 1)",
        )
        parser.add_argument(
            "--queue",
            action="store_true",
            help="do not wait: hand one job a registration to DCR_TASK_RUNNER",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="print the registrations that are meant; send and store nothing",
        )

    def carry_out(
        self,
        rows: ClientRegistrationQuerySet,
        options: Mapping[str, Any],
        *,
        action: str,
        service: Callable[[ClientRegistration], ClientRegistration],
        done: str,
        change: Callable[[ClientRegistration], ClientRegistration] | None = None,
    ) -> None:
        """Call ``service`` on each row, hand that over as ``action``, or only print the rows.

        ``wish`` changes what a row requests, and is called first in each case.
        """
        if options["dry_run"]:
            self.work(
                rows, change or _unchanged, done=f"would be {done}; nothing was sent or stored"
            )
        elif options["queue"]:
            self.enqueue(rows, action, change=change)
        elif change is None:
            # Those that are forgotten need no answer.
            self.work(rows, service, done=done, leaves_silent=action != "forget")
        else:
            self.work(rows, lambda registration: service(change(registration)), done=done)

    def enqueue(
        self,
        rows: ClientRegistrationQuerySet,
        action: str,
        *,
        change: Callable[[ClientRegistration], ClientRegistration] | None = None,
    ) -> None:
        """Hand the jobs over, print the registrations as they are now, and sum up.

        What ``wish`` changes is stored on the row, since nothing but its key travels.
        CommandError where there is no queue, or it cannot be reached.
        """
        if tasks.runner() is None:
            raise CommandError(
                'There is no queue: DCR_TASK_RUNNER is "inline". Set it to "django.tasks" or '
                '"celery", or leave out --queue.'
            )

        def act(registration: ClientRegistration) -> ClientRegistration:
            if change is not None:
                fields = [*registration.REQUEST_FIELDS, "updated_at"]
                change(registration).save(update_fields=fields)
            try:
                tasks.enqueue(action, registration.pk)
            except NetworkError as exc:  # so it would be for all that follow
                raise CommandError(f"{exc} What was queued before stays queued.") from exc
            return registration

        self.work(rows, act, done="queued")


def _unchanged(registration: ClientRegistration) -> ClientRegistration:
    return registration

"""Leaving the work of a command to the background."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable

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

    def enqueue(
        self,
        rows: ClientRegistrationQuerySet,
        action: str,
        *,
        prepare: Callable[[ClientRegistration], object] | None = None,
    ) -> None:
        """Hand the jobs over, print the registrations as they are now, and sum up.

        ``prepare`` stores what a job needs on its row, since nothing but its key travels.
        CommandError where there is no queue, or it cannot be reached.
        """
        if tasks.runner() is None:
            raise CommandError(
                'There is no queue: DCR_TASK_RUNNER is "inline". Set it to "django.tasks" or '
                '"celery", or leave out --queue.'
            )

        def act(registration: ClientRegistration) -> ClientRegistration:
            if prepare is not None:
                prepare(registration)
            try:
                tasks.enqueue(action, registration.pk)
            except NetworkError as exc:  # so it would be for all that follow
                raise CommandError(f"{exc} What was queued before stays queued.") from exc
            return registration

        self.work(rows, act, done="queued")

"""Options that select registrations, and options that say how to work on them."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from django.core.management import CommandError

from django_dcr import tasks
from django_dcr.exceptions import NetworkError
from django_dcr.fields import digest
from django_dcr.management.work import Service, WorkCommand
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet, Status
from django_dcr.text import clean


class RegistrationsCommand(WorkCommand):
    """A command whose options select registrations."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", metavar="ID", help="the registrations with these ids")
        parser.add_argument("--issuer", help="those at this authorization server")
        parser.add_argument("--owner", help='those of this owner; "" is the site itself')
        parser.add_argument("--status", choices=Status.values, help="those with this status")
        parser.add_argument("--all", action="store_true", dest="everything", help="all of them")

    def select(self, options: Mapping[str, Any]) -> ClientRegistrationQuerySet:
        """Return the registrations of the options; CommandError for an id that has none."""
        rows = ClientRegistration.objects.select_related("server").order_by("pk")
        if options["issuer"] is not None:
            rows = rows.filter(server__issuer_digest=digest(options["issuer"]))
        owner = options["owner"]
        if owner is not None:
            rows = rows.owned_by(owner)
            # MariaDB compares without regard to case and to spaces at the end.
            found = rows.values_list("pk", "owner").iterator()
            rows = rows.exclude(pk__in=[pk for pk, text in found if text != owner])
        if options["status"] is not None:
            rows = rows.filter(status=options["status"])
        return with_ids(rows, options["ids"]) if options["ids"] else rows

    def choose(self, options: Mapping[str, Any], *statuses: Status) -> ClientRegistrationQuerySet:
        """Return what to work on: in any state where ids or a status are given, else ``statuses``.

        Raises CommandError where no option selects anything, or no registration is stored of
        that issuer or owner.
        """
        if not has_selection(options):
            raise CommandError(
                "Name the registrations: by their ids, or with --issuer, --owner, --status or "
                "--all. See them with: manage.py dcr_list"
            )
        if options["ids"] and options["everything"]:
            raise CommandError("Give ids or --all, not both.")
        rows = self.select(options)
        if options["ids"] or options["status"]:
            return rows
        if not options["everything"] and not rows.exists():
            raise CommandError(
                "No registration of that issuer or owner is stored. See what is with: "
                "manage.py dcr_list"
            )
        return rows.filter(status__in=statuses)


class ActionCommand(RegistrationsCommand):
    """A command that carries out one of the lifecycle's actions: here, or in the background."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--workers",
            type=_workers,
            default=1,
            metavar="N",
            help="work on N registrations at once, each in a thread (default 1)",
        )
        parser.add_argument(
            "--queue",
            action="store_true",
            help="do not wait: enqueue one job per registration in DCR_TASK_RUNNER",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="print the selected registrations; send and store nothing",
        )

    def carry_out(
        self,
        action: str,
        rows: ClientRegistrationQuerySet,
        options: Mapping[str, Any],
        *,
        done: str,
        service: Service | None = None,
        change: Service | None = None,
    ) -> None:
        """Carry out ``action`` for each row, queue a job for each, or only print the rows.

        ``change`` modifies what a row requests first, in each case. ``service`` is called in
        place of the action's own; it cannot be queued.
        """
        call = service or tasks.service(action)
        if options["dry_run"]:
            self.work(
                rows, change or _unchanged, done=f"would be {done}; nothing was sent or stored"
            )
        elif options["queue"]:
            self._enqueue(action, rows, change)
        else:
            self.work(
                rows,
                (lambda row: call(change(row))) if change else call,
                done=done,
                leaves_silent=action != "forget",  # which needs no response
            )

    def _enqueue(
        self, action: str, rows: ClientRegistrationQuerySet, change: Service | None
    ) -> None:
        """Queue a job for each row. What ``change`` modifies is stored: a job is only a key.

        Raises CommandError where there is no queue, or it cannot be reached.
        """
        if tasks.runner() is None:
            raise CommandError(
                'There is no queue: DCR_TASK_RUNNER is "inline". Set it to "django.tasks" or '
                '"celery", or leave out --queue.'
            )

        def enqueue(row: ClientRegistration) -> ClientRegistration:
            if change is not None:
                change(row).save(update_fields=[*row.REQUEST_FIELDS, "updated_at"])
            try:
                tasks.enqueue(action, row.pk)
            except NetworkError as exc:  # as it would be for all others
                raise CommandError(f"{exc} What was queued before stays queued.") from exc
            return row

        self.work(rows, enqueue, done="queued")


def has_selection(options: Mapping[str, Any]) -> bool:
    """Whether the options of a RegistrationsCommand select registrations at all."""
    filters = (options["issuer"], options["owner"], options["status"])
    return bool(options["ids"] or options["everything"] or any(f is not None for f in filters))


def with_ids(rows: ClientRegistrationQuerySet, ids: list[str]) -> ClientRegistrationQuerySet:
    """Return those of ``rows`` that have the ``ids``; CommandError lists ids that none has."""
    # 64 bits hold every number of 18 digits.
    wrong = [text for text in ids if not re.fullmatch("[0-9]{1,18}", text)]
    if wrong:
        raise CommandError(f"An id is a number, not {clean(', '.join(wrong))}.")
    wanted = {int(text) for text in ids}
    found = rows.filter(pk__in=wanted)
    missing = sorted(wanted - set(found.values_list("pk", flat=True)))
    if missing:
        raise CommandError(
            f"No such registration: {clean(', '.join(map(str, missing)), 400)}. "
            "See what is stored with: manage.py dcr_list"
        )
    return found


def _workers(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]?", text):
        raise ArgumentTypeError("write a number from 1 to 99")
    return int(text)


def _unchanged(registration: ClientRegistration) -> ClientRegistration:
    return registration

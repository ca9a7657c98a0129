from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_dcr.management.arguments import days
from django_dcr.management.selection import RegistrationsCommand, has_selection
from django_dcr.mechanisms import Mechanism


class Command(RegistrationsCommand):
    help = "List the registrations, past ones included."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--expiring",
            type=days,
            metavar="DAYS",
            help="active ones whose secret has expired or will within DAYS",
        )
        parser.add_argument(
            "--mechanism", choices=Mechanism.values, help="those of clients of this mechanism"
        )

    def handle(self, *, expiring: timedelta | None, mechanism: str | None, **options: Any) -> None:
        rows = self.select(options)
        if mechanism is not None:
            rows = rows.filter(mechanism=mechanism)
        if expiring is not None:
            rows = rows.expiring(timezone.now() + expiring)
        rows = rows.with_replacements() if self.as_json else rows
        narrows = has_selection(options) or mechanism is not None or expiring is not None
        if narrows and not options["everything"]:
            none = "No registration matches. See all with: manage.py dcr_list"
        else:
            none = "No registrations."
        pages = ((row, {"mechanism": str(row.mechanism)}) for row in rows.in_pages())
        self.write_registrations(pages, none=none)

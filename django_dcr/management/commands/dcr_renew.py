from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_dcr.conf import conf
from django_dcr.management.arguments import days
from django_dcr.management.selection import ActionCommand, has_selection
from django_dcr.models import Status


class Command(ActionCommand):
    help = (
        "Get new client secrets: for the registrations named, else for all that are active and "
        "about to expire. Made to be run daily."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--within",
            type=days,
            metavar="DAYS",
            help="only secrets that have expired or will within DAYS (default, where no "
            "registrations are named: DCR_RENEW_BEFORE)",
        )

    def handle(self, *, within: timedelta | None, **options: Any) -> None:
        action = "renew"
        if has_selection(options):
            rows = self.choose(options, Status.ACTIVE)
        else:
            rows = self.select(options)
            if within is None:
                action, within = "renew_if_due", conf.DCR_RENEW_BEFORE
        if within is not None:
            rows = rows.expiring(timezone.now() + within)
        self.carry_out(action, rows, options, done="renewed")

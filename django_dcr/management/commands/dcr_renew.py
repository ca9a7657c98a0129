from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.utils import timezone

from django_dcr.conf import conf
from django_dcr.management.queue import QueueCommand
from django_dcr.management.selection import days, names_some
from django_dcr.models import ClientRegistration, Status
from django_dcr.services import renew, renew_if_due


class Command(QueueCommand):
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
        action, service = "renew", renew
        if names_some(options):
            rows = self.choose(options, Status.ACTIVE)
        else:
            rows = self.select(options)
            if within is None:
                within = conf.DCR_RENEW_BEFORE
                action, service = "renew_if_due", renew_if_due
        if within is not None:
            rows = rows.expiring(timezone.now() + within)
        renewing = partial(self._renew, service)
        self.carry_out(rows, options, action=action, service=renewing, done="renewed")

    def _renew(
        self,
        service: Callable[[ClientRegistration], ClientRegistration],
        registration: ClientRegistration,
    ) -> ClientRegistration:
        holder = service(registration)
        if holder.pk != registration.pk:
            self.note(f"Registration {registration.pk} was replaced by {holder.pk}.")
        return holder

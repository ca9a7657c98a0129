from __future__ import annotations

from typing import Any

from django_dcr.management.registrations import RegistrationsCommand
from django_dcr.models import Status
from django_dcr.services import read


class Command(RegistrationsCommand):
    help = "Ask the servers what they hold of registrations now, and store it (RFC 7592)."

    def handle(self, **options: Any) -> None:
        self.work(self.choose(options, Status.ACTIVE), read, done="read")

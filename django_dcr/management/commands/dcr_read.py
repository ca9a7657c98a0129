from __future__ import annotations

from typing import Any

from django_dcr.management.queue import QueueCommand
from django_dcr.models import Status
from django_dcr.services import read


class Command(QueueCommand):
    help = "Ask the servers what they hold of registrations now, and store it (RFC 7592)."

    def handle(self, **options: Any) -> None:
        rows = self.choose(options, Status.ACTIVE)
        self.carry_out(rows, options, action="read", service=read, done="read")

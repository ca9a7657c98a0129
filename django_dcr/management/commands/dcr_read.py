from __future__ import annotations

from typing import Any

from django_dcr.management.selection import ActionCommand
from django_dcr.models import Status


class Command(ActionCommand):
    help = "Ask the servers what they hold of registrations now, and store it (RFC 7592)."

    def handle(self, **options: Any) -> None:
        self.carry_out("read", self.choose(options, Status.ACTIVE), options, done="read")

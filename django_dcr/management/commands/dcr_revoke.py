from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.db.models import Count, Q

from django_dcr.management.selection import ActionCommand
from django_dcr.mechanisms import MECHANISMS
from django_dcr.models import ClientRegistrationQuerySet, Status
from django_dcr.text import clean

_MAX_SERVERS = 10
# As ``mechanisms.refusal()`` has it for one row.
_CANNOT_BE_DELETED = Q(
    mechanism__in=[name for name, info in MECHANISMS.items() if info.actions["revoke"].refusal]
) & (Q(registration_access_token__isnull=True) | Q(registration_client_uri=""))


class Command(ActionCommand):
    help = "Delete registrations at their servers and wipe the credentials (RFC 7592)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--forget",
            action="store_true",
            help="close them here even where the server cannot be asked or refuses",
        )
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="do not ask for confirmation, as a terminal does unless ids are given",
        )

    def handle(self, *, forget: bool, interactive: bool, **options: Any) -> None:
        rows = self.choose(options, *(status for status in Status if status != Status.REVOKED))
        asks = interactive and not options["ids"] and not options["dry_run"]
        if asks and sys.stdin is not None and sys.stdin.isatty():
            self._confirm(rows if forget else rows.exclude(_CANNOT_BE_DELETED), forget=forget)
        self.carry_out("forget" if forget else "revoke", rows, options, done="revoked")

    def _confirm(self, rows: ClientRegistrationQuerySet, *, forget: bool) -> None:
        """Print how many rows at which servers, and ask; CommandError for any answer but yes."""
        servers = rows.order_by().values_list("server__issuer").annotate(count=Count("pk"))
        counts = list(servers.order_by("-count", "server__issuer"))
        if not counts:
            return
        total = sum(count for _issuer, count in counts)
        registrations = "1 registration" if total == 1 else f"{total} registrations"
        self.note(
            f"This closes {registrations} here, whatever the server says, and wipes the "
            "credentials:"
            if forget
            else f"This deletes {registrations} at the server and wipes the credentials:"
        )
        for issuer, count in counts[:_MAX_SERVERS]:
            self.note(f"  {count} at {clean(issuer)}")
        if len(counts) > _MAX_SERVERS:
            self.note(f"  and more at {len(counts) - _MAX_SERVERS} other servers")
        self.stderr.write("This cannot be undone. Continue? [y/N] ", str, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was revoked.")

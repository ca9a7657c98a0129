from __future__ import annotations

from typing import Any

from django.core.management import CommandError

from django_dcr.management.output import DCRCommand
from django_dcr.models import ClientRegistration, Status
from django_dcr.services import reconcile


class Command(DCRCommand):
    help = "Settle what crashes and lost answers left behind, and name what needs a person."

    def handle(self, **options: Any) -> None:
        rows = reconcile()
        self.write_registrations((row, {"error": _open(row)}) for row in rows)
        undecided = [row for row in rows if _open(row)]
        text = f"{len(rows) - len(undecided)} of {len(rows)} settled."
        if undecided:
            lines = [f"  {row.pk} ({row.status}): {_open(row)}" for row in undecided]
            raise CommandError(
                "\n".join(
                    [
                        text,
                        *lines,
                        "Close what you have decided on with: manage.py dcr_revoke ID --forget",
                    ]
                )
            )
        self.note(text)


def _open(registration: ClientRegistration) -> str | None:
    """Why the row needs a person or another run, or None where it is settled."""
    if registration.status not in (Status.UNKNOWN, Status.REVOKING):
        return None
    return registration.last_error or "The answer was lost."

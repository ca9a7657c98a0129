"""Which registrations are being worked on, for whoever has interrupted that."""

from __future__ import annotations

import math

from django.db import Error

from django_dcr.models import ClientRegistration

_MAX_NAMED = 10


def under_way() -> str:
    """Say which registrations are leased and for how long at most; "" where none is."""
    leases = ClientRegistration.objects.leases()
    if not leases:
        return ""
    named = ", ".join(str(pk) for pk, _seconds in leases[:_MAX_NAMED])
    more = len(leases) - _MAX_NAMED
    more_of_them = f" and {more} more" if more > 0 else ""
    seconds = math.ceil(max(seconds for _pk, seconds in leases))
    return (
        f"A process may still be at work on registration {named}{more_of_them}; if it has ended, "
        f"its lease expires within {seconds} seconds."
    )


def interruption() -> str:
    """Say what an interrupted command leaves behind, and what to do about it."""
    try:
        held = under_way()
        needs_reconciliation = ClientRegistration.objects.needs_reconciliation().exists()
    except Error:
        return "What was under way is recorded; settle it with: manage.py dcr_reconcile"
    if held:
        return f"{held} Then settle what is left with: manage.py dcr_reconcile"
    if needs_reconciliation:
        return "Settle what is left with: manage.py dcr_reconcile"
    return "Nothing was left half-done."

"""Settling what crashes and lost answers left behind."""

from __future__ import annotations

from contextlib import suppress

from django_dcr.exceptions import DCRError
from django_dcr.models import ClientRegistration, Status
from django_dcr.services.management import revoke


def reconcile() -> list[ClientRegistration]:
    """Settle abandoned registrations and deletions; return the rows that were looked at.

    An intent to register whose process is gone becomes "unknown"; an unanswered deletion is
    sent again. A returned row that is still "unknown" or "revoking" needs a person or another
    run, and its ``last_error`` says why. RFC 7591 has neither a list of clients nor an
    idempotency key, so a client whose answer was lost cannot be found.
    """
    rows = list(ClientRegistration.objects.unsettled().select_related("server").order_by("pk"))
    for registration in rows:
        settle(registration)
        if registration.status == Status.REVOKING:
            _delete_again(registration)
    return rows


def settle(registration: ClientRegistration) -> None:
    """Turn an intent to register that nobody works on any more into "unknown"."""
    if registration.status == Status.REGISTERING and registration.claim(Status.REGISTERING):
        registration.fail(
            "The process that sent this ended before the answer came; the server may hold a "
            "client that cannot be named.",
            Status.UNKNOWN,
        )


def _delete_again(registration: ClientRegistration) -> None:
    with suppress(DCRError):  # the row says why
        revoke(registration)

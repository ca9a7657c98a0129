"""Reconciliation: settling the rows that a crash or a lost answer has left unfinished."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from django_dcr.exceptions import DCRError, errors_at
from django_dcr.models import ClientRegistration, Mechanism, Status
from django_dcr.runs import one_run
from django_dcr.services.configuration import recover, revoke, revoke_replaced
from django_dcr.services.operation import refuse_inside_atomic
from django_dcr.services.registration import settle
from django_dcr.services.replacement import finish_interrupted


def reconcile() -> list[ClientRegistration]:
    """Settle the rows that a crash or a lost answer has left unfinished; return these rows.

    An intent to register whose process has ended becomes "unknown". An unanswered deletion is
    sent again, and so is that of a client that could not be adopted. An active client is read
    where the answer to an update may not have been stored, and an interrupted renewal is
    finished. A returned row that is still "unknown" needs a person, who may ``retry()`` or
    ``revoke(forget=True)``; one that is still "revoking" or has a lease needs another run;
    ``last_error`` says why. RFC 7591 has neither a list of clients nor an idempotency key, so a
    client whose answer was lost cannot be found. Raises ConflictError inside a transaction.
    """
    with one_run():
        return list(settled())


def settled() -> Iterator[ClientRegistration]:
    """Settle and yield one row after another; see ``reconcile()``."""
    with errors_at("", "delete"):
        refuse_inside_atomic()
    rows = ClientRegistration.objects.primary().needs_reconciliation().select_related("server")
    for registration in rows.in_pages():
        settle(registration)
        with suppress(DCRError):  # the row says why
            _settle_at_server(registration)
        yield registration


def _settle_at_server(registration: ClientRegistration) -> None:
    status = registration.status
    if status == Status.ACTIVE:
        (recover if registration.live else _settle_orphan)(registration)
    elif status == Status.REVOKING and not registration.live:
        revoke_replaced(registration)
    elif status in (Status.UNKNOWN, Status.REVOKING) and registration.is_manageable:
        revoke(registration)
    elif registration.lease and registration.claim(status, task="reconcile"):
        registration.interrupted = False  # no server was sent anything in this state
        registration.release()


def _settle_orphan(registration: ClientRegistration) -> None:
    """Finish the renewal that registered this client, or delete the client."""
    rows = ClientRegistration.objects.primary().select_related("server").active().live()
    current = rows.for_key(registration.server.issuer, registration.owner).first()
    if current is not None and finish_interrupted(current):
        registration.reload()
        return
    note = ""
    if registration.has_duplicate(registration.client_id):
        note = "Another registration has this client."
    elif registration.mechanism == Mechanism.PRE_REGISTERED:
        # A person's own client is not deleted because its adoption was interrupted.
        note = "Its adoption was interrupted; adopt it again."
    if not note:
        revoke(registration)
    elif registration.claim(Status.ACTIVE, task="reconcile"):
        registration.clear(note)

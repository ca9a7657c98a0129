"""Replacement: registering a new client in place of another one of the same owner and server.

A client in use is replaced without a gap: the new one is live before the old one is deleted.
"""

from __future__ import annotations

from django.db import IntegrityError
from django.utils import timezone

from django_dcr import signals
from django_dcr.exceptions import InvalidResponseError, NotAllowedError
from django_dcr.logs import log_registration
from django_dcr.mechanisms import AUTOMATIC, Mechanism
from django_dcr.models import ClientRegistration, Status
from django_dcr.services.configuration import revoke_replaced
from django_dcr.services.discovery import discover_for
from django_dcr.services.operation import (
    announce,
    check_possible,
    check_state,
    conflict,
    in_place_of,
    operation,
)
from django_dcr.services.registration import COLLISION, register
from django_dcr.text import clean


def replace(
    registration: ClientRegistration, *, mechanism: str | None = None
) -> ClientRegistration:
    """Put another client in the place of an active or gone one; return its row.

    By the same mechanism, or by ``mechanism``: "metadata_document" or "dynamic". The new client
    is live before the old one is deleted at its server, so a login finds one at every moment.
    Where the old one cannot be deleted there, its row is closed and ``last_error`` says so.
    Raises UnsupportedError where the mechanism is not possible here, ConflictError where
    another process has replaced it, and what ``register()`` raises, with the old client kept.
    """
    with operation(registration, "update") as work:
        check_replaceable(registration, mechanism)
        discover_for(registration)
        mechanism = mechanism or registration.mechanism
        if registration.status == Status.GONE:
            return register_again(registration, mechanism, action="replace")
        with work.lease(Status.ACTIVE, task="replace"):
            successor = successor_of(registration, mechanism)
    finish(successor, registration)
    return successor


def retry(registration: ClientRegistration) -> ClientRegistration:
    """Register a new client in place of an "unknown" or "gone" row; return the new row.

    Only a person can decide this: the server may keep the old client, and the old row
    stays as its record. Raises what ``register()`` raises, and ConflictError where another
    registration has the place already.
    """
    with operation(registration, "register"):
        registration.reload()  # another person may have decided a moment ago
        check_state(registration, Status.UNKNOWN, Status.GONE)
        check_possible(registration, "retry")
        return register_again(registration, registration.mechanism, action="retry")


def check_replaceable(registration: ClientRegistration, mechanism: str | None = None) -> None:
    """Raise an error where only a person can make another client in its place."""
    if mechanism is None:
        check_possible(registration, "replace")
    elif mechanism not in AUTOMATIC:
        raise NotAllowedError(
            f"A site makes no client by {clean(mechanism, 60)} itself; choose one of "
            f"{', '.join(AUTOMATIC)}. A client of the server's console is stored with: "
            "manage.py dcr_adopt"
        )


def register_again(
    registration: ClientRegistration, mechanism: str, *, action: str
) -> ClientRegistration:
    """Register a client for the key of a row that gave its own up and stays as a record."""
    try:
        draft = registration.successor(mechanism, action=action)
    except IntegrityError as exc:
        what = "cannot be tried again: its owner has another registration at this server"
        raise conflict(registration, what) from exc
    log_registration("replaced", "Replaced", draft, in_place_of(registration))
    return register(draft)


def successor_of(registration: ClientRegistration, mechanism: str = "") -> ClientRegistration:
    """Register another client and make it the live one, in place of a row that is held."""
    mechanism = mechanism or registration.mechanism
    successor = left_behind(registration, mechanism) or _register(registration, mechanism)
    put_in_place(successor, registration)
    return successor


def put_in_place(successor: ClientRegistration, registration: ClientRegistration) -> None:
    """Make ``successor`` the live row of the key; the other is then "revoking"."""
    try:
        replaced = successor.replace(registration)
    except IntegrityError as exc:
        error = InvalidResponseError(COLLISION)
        successor.delete()  # and never its client, which is another registration's
        raise error from exc
    if not replaced:
        raise conflict(registration, "was taken over while this process waited")
    if successor.client_id == registration.client_id:
        # It is the very client, and to delete it would delete the successor.
        registration.clear(f"Registration {successor.pk} holds this client now.")


def finish(successor: ClientRegistration, replaced: ClientRegistration) -> None:
    """Tell of the new client, and retire the old one, which is no longer handed out."""
    announce(signals.renewed, successor, replaced=replaced)
    if replaced.status == Status.REVOKING:
        revoke_replaced(replaced)


def finish_interrupted(registration: ClientRegistration) -> bool:
    """Put the client that an interrupted renewal has registered in the place of this one.

    Returns False where there is none that is of use.
    """
    with (
        operation(registration, "update", at_any_server=True) as work,
        work.lease(Status.ACTIVE, task="renew"),
    ):
        successor = left_behind(registration)
        if successor is None:
            return False
        put_in_place(successor, registration)
    finish(successor, registration)
    return True


def left_behind(registration: ClientRegistration, mechanism: str = "") -> ClientRegistration | None:
    """Return the new client that an interrupted replacement has registered already."""
    key = registration.server.issuer, registration.owner
    rows = ClientRegistration.objects.primary().for_key(*key)
    rows = rows.filter(mechanism=mechanism) if mechanism else rows
    unfinished = [Status.REGISTERING, Status.UNKNOWN, Status.ACTIVE]
    left = rows.filter(pk__gt=registration.pk, live=None, status__in=unfinished).first()
    if left is None or (left.status == Status.ACTIVE and left.secret_has_expired):
        return None
    if left.status != Status.ACTIVE and left.mechanism == Mechanism.METADATA_DOCUMENT:
        return None  # nothing of it is at any server
    if left.status != Status.ACTIVE:
        raise conflict(
            registration,
            f"was being replaced by registration {left.pk}, whose answer was lost; close that "
            f"with: manage.py dcr_revoke {left.pk} --forget, and renew again",
        )
    left.server = registration.server
    return left


def _register(registration: ClientRegistration, mechanism: str) -> ClientRegistration:
    successor = ClientRegistration(
        server=registration.server,
        owner=registration.owner,
        mechanism=mechanism,
        requested_metadata=registration.requested_metadata,
        renewed_at=timezone.now(),
        live=None,
    )
    try:
        return register(successor)
    finally:
        if successor.pk and successor.status in (Status.DRAFT, Status.REJECTED):
            successor.delete()  # it never came to be, and the old row says why

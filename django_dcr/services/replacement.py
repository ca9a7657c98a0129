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
    is live before the old one is deleted at its server, so logins find one at any time.
    Where the server does not delete the old one, its row is closed and ``last_error`` says so.
    Raises UnsupportedError where the mechanism is not possible here, ConflictError where
    another process has replaced it, and what ``register()`` raises, with the old client kept.
    """
    with operation(registration, "update") as work:
        check_replaceable(registration, mechanism)
        discover_for(registration)
        mechanism = mechanism or registration.mechanism
        if registration.status == Status.GONE:
            return _register_again(registration, mechanism, action="replace")
        with work.lease(Status.ACTIVE, task="replace"):
            successor = replace_leased(registration, mechanism)
    finish(successor, registration)
    return successor


def retry(registration: ClientRegistration) -> ClientRegistration:
    """Register a new client in place of an "unknown" or "gone" row; return the new row.

    Only a person can decide this: the server may keep the old client, and the old row
    stays as its record. Raises what ``register()`` raises, and ConflictError where the owner has
    another registration already.
    """
    with operation(registration, "register"):
        registration.reload()  # another person may have decided a moment ago
        check_state(registration, Status.UNKNOWN, Status.GONE)
        check_possible(registration, "retry")
        return _register_again(registration, registration.mechanism, action="retry")


def finish_interrupted(registration: ClientRegistration) -> bool:
    """Complete an interrupted replacement of this row; return False where there is none."""
    with (
        operation(registration, "update", at_any_server=True) as work,
        work.lease(Status.ACTIVE, task="renew"),
    ):
        successor = _interrupted_replacement(registration)
        if successor is None:
            return False
        make_live(successor, registration)
    finish(successor, registration)
    return True


# -- the steps, for renewal and adoption too ---------------------------------------------------


def check_replaceable(registration: ClientRegistration, mechanism: str | None = None) -> None:
    """Raise an error where only a person can make another client in its place."""
    if mechanism is None:
        check_possible(registration, "replace")
    elif mechanism not in AUTOMATIC:
        raise NotAllowedError(
            f"A site cannot make a client by {clean(mechanism, 60)} itself; choose one of "
            f"{', '.join(AUTOMATIC)}. A client from the server's console is stored with: "
            "manage.py dcr_adopt"
        )


def replace_leased(registration: ClientRegistration, mechanism: str) -> ClientRegistration:
    """Register another client and make it the live one, in place of a row that is leased."""
    successor = _interrupted_replacement(registration, mechanism)
    successor = successor or _register_successor(registration, mechanism)
    make_live(successor, registration)
    return successor


def make_live(successor: ClientRegistration, registration: ClientRegistration) -> None:
    """Make ``successor`` the owner's live row; the other one is then "revoking"."""
    try:
        replaced = successor.replace(registration)
    except IntegrityError as exc:
        error = InvalidResponseError(COLLISION)
        successor.delete()  # only the row: the client is another registration's
        raise error from exc
    if not replaced:
        raise conflict(registration, "was taken over while this process waited")
    if successor.client_id == registration.client_id:
        # The server issued the same client, and deleting it would delete the successor.
        registration.clear(f"Registration {successor.pk} holds this client now.")


def finish(successor: ClientRegistration, replaced: ClientRegistration) -> None:
    """Announce the new client, and revoke the old one, which is no longer in use."""
    announce(signals.renewed, successor, replaced=replaced)
    if replaced.status == Status.REVOKING:
        revoke_replaced(replaced)


# -- registering -------------------------------------------------------------------------------


def _register_again(
    registration: ClientRegistration, mechanism: str, *, action: str
) -> ClientRegistration:
    """Register a client for the owner of a row that stays as a record."""
    try:
        draft = registration.successor(mechanism, action=action)
    except IntegrityError as exc:
        what = "cannot be tried again: its owner has another registration at this server"
        raise conflict(registration, what) from exc
    log_registration("replaced", "Replaced", draft, in_place_of(registration))
    return register(draft)


def _register_successor(registration: ClientRegistration, mechanism: str) -> ClientRegistration:
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
            successor.delete()  # no server has it, and the old row has the error


def _interrupted_replacement(
    registration: ClientRegistration, mechanism: str = ""
) -> ClientRegistration | None:
    """Return the new client that an interrupted replacement has registered already."""
    key = registration.server.issuer, registration.owner
    rows = ClientRegistration.objects.primary().for_key(*key)
    rows = rows.filter(mechanism=mechanism) if mechanism else rows
    unfinished = [Status.REGISTERING, Status.UNKNOWN, Status.ACTIVE]
    found = rows.filter(pk__gt=registration.pk, live=None, status__in=unfinished).first()
    if found is None or (found.status == Status.ACTIVE and found.secret_has_expired):
        return None
    if found.status != Status.ACTIVE:
        if found.mechanism == Mechanism.METADATA_DOCUMENT:
            return None  # no server was sent anything
        raise conflict(
            registration,
            f"was being replaced by registration {found.pk}, whose answer was lost; close that "
            f"with: manage.py dcr_revoke {found.pk} --forget, and renew again",
        )
    found.server = registration.server
    return found

"""A new secret before the old one expires, by whatever way the server offers."""

from __future__ import annotations

from contextlib import suppress

from django.db import IntegrityError
from django.utils import timezone

from django_dcr import signals
from django_dcr.conf import conf
from django_dcr.exceptions import InvalidResponseError, UnsupportedError
from django_dcr.models import ClientRegistration, Status
from django_dcr.services.configuration import recover, replace_metadata, revoke_replaced
from django_dcr.services.discovery import discover_for
from django_dcr.services.operation import Operation, announce, conflict, operation
from django_dcr.services.registration import COLLISION, register

STEP = "update"


def renew(registration: ClientRegistration) -> ClientRegistration:
    """Get a secret with a new lifetime; return the row that holds it.

    First by an update without changes, for which many servers issue a new secret. Where that
    brings none and the secret does expire, a new client is registered, takes the row's place,
    and the old one is revoked: then the returned row is another one. Raises UnsupportedError
    where the secret does not expire and the server issued no new one, and any DCRError, with
    the old secret kept.
    """
    with operation(registration, STEP) as work:
        discover_for(registration)
        seen = registration.client_secret
        with work.lease(Status.ACTIVE, task="renew"):
            if registration.client_secret != seen:
                return registration  # another process has renewed it a moment ago
            renewed = _renewed_in_place(work)
            successor = registration if renewed else _successor(registration)
    if successor is registration:
        announce(signals.renewed, registration)
    else:
        _announce_successor(successor, registration)
    return successor


def renew_if_due(registration: ClientRegistration) -> ClientRegistration:
    """Renew a secret that expires within DCR_RENEW_BEFORE; do nothing to any other.

    Nor is one renewed that a renewal brought less than an hour ago. Where a process was
    interrupted, the server may have issued a new secret that nobody has stored: that is looked
    for first. Raises what ``renew()`` and ``read()`` raise.
    """
    if registration.lease and _is_due(registration):
        recover(registration)
    is_due = _is_due(registration) and not registration.seconds_until_renewal
    return renew(registration) if is_due else registration


def _is_due(registration: ClientRegistration) -> bool:
    row = ClientRegistration.objects.primary().filter(pk=registration.pk)
    return row.expiring(timezone.now() + conf.DCR_RENEW_BEFORE).exists()


def finish_renewal(registration: ClientRegistration) -> bool:
    """Put the client that an interrupted renewal has registered in the place of this one.

    Returns False where there is none that is of use.
    """
    with (
        operation(registration, STEP, at_any_server=True) as work,
        work.lease(Status.ACTIVE, task="renew"),
    ):
        successor = _interrupted_replacement(registration)
        if successor is None:
            return False
        _put_in_place(successor, registration)
    _announce_successor(successor, registration)
    return True


def _announce_successor(successor: ClientRegistration, replaced: ClientRegistration) -> None:
    announce(signals.renewed, successor, replaced=replaced)
    if replaced.status == Status.REVOKING:
        revoke_replaced(replaced)


def _renewed_in_place(work: Operation) -> bool:
    """Update without changes; whether that brought another secret or a longer life."""
    registration = work.registration
    secret, end = registration.client_secret, registration.client_secret_expires_at
    with suppress(UnsupportedError):  # a new client may do where there are no updates
        replace_metadata(work, wanted={}, defaults={}, removed=())
    new_end = registration.client_secret_expires_at
    lives_longer = new_end != end and (not new_end or not end or new_end > end)
    is_renewed = registration.client_secret != secret or lives_longer
    return is_renewed and not registration.secret_has_expired


def _successor(registration: ClientRegistration) -> ClientRegistration:
    """Register a new client in place of one whose secret is about to expire."""
    if not registration.client_secret_expires_at:
        raise UnsupportedError("The server issued no new secret. The present one has no known end.")
    successor = _interrupted_replacement(registration) or _register_again(registration)
    _put_in_place(successor, registration)
    return successor


def _put_in_place(successor: ClientRegistration, registration: ClientRegistration) -> None:
    try:
        replaced = successor.replace(registration)
    except IntegrityError as exc:
        error = InvalidResponseError(COLLISION)
        successor.delete()  # and never its client, which is another registration's
        raise error from exc
    if not replaced:
        raise conflict(registration, "was taken over while this process waited")
    if successor.client_id == registration.client_id:
        # The server has renewed the very client, and to delete it would delete the successor.
        registration.clear(f"Registration {successor.pk} holds this client now.")


def _interrupted_replacement(registration: ClientRegistration) -> ClientRegistration | None:
    """Return the new client that an interrupted renewal has registered already."""
    key = registration.server.issuer, registration.owner
    rows = ClientRegistration.objects.primary().for_key(*key)
    unfinished = [Status.REGISTERING, Status.UNKNOWN, Status.ACTIVE]
    left = rows.filter(pk__gt=registration.pk, live=None, status__in=unfinished).first()
    if left is None or (left.status == Status.ACTIVE and left.secret_has_expired):
        return None
    if left.status != Status.ACTIVE:
        raise conflict(
            registration,
            f"was being replaced by registration {left.pk}, whose answer was lost; close that "
            f"with: manage.py dcr_revoke {left.pk} --forget, and renew again",
        )
    left.server = registration.server
    return left


def _register_again(registration: ClientRegistration) -> ClientRegistration:
    successor = ClientRegistration(
        server=registration.server,
        owner=registration.owner,
        requested_metadata=registration.requested_metadata,
        renewed_at=timezone.now(),
        live=None,
    )
    try:
        return register(successor)
    finally:
        if successor.pk and successor.status in (Status.DRAFT, Status.REJECTED):
            successor.delete()  # it never came to be, and the old row says why

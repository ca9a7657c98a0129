"""A new secret before the old one expires, by whatever way the server offers."""

from __future__ import annotations

from contextlib import suppress

from django_dcr import signals
from django_dcr.exceptions import UnsupportedError
from django_dcr.models import ClientRegistration, Status
from django_dcr.services.configuration import replace_metadata
from django_dcr.services.discovery import discover
from django_dcr.services.leases import announce, conflict, held, refuse_inside_atomic
from django_dcr.services.management import revoke
from django_dcr.services.registration import register

STEP = "update"


def renew(registration: ClientRegistration) -> ClientRegistration:
    """Get a secret with a new lifetime; return the row that holds it.

    First by an update without changes, for which many servers issue a new secret. Where that
    brings none and the secret does expire, a new client is registered, takes the row's place,
    and the old one is revoked: then the returned row is another one. Raises UnsupportedError
    where the secret does not expire and the server issued no new one, and any DCRError, with
    the old secret kept.
    """
    refuse_inside_atomic(STEP)
    discover(registration.server)
    seen = registration.client_secret
    with held(registration, Status.ACTIVE, step=STEP):
        if registration.client_secret != seen:
            return registration  # another process has renewed it a moment ago
        successor = registration
        if not _renewed_in_place(registration):
            successor = _successor(registration)
    if successor is registration:
        announce(signals.renewed, registration)
    else:
        announce(signals.renewed, successor, replaced=registration)
        revoke(registration, forget=True)
    return successor


def _renewed_in_place(registration: ClientRegistration) -> bool:
    """Update without changes; whether that brought another secret or lifetime."""
    before = registration.client_secret, registration.client_secret_expires_at
    with suppress(UnsupportedError):  # a new client may do where there are no updates
        replace_metadata(registration, wanted={}, defaults={}, removed=())
    now = registration.client_secret, registration.client_secret_expires_at
    return now != before and not registration.secret_has_expired


def _successor(registration: ClientRegistration) -> ClientRegistration:
    """Register a new client in place of one whose secret is about to expire."""
    if not registration.client_secret_expires_at:
        raise UnsupportedError(
            "The server issued no new secret. The present one stays valid and does not expire.",
            issuer=registration.server.issuer,
            step=STEP,
        )
    siblings = ClientRegistration.objects.for_key(registration.server.issuer, registration.owner)
    doubtful = siblings.filter(
        pk__gt=registration.pk, status__in=[Status.REGISTERING, Status.UNKNOWN]
    ).first()
    if doubtful is not None:
        raise conflict(
            registration,
            f"was being replaced by registration {doubtful.pk}, whose answer was lost; close "
            f"that with: manage.py dcr_revoke {doubtful.pk} --forget, and renew again",
            STEP,
        )
    successor = ClientRegistration.objects.create(
        server=registration.server,
        owner=registration.owner,
        requested_metadata=registration.requested_metadata,
        live=None,
    )
    try:
        register(successor)
    finally:
        if successor.status in (Status.DRAFT, Status.REJECTED):
            successor.delete()  # it never came to be, and the old row says why
    successor.replace(registration)
    return successor

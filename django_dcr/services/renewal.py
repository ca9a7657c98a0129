"""A new secret before the old one expires, by whatever way the server offers."""

from __future__ import annotations

from django.utils import timezone

from django_dcr import signals
from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, RegistrationGoneError, UnsupportedError
from django_dcr.mechanisms import refusal
from django_dcr.models import ClientRegistration, Status
from django_dcr.services.configuration import recover, replace_metadata
from django_dcr.services.discovery import discover_for
from django_dcr.services.operation import Operation, announce, check_possible, operation
from django_dcr.services.replacement import check_replaceable, finish, successor_of


def renew(registration: ClientRegistration) -> ClientRegistration:
    """Get a secret with a new lifetime; return the row that holds it.

    First by an update without changes, for which many servers issue a new secret. Where that
    brings none, or is refused, and the secret does expire, a new client is registered, takes the
    row's place, and the old one is revoked: then the returned row is another one. Raises
    UnsupportedError where the secret does not expire and the server issued no new one, and any
    DCRError, with the old secret kept.
    """
    with operation(registration, "update") as work:
        check_possible(registration, "renew")
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
        finish(successor, registration)
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


def _renewed_in_place(work: Operation) -> bool:
    """Update without changes; whether that brought another secret or a longer life."""
    registration = work.registration
    secret, end = registration.client_secret, registration.client_secret_expires_at
    try:
        replace_metadata(work, requested={}, defaults={}, removed=())
    except UnsupportedError:
        pass  # a new client may do where there are no updates
    except DCRError as exc:
        if not _is_past_help(registration, exc):
            raise
    new_end = registration.client_secret_expires_at
    lives_longer = new_end != end and (not new_end or not end or new_end > end)
    is_renewed = registration.client_secret != secret or lives_longer
    return is_renewed and not registration.secret_has_expired


def _is_past_help(registration: ClientRegistration, exc: DCRError) -> bool:
    """Whether only a new client helps, because the secret ends and its endpoint refuses.

    A refused token stays refused. What else keeps this site out is waited for until the secret
    has expired; what passes by itself, or concerns what was sent, in any case.
    """
    if not registration.client_secret_expires_at or refusal(registration, "replace"):
        return False
    is_kept_out = exc.status == 403 or 300 <= (exc.status or 0) < 400
    return isinstance(exc, RegistrationGoneError) or (
        is_kept_out and registration.secret_has_expired
    )


def _successor(registration: ClientRegistration) -> ClientRegistration:
    """Register a new client in place of one whose secret is about to expire."""
    check_replaceable(registration)
    if not registration.client_secret_expires_at:
        raise UnsupportedError(
            "The server issued no new secret. The present one has no known end. If it must be "
            f"changed, put a new client in its place with: manage.py dcr_replace {registration.pk}"
        )
    return successor_of(registration)

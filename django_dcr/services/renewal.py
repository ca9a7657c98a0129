"""Renewal: a new secret before the old one expires, by an update or else by a new client."""

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
from django_dcr.services.replacement import check_replaceable, finish, replace_leased


def renew(registration: ClientRegistration) -> ClientRegistration:
    """Get a secret with a new lifetime; return the row that holds it.

    First by an update without changes, for which many servers issue a new secret. Where the
    server issues none, or refuses the update, and the secret does expire, a new client is
    registered in the row's place and the old one is revoked: the returned row is then another
    one. Raises UnsupportedError where the secret does not expire and the server issued no new
    one, and any DCRError, with the old secret kept.
    """
    with operation(registration, "update") as work:
        check_possible(registration, "renew")
        discover_for(registration)
        seen = registration.client_secret
        with work.lease(Status.ACTIVE, task="renew"):
            if registration.client_secret != seen:
                return registration  # another process has renewed it a moment ago
            successor = registration if _renewed_in_place(work) else _successor(registration)
    if successor is registration:
        announce(signals.renewed, registration)
    else:
        finish(successor, registration)
    return successor


def renew_if_due(registration: ClientRegistration) -> ClientRegistration:
    """Renew a secret that expires within DCR_RENEW_BEFORE and is older than an hour.

    Any other is left alone. Where a process was interrupted, the server may have issued a new
    secret that was not stored, so the client is read first. Raises what ``renew()`` and
    ``read()`` raise.
    """
    if registration.lease and _is_due(registration):
        recover(registration)
    is_due = _is_due(registration) and not registration.seconds_until_renewal
    return renew(registration) if is_due else registration


def _is_due(registration: ClientRegistration) -> bool:
    row = ClientRegistration.objects.primary().filter(pk=registration.pk)
    return row.expiring(timezone.now() + conf.DCR_RENEW_BEFORE).exists()


def _renewed_in_place(work: Operation) -> bool:
    """Update without changes; return whether the secret is another one or expires later."""
    registration = work.registration
    secret, expiry = registration.client_secret, registration.client_secret_expires_at
    try:
        replace_metadata(work, requested={}, defaults={}, removed=())
    except UnsupportedError:
        pass  # where there are no updates, a new client is registered
    except DCRError as exc:
        if not _needs_new_client(registration, exc):
            raise
    new_expiry = registration.client_secret_expires_at
    is_later = new_expiry != expiry and (not new_expiry or not expiry or new_expiry > expiry)
    is_renewed = registration.client_secret != secret or is_later
    return is_renewed and not registration.secret_has_expired


def _needs_new_client(registration: ClientRegistration, exc: DCRError) -> bool:
    """Whether only a new client helps, because the secret expires and cannot be renewed.

    A refused token stays refused, so it does at once. Another refusal may be withdrawn until the
    secret has expired. Transient errors, and those about what was sent, never need a new client.
    """
    if not registration.client_secret_expires_at or refusal(registration, "replace"):
        return False
    if isinstance(exc, RegistrationGoneError):
        return True
    is_kept_out = exc.status == 403 or 300 <= (exc.status or 0) < 400
    return is_kept_out and registration.secret_has_expired


def _successor(registration: ClientRegistration) -> ClientRegistration:
    """Register a new client in place of one whose secret is about to expire."""
    check_replaceable(registration)
    if not registration.client_secret_expires_at:
        raise UnsupportedError(
            "The server issued no new secret. The present one has no known expiry. If it must be "
            f"changed, put a new client in its place with: manage.py dcr_replace {registration.pk}"
        )
    return replace_leased(registration, registration.mechanism)

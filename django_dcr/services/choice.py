"""Choosing a new client's mechanism: the first that both the server and the site support."""

from __future__ import annotations

from django_dcr import protocol
from django_dcr.conf import conf
from django_dcr.exceptions import InvalidResponseError, UnsupportedError
from django_dcr.lifecycle import ACTIONS, Status
from django_dcr.logs import log
from django_dcr.mechanisms import Mechanism
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import documents
from django_dcr.services.discovery import discover_for
from django_dcr.services.key_rotation import own_keys
from django_dcr.services.operation import check_possible, check_state, operation
from django_dcr.services.registration import STEP, register
from django_dcr.text import clean


def register_by_choice(
    registration: ClientRegistration, *, initial_access_token: str | None = None
) -> ClientRegistration:
    """Register a row that has no client yet, by the first mechanism that is possible.

    The mechanisms are the server row's, else DCR_MECHANISMS; why one was skipped is in the log
    and in the row's history. Raises UnsupportedError where none is left, with what to enter in
    the server's console, and what ``register()`` raises.
    """
    with operation(registration, STEP, at_any_server=True):
        check_possible(registration, "register")
        check_state(registration, *ACTIONS["register"].statuses)
        return register_by_first(registration, initial_access_token=initial_access_token)


def register_by_first(
    registration: ClientRegistration, *, initial_access_token: str | None = None
) -> ClientRegistration:
    """As ``register_by_choice()``, for a row that is known to have no client."""
    server = registration.server
    skipped: list[str] = []
    for mechanism in server.mechanisms or conf.DCR_MECHANISMS:
        reason = _obstacle(registration, mechanism)
        if reason:
            skipped += _reported(server, mechanism, reason)
            continue
        _choose(registration, mechanism, skipped)
        try:
            return register(registration, initial_access_token=initial_access_token)
        except InvalidResponseError as exc:
            # A document that servers would refuse leaves a draft and no client at any server.
            if mechanism == Mechanism.DYNAMIC or registration.status != Status.DRAFT:
                raise
            skipped.append(f"{mechanism}: {exc}")
    raise _register_by_hand(registration, skipped)


def _obstacle(registration: ClientRegistration, mechanism: str) -> str:
    if mechanism == Mechanism.METADATA_DOCUMENT:
        return documents.obstacle(registration)
    server = registration.server
    if not server.is_fresh:  # reject what cannot be sent before requesting metadata
        requested = registration.requested
        protocol.check_client_metadata(requested)
        protocol.check_own_keys(requested, own_keys(registration))
    offered = "registration_endpoint" in discover_for(registration).metadata
    return "" if offered else "the server has no registration_endpoint"


def _reported(server: AuthorizationServer, mechanism: str, reason: str) -> list[str]:
    """Return what to report: nothing of documents where neither site nor server uses any."""
    unused = not conf.DCR_BASE_URL and not server.takes_documents
    if mechanism == Mechanism.METADATA_DOCUMENT and unused:
        return []
    return [f"{mechanism}: {reason}"]


def _choose(registration: ClientRegistration, mechanism: str, skipped: list[str]) -> None:
    registration.mechanism = mechanism
    if mechanism != Mechanism.METADATA_DOCUMENT:  # and clear what a failed attempt at one left
        registration.document_slug, registration.client_id, registration.metadata = "", "", {}
    reason = "; ".join(skipped)
    if reason:
        log(
            "advised",
            "The client at %s is registered by %s. Skipped %s",
            registration.server.issuer,
            mechanism,
            reason,
        )
    registration.reason = clean(reason, 200)


def _register_by_hand(registration: ClientRegistration, skipped: list[str]) -> UnsupportedError:
    """Return an error with what to enter in the server's console and how to store the client."""
    document = f"{Mechanism.METADATA_DOCUMENT}: "
    reasons = [text.removeprefix(document) for text in skipped if text.startswith(document)]
    requested, server = registration.requested, registration.server
    members = ["redirect_uris", "post_logout_redirect_uris", "scope", "token_endpoint_auth_method"]
    entries = [f"{name} {_text(requested[name])}" for name in members if requested.get(name)]
    owner = f" --owner {clean(registration.owner, 40)}" if registration.owner else ""
    command = f"manage.py dcr_adopt {server.issuer}{owner} --client-id ID --client-secret-file FILE"
    text = "This server offers no dynamic registration that this site may use. "
    text += "".join(f"Nor a document: {clean(reason, 120).rstrip('.')}. " for reason in reasons)
    text += f"Register by hand in its console, with {', '.join(entries) or 'what you need'}"
    return UnsupportedError(
        f"{clean(text, 480 - len(command))}; then store the client with: {command}"
    )


def _text(value: object) -> str:
    return clean(" ".join(value) if isinstance(value, list) else value, 150)

"""Registration: making a row that has no client yet a client of its server (RFC 7591).

``register_by_choice()`` takes the first mechanism that the server and the site both support,
``register()`` the row's own. There is a row for every client that the server may hold: the
intent is committed before the request is sent, and ``settle()`` closes an intent whose process
has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from django.db import Error, IntegrityError
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, signals
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    NotStoredError,
    UnsupportedError,
)
from django_dcr.lifecycle import ACTIONS
from django_dcr.logs import log
from django_dcr.mechanisms import Mechanism
from django_dcr.models import AuthorizationServer, ClientRegistration, InDoubtError, Status
from django_dcr.services import documents
from django_dcr.services.discovery import discover_for
from django_dcr.services.key_rotation import own_keys
from django_dcr.services.operation import (
    Operation,
    announce,
    check_possible,
    check_state,
    conflict,
    operation,
    unusable,
)
from django_dcr.text import SensitiveText, clean

COLLISION = (
    "The server issued a client that another registration already holds. Nothing was "
    "changed; report this to the server's operator."
)
_NEVER_SENT = ACTIONS["register"].statuses


@sensitive_variables()
def register(
    registration: ClientRegistration, *, initial_access_token: str | None = None
) -> ClientRegistration:
    """Register the client of a draft or rejected row (RFC 7591 section 3), or publish its document.

    The intent is committed before the request. ``initial_access_token`` is sent in place of
    the server row's and is not stored. Raises RequestRejectedError where the server refuses
    (the row is then "rejected" and may be registered again); NetworkError or
    InvalidResponseError where it is uncertain what the server did (the row is "unknown", to be
    settled by ``retry()`` or ``revoke(forget=True)``); and, before anything is sent,
    NotAllowedError, UnsupportedError, ConflictError, DecryptionError.
    """
    initial_access_token = _masked(initial_access_token)
    with operation(registration, "register") as work:
        check_possible(registration, "register")
        registration.check_attached()
        if registration.mechanism == Mechanism.METADATA_DOCUMENT:
            reason = _obstacle(work, Mechanism.METADATA_DOCUMENT)
            if reason:
                raise UnsupportedError(
                    f"A metadata document is not possible at this server: {reason.rstrip('.')}."
                )
        _register(work, initial_access_token)
    return registration


@sensitive_variables()
def register_by_choice(
    registration: ClientRegistration, *, initial_access_token: str | None = None
) -> ClientRegistration:
    """Register a row that has no client yet, by the first mechanism that is possible.

    The mechanisms are the server row's, else DCR_MECHANISMS; why one was skipped is in the log
    and in the row's history. Raises UnsupportedError where none is left, with what to enter in
    the server's console, and what ``register()`` raises.
    """
    initial_access_token = _masked(initial_access_token)
    skipped: list[str] = []
    with operation(registration, "register") as work:
        check_possible(registration, "register")
        check_state(registration, *_NEVER_SENT)
        registration.check_attached()
        for mechanism in work.server.mechanisms or conf.DCR_MECHANISMS:
            reason = _obstacle(work, mechanism)
            if reason:
                skipped += _reported(work.server, mechanism, reason)
                continue
            _choose(registration, mechanism, skipped)
            try:
                _register(work, initial_access_token)
            except InvalidResponseError as exc:
                # A document that servers would refuse leaves a draft and no client at any server.
                if mechanism == Mechanism.DYNAMIC or registration.status != Status.DRAFT:
                    raise
                skipped.append(f"{mechanism}: {exc}")
            else:
                return registration
        raise _register_by_hand(work, skipped)


def _masked(token: str | None) -> str | None:
    """Return the token so that no error page shows it, not even with DEBUG."""
    return None if token is None else SensitiveText(token)


# -- choosing the mechanism --------------------------------------------------------------------


def _obstacle(work: Operation, mechanism: str) -> str:
    """Return why the mechanism is not possible, "" where it is; discover the server if need be."""
    if mechanism == Mechanism.METADATA_DOCUMENT:
        found = documents.site_obstacle()
        return found or documents.obstacle(work, discover_for(work.registration))
    offered = "registration_endpoint" in _discovered(work).metadata
    return "" if offered else "the server has no registration_endpoint"


def _discovered(work: Operation) -> AuthorizationServer:
    """Return the server, its metadata fresh; reject what cannot be sent before requesting that."""
    if not work.server.is_fresh:
        protocol.check_client_metadata(work.requested)
        protocol.check_own_keys(work.requested, own_keys(work.registration, work.requested))
    return discover_for(work.registration)


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


def _register_by_hand(work: Operation, skipped: list[str]) -> UnsupportedError:
    """Return an error with what to enter in the server's console and how to store the client."""
    document = f"{Mechanism.METADATA_DOCUMENT}: "
    reasons = [text.removeprefix(document) for text in skipped if text.startswith(document)]
    registration, requested, server = work.registration, work.requested, work.server
    members = ["redirect_uris", "post_logout_redirect_uris", "scope", "token_endpoint_auth_method"]
    entries = [f"{name} {_as_text(requested[name])}" for name in members if requested.get(name)]
    owner = f" --owner {clean(registration.owner, 40)}" if registration.owner else ""
    command = f"manage.py dcr_adopt {server.issuer}{owner} --client-id ID --client-secret-file FILE"
    text = "This server offers no dynamic registration that this site may use. "
    text += "".join(f"Nor a document: {clean(reason, 120).rstrip('.')}. " for reason in reasons)
    text += f"Register by hand in its console, with {', '.join(entries) or 'what you need'}"
    return UnsupportedError(
        f"{clean(text, 480 - len(command))}; then store the client with: {command}"
    )


def _as_text(value: object) -> str:
    return clean(" ".join(value) if isinstance(value, list) else value, 150)


# -- registering -------------------------------------------------------------------------------


@sensitive_variables()
def _register(work: Operation, initial_access_token: str | None) -> None:
    """Register the client by the row's mechanism, which is possible, and announce it."""
    registration = work.registration
    if registration.mechanism == Mechanism.METADATA_DOCUMENT:
        body = documents.prepare(work)
        _commit_intent(work)
        documents.publish(registration, body)
    else:
        # A row that is not live yet is a successor, registered in the middle of a renewal.
        work.has_begun = not registration.live
        metadata = _discovered(work).metadata
        keys = own_keys(registration, work.requested)
        request = protocol.registration_request(work.requested, metadata, keys)
        work.log_warnings(request)
        _adopt(work, _issued(work, request, initial_access_token))
    announce(signals.registered, registration)


@sensitive_variables()
def _issued(
    work: Operation, requested: Mapping[str, Any], token: str | None
) -> protocol.ClientInformation:
    """Commit the intent, send the request, and return the client that the response describes."""
    registration, server = work.registration, work.server
    endpoint = server.endpoint("registration_endpoint")
    if token is None and server.initial_access_token is not None:
        token = server.initial_access_token.reveal()
    work.wait_for_slot()
    _commit_intent(work)
    try:
        with work.errors():
            reply = work.send("POST", endpoint, token=token, body=protocol.encode(requested))
            secrets = [token] if token else []
            protocol.check_status(reply, {200, 201}, step=work.step, secrets=secrets)
            # No variable holds the document: its secrets would be shown in tracebacks.
            issued = protocol.client_information(
                protocol.parse_object(reply.body),
                requested=requested,
                headers=reply.headers,
                secrets=secrets,
            )
    except DCRError as exc:
        registration.fail(exc, _status_after(exc, server))
        work.record_outcome(exc)
        raise
    work.record_outcome()
    if reply.status == 200:
        deviation = "The server answered 200 instead of 201."
        issued = replace(issued, deviations=(deviation, *issued.deviations))
    return issued


def _commit_intent(work: Operation) -> None:
    registration = work.registration
    if registration.pk is not None:
        intent: dict[str, Any] = {"status": Status.REGISTERING, "client_digest": None}
        for name in ("requested_metadata", "mechanism", "document_slug", "client_id", "metadata"):
            intent[name] = getattr(registration, name)
        # A caller that backs off does not retry right after another one was refused.
        seen = registration.status
        statuses = (
            each for each in _NEVER_SENT if not registration.accepts_failure or each == seen
        )
        work.acquire(*statuses, **intent)
        return
    registration.server = registration.server  # copies its primary key, which may be new
    try:
        registration.insert(task=work.step, status=Status.REGISTERING)
    except IntegrityError as exc:
        raise ConflictError(
            "Another process is already registering this client. Use the row that it stored."
        ) from exc


def _status_after(exc: DCRError, server: AuthorizationServer) -> Status:
    """Return the status of a row whose registration request ended in ``exc``."""
    if isinstance(exc, NotAllowedError) or (isinstance(exc, NetworkError) and not exc.sent):
        return Status.DRAFT
    return Status.REJECTED if server.refused(exc) else Status.UNKNOWN


@sensitive_variables()
def _adopt(work: Operation, issued: protocol.ClientInformation) -> None:
    """Store a new client; where that cannot be done, delete it again at the server."""
    registration = work.registration
    try:
        metadata = None if issued.faults else issued.metadata
        stored = registration.store(issued, metadata=metadata, release=not issued.faults)
    except IntegrityError as exc:
        _collided(work, issued, exc)
    except NotStoredError as exc:
        raise _not_stored(work, issued, exc.__cause__) from exc.__cause__
    if not stored:
        _overtaken(work, issued)
    elif issued.faults:
        error = unusable(issued)
        registration.fail(error, _delete_orphan(work, issued))
        raise error


@sensitive_variables()
def _collided(
    work: Operation, issued: protocol.ClientInformation, cause: IntegrityError
) -> NoReturn:
    """Undo the registration, unless the server issued a client that another row holds."""
    registration = work.registration
    if registration.has_duplicate(issued.client_id):
        error = InvalidResponseError(COLLISION)
        registration.fail(error, Status.REJECTED)
        raise error from cause
    raise _not_stored(work, issued, cause) from cause


@sensitive_variables()
def _not_stored(
    work: Operation, issued: protocol.ClientInformation, cause: BaseException | None
) -> NotStoredError:
    """Delete a client that the database did not store, and return the error to raise."""
    registration = work.registration
    # If the commit may have succeeded, the client is kept: the row may be in use already.
    status = None if isinstance(cause, InDoubtError) else _delete_orphan(work, issued)
    error = NotStoredError(
        f"The server registered a client for registration {registration.pk}, and the database "
        f"did not store it ({clean(cause, 80)}). {_FATES[status]} When the database works "
        "again, run: manage.py dcr_reconcile"
    )
    log("not_stored", "%s", error)
    if status is not None:
        with suppress(Error):  # reconcile() settles the row
            registration.fail(error, status)
    return error


_FATES = {
    None: "It may have, with its confirmation lost.",
    Status.REJECTED: "The client was deleted at the server.",
    Status.UNKNOWN: "The client could not be deleted either, so the server holds it without a row.",
}


@sensitive_variables()
def _overtaken(work: Operation, issued: protocol.ClientInformation) -> None:
    """Delete the issued client and raise ConflictError: this process outlived its lease."""
    registration = work.registration
    registration.reload()
    # Some servers issue the same public client to everyone.
    is_orphan = registration.client_id != issued.client_id
    if is_orphan and _delete_orphan(work, issued) == Status.UNKNOWN:
        registration.record_orphan(issued)
    raise conflict(registration, "was taken over while this process waited for the server")


@sensitive_variables()
def _delete_orphan(work: Operation, issued: protocol.ClientInformation) -> Status:
    """Delete a client that will not be used; return the status that its row gets."""
    if work.registration.has_duplicate(issued.client_id):
        return Status.REJECTED  # another row uses the client, so it is not deleted
    token, uri = issued.registration_access_token, issued.registration_client_uri
    if token is None or uri is None:
        return Status.UNKNOWN
    server = work.server
    try:
        protocol.check_trusted_origin(
            uri, issuer=server.issuer, trusted_origins=server.trusted_origins
        )
        reply = work.send("DELETE", uri, token=token)
        protocol.check_status(reply, {200, 204, 404, 410}, step="delete")
    except DCRError:
        return Status.UNKNOWN
    return Status.REJECTED


# -- settling ----------------------------------------------------------------------------------


def settle(registration: ClientRegistration) -> None:
    """Turn an intent to register whose process has ended into "unknown"."""
    if registration.status == Status.REGISTERING and registration.claim(
        Status.REGISTERING, task="reconcile"
    ):
        if registration.mechanism != Mechanism.METADATA_DOCUMENT:
            registration.fail(
                "The process that sent this ended before the answer came; the server may hold a "
                "client that cannot be named.",
                Status.UNKNOWN,
            )
        elif registration.live:  # a document: no server was sent anything
            registration.fail("The process that published this ended half-way.", Status.DRAFT)
        else:
            registration.withdraw()  # the row that it was to replace is still there

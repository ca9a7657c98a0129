"""Registering a client, with a row on record for every client that the server may hold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from django.db import Error, IntegrityError
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, signals
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    NotStoredError,
)
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
    conflict,
    operation,
    unusable,
)
from django_dcr.services.outages import note_outcome
from django_dcr.text import SensitiveText, clean

STEP = "register"

_NEVER_SENT = [Status.DRAFT, Status.REJECTED]

COLLISION = (
    "The server issued a client that another registration already holds. Nothing was "
    "changed; report this to the server's operator."
)


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
    if initial_access_token is not None:
        initial_access_token = SensitiveText(initial_access_token)
    with operation(registration, STEP) as work:
        check_possible(registration, "register")
        registration.check_attached()
        if registration.mechanism == Mechanism.METADATA_DOCUMENT:
            body = documents.prepare(registration)
            _commit_intent(work)
            return documents.publish(registration, body)
        # A row that is not live yet is a successor, registered in the middle of a renewal.
        work.has_begun = not registration.live
        requested = registration.requested
        if not registration.server.is_fresh:  # reject what cannot be sent before any request
            protocol.check_client_metadata(requested)
            protocol.check_own_keys(requested, own_keys(registration))
        server = discover_for(registration)
        requested = protocol.registration_request(
            requested, server.metadata, own_keys(registration)
        )
        warn(server, requested)
        issued = _issued(work, requested, initial_access_token)
        _adopt(work, issued)
    announce(signals.registered, registration)
    return registration


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
            protocol.check_status(reply, {200, 201}, step=STEP, secrets=secrets)
            # No variable holds the document: its secrets would be shown in tracebacks.
            issued = protocol.client_information(
                protocol.parse_object(reply.body),
                requested=requested,
                headers=reply.headers,
                secrets=secrets,
            )
    except DCRError as exc:
        registration.fail(exc, _status_after(exc, server))
        note_outcome(server, exc)
        raise
    note_outcome(server)
    if reply.status == 200:
        deviation = "The server answered 200 instead of 201."
        issued = replace(issued, deviations=(deviation, *issued.deviations))
    return issued


def warn(server: AuthorizationServer, requested: Mapping[str, Any]) -> None:
    """Log what is allowed in a request, but better changed."""
    for sentence in protocol.warnings(requested, server.metadata):
        log("advised", "Before sending to %s: %s", server.issuer, sentence)


def _commit_intent(work: Operation) -> None:
    registration = work.registration
    if registration.pk is not None:
        intent: dict[str, Any] = {"status": Status.REGISTERING, "client_digest": None}
        for name in ("requested_metadata", "mechanism", "document_slug", "client_id", "metadata"):
            intent[name] = getattr(registration, name)
        # A calm caller does not retry right after another one was refused.
        seen = registration.status
        statuses = (each for each in _NEVER_SENT if not registration.is_calm or each == seen)
        work.acquire(*statuses, **intent)
        return
    registration.server = registration.server  # copies its primary key, which may be new
    try:
        registration.insert(task=STEP, status=Status.REGISTERING)
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
    if registration.has_twin(issued.client_id):
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
    if work.registration.has_twin(issued.client_id):
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

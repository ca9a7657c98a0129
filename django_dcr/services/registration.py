"""Registering a client, and leaving nothing at the server that no row knows."""

from __future__ import annotations

import logging
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
from django_dcr.models import AuthorizationServer, ClientRegistration, InDoubtError, Status
from django_dcr.services.discovery import discover
from django_dcr.services.leases import announce, conflict, refuse_inside_atomic, take, unusable
from django_dcr.services.pacing import Turn, await_turn, send
from django_dcr.text import SensitiveText, clean

logger = logging.getLogger("django_dcr")

STEP = "register"

COLLISION = (
    "The server answered with a client that another registration holds already. Nothing was "
    "changed; report this to the server's operator."
)


@sensitive_variables()
def register(
    registration: ClientRegistration, *, initial_access_token: str | None = None
) -> ClientRegistration:
    """Register the client of a draft or rejected row (RFC 7591 section 3).

    The intent is committed before the request. ``initial_access_token`` is sent in place of
    the server row's and is not stored. Raises RequestRejectedError where the server says no
    (the row is "rejected" and may be tried again); NetworkError or InvalidResponseError where
    nobody can tell what the server did (the row is "unknown", for a person to decide); and,
    before anything is sent, NotAllowedError, UnsupportedError, ConflictError, DecryptionError.
    """
    if initial_access_token is not None:
        initial_access_token = SensitiveText(initial_access_token)
    refuse_inside_atomic(STEP)
    registration.check_attached(STEP)
    issuer = registration.server.issuer
    asked = registration.asked
    if not registration.server.is_fresh:  # what cannot be sent is no reason to ask the server
        protocol.check_client_metadata(asked, issuer=issuer, step=STEP)
    server = discover(registration.server)
    asked = protocol.registration_request(asked, server.metadata)
    endpoint = protocol.endpoint(
        server.metadata,
        "registration_endpoint",
        issuer=issuer,
        trusted_origins=server.trusted_origins,
        step=STEP,
    )
    token = initial_access_token
    if token is None and server.initial_access_token is not None:
        token = server.initial_access_token.reveal()
    warn(server, asked)
    # A successor, which is not live yet, is registered in the midst of a renewal.
    await_turn(server, step=STEP, turn=Turn.FIRST if registration.live else Turn.MIDWAY)
    _commit_intent(registration)
    try:
        body = protocol.encode(asked)
        reply = send(
            "POST", endpoint, server=server, step=STEP, turn=Turn.TAKEN, token=token, body=body
        )
        secrets = [token] if token else []
        protocol.check_status(reply, {200, 201}, issuer=issuer, step=STEP, secrets=secrets)
        # No variable here has the document, whose secrets a traceback would show.
        issued = protocol.client_information(
            protocol.parse_object(reply.body, issuer=issuer, step=STEP),
            requested=asked,
            headers=reply.headers,
        )
    except DCRError as exc:
        registration.fail(exc, _status_after(exc, server))
        raise
    if reply.status == 200:
        oddity = "The server answered 200 instead of 201."
        issued = replace(issued, deviations=(oddity, *issued.deviations))
    _adopt(registration, issued)
    announce(signals.registered, registration)
    return registration


def warn(server: AuthorizationServer, asked: Mapping[str, Any]) -> None:
    """Log what may be asked of the server, and yet is better changed."""
    for sentence in protocol.warnings(asked, server.metadata):
        logger.warning("Before sending to %s: %s", server.issuer, sentence)


def _commit_intent(registration: ClientRegistration) -> None:
    if registration.pk is not None:
        wishes = registration.requested_metadata
        intent = {"status": Status.REGISTERING, "requested_metadata": wishes}
        take(registration, Status.DRAFT, Status.REJECTED, step=STEP, **intent)
        return
    registration.server = registration.server  # which may have got its key only now
    try:
        registration.insert(task=STEP, status=Status.REGISTERING)
    except IntegrityError as exc:
        raise ConflictError(
            "Another process has taken this registration in hand. Use the one that is stored.",
            issuer=registration.server.issuer,
            step=STEP,
        ) from exc


def _status_after(exc: DCRError, server: AuthorizationServer) -> Status:
    """The state of an intent to register whose request ended in ``exc``."""
    if isinstance(exc, NotAllowedError) or (isinstance(exc, NetworkError) and not exc.sent):
        return Status.DRAFT
    return Status.REJECTED if server.refused(exc) else Status.UNKNOWN


@sensitive_variables()
def _adopt(registration: ClientRegistration, issued: protocol.ClientInformation) -> None:
    """Store a new client; where that cannot be done, delete it again at the server."""
    try:
        metadata = None if issued.faults else issued.metadata
        stored = registration.store(issued, metadata=metadata, release=not issued.faults)
    except IntegrityError as exc:
        _collided(registration, issued, exc)
    except NotStoredError as exc:
        raise _not_stored(registration, issued, exc.__cause__) from exc.__cause__
    if not stored:
        _overtaken(registration, issued)
    elif issued.faults:
        error = unusable(registration, issued, STEP)
        registration.fail(error, _delete_spare(registration, issued))
        raise error


@sensitive_variables()
def _collided(
    registration: ClientRegistration, issued: protocol.ClientInformation, cause: IntegrityError
) -> NoReturn:
    """Undo the registration, unless the server gave us a client that another row holds."""
    if registration.has_twin(issued.client_id):
        error = InvalidResponseError(COLLISION, issuer=registration.server.issuer, step=STEP)
        registration.fail(error, Status.REJECTED)
        raise error from cause
    raise _not_stored(registration, issued, cause) from cause


@sensitive_variables()
def _not_stored(
    registration: ClientRegistration,
    issued: protocol.ClientInformation,
    cause: BaseException | None,
) -> NotStoredError:
    """Delete a client that the database did not store, and return what to say of it."""
    # One in doubt is not deleted: if the row was committed, a dead client would be handed out.
    status = None if isinstance(cause, InDoubtError) else _delete_spare(registration, issued)
    error = NotStoredError(
        f"The server registered a client for registration {registration.pk}, and the database "
        f"did not store it ({clean(cause, 80)}). {_FATES[status]} When the database works "
        "again, run: manage.py dcr_reconcile",
        issuer=registration.server.issuer,
        step=STEP,
    )
    logger.error("%s", error)
    if status is not None:
        with suppress(Error):  # reconcile() settles the row
            registration.fail(error, status)
    return error


_FATES = {
    None: "Or it did, and its reply was lost.",
    Status.REJECTED: "The client was deleted again at the server.",
    Status.UNKNOWN: "The client could not be deleted again, so the server holds it without a row.",
}


@sensitive_variables()
def _overtaken(registration: ClientRegistration, issued: protocol.ClientInformation) -> None:
    """This process slept beyond its lease, and the row is no longer its own."""
    if _delete_spare(registration, issued) == Status.UNKNOWN:
        registration.record_spare(issued)
    registration.reload()
    raise conflict(registration, "was taken over while this process waited for the server", STEP)


@sensitive_variables()
def _delete_spare(registration: ClientRegistration, issued: protocol.ClientInformation) -> Status:
    """Delete a client that will not be used; return the state this leaves its row in."""
    server = registration.server
    token, uri = issued.registration_access_token, issued.registration_client_uri
    if token is None or uri is None:
        return Status.UNKNOWN
    issuer, step = server.issuer, "delete"
    try:
        protocol.vouched(uri, issuer=issuer, trusted_origins=server.trusted_origins, step=step)
        reply = send("DELETE", uri, server=server, step=step, turn=Turn.MIDWAY, token=token)
        protocol.check_status(reply, {200, 204, 404, 410}, issuer=issuer, step=step)
    except DCRError:
        return Status.UNKNOWN
    return Status.REJECTED

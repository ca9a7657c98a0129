"""Reading, updating and deleting a client at its configuration endpoint (RFC 7592)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import IntegrityError
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, signals, transport
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    UnsupportedError,
)
from django_dcr.fields import Secret
from django_dcr.lifecycle import ACTIONS, Status
from django_dcr.mechanisms import Mechanism
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import documents
from django_dcr.services.discovery import discover_for
from django_dcr.services.key_rotation import own_keys
from django_dcr.services.operation import (
    RETRY_LATER,
    Operation,
    announce,
    check_possible,
    check_state,
    conflict,
    mark_gone,
    operation,
    unusable,
)

# Statuses that may come with new credentials; they are checked once those are committed.
_SUCCESS = range(200, 300)


def read(registration: ClientRegistration) -> ClientRegistration:
    """Store the client's present metadata and credentials (RFC 7592 section 2.1).

    This settles a live row whose deletion was never answered, and makes a "gone" one that nothing
    has replaced active again where the server knows the client after all. Raises
    RegistrationGoneError where the server refuses the token or forgot the client (the row is
    then "gone"), and any other DCRError with the row's credentials unchanged.
    """
    # A replaced client must not become active again beside its successor.
    if registration.live:
        doubtful = [Status.REVOKING]
    else:
        doubtful = [] if registration.rivals().exists() else [Status.GONE]
    with operation(registration, "read") as work:
        check_possible(registration, "read")
        with work.lease(Status.ACTIVE, *doubtful):
            fetch(work, release=True)
    return registration


def recover(registration: ClientRegistration) -> ClientRegistration:
    """Read an active client whose row is marked ``interrupted``.

    A process that ended before it stored a response, or a database that failed to store one,
    leaves the mark: the server may have issued other credentials. It stays where the server
    cannot be reached. Raises what ``read()`` raises.
    """
    with operation(registration, "read") as work, work.lease(Status.ACTIVE, task="reconcile"):
        if registration.interrupted and registration.is_manageable:
            fetch(work, release=True)
        registration.interrupted = False  # read, or not manageable, so nothing could be issued
    return registration


def update(registration: ClientRegistration) -> ClientRegistration:
    """Request ``requested_metadata`` of the server (RFC 7592 section 2.2): read, merge, PUT, store.

    A member requested as null is removed. Where the server grants something else, that is the
    row's ``drift``. Raises UnsupportedError where the server offers no updates, and any DCRError.
    """
    with operation(registration, "update") as work:
        check_possible(registration, "update")
        server = discover_for(registration)
        if registration.mechanism == Mechanism.METADATA_DOCUMENT:
            documents.change(work)
        else:
            _update(work, server)
    announce(signals.updated, registration)
    return registration


def revoke(registration: ClientRegistration, *, forget: bool = False) -> ClientRegistration:
    """Delete the client at the server and wipe its credentials (RFC 7592 section 2.3).

    With ``forget`` the row is closed even where the server cannot be reached or refuses, and
    ``last_error`` says that the client may still exist there. Works for servers that are no
    longer allowed, too. Raises RegistrationGoneError where the server refuses the token (whether
    the client still exists is then unknown), UnsupportedError where it does not delete clients,
    ConflictError, and NetworkError, after which the deletion may be repeated.
    """
    with operation(registration, "delete", at_any_server=True) as work:
        if not ACTIONS["revoke"].allows(registration):
            registration.reload()  # to close the row by a stale status could lose a client
        is_revocable = ACTIONS["revoke"].allows(registration)
        note = ""
        if registration.mechanism == Mechanism.METADATA_DOCUMENT:
            check_state(registration, *ACTIONS["forget"].statuses)
            note = documents.closing_note(registration)
        elif is_revocable and registration.is_shared:
            note = "Another registration uses this client, so it was not deleted at the server."
        elif is_revocable:
            try:
                return _delete(work)
            except ConflictError:
                raise
            except DCRError as exc:
                if not forget:
                    raise
                note = f"Closed here only; the server may still hold the client: {exc}"
        elif registration.status not in ACTIONS["register"].statuses:
            _check_forgettable(registration, forget)
            note = "Closed here only; the server may still hold the client."
        _close(work, note)
    return registration


def revoke_replaced(registration: ClientRegistration) -> None:
    """Delete a client that was replaced, and close its row where the server refuses that.

    If there is no answer, the row stays "revoking" and ``reconcile()`` settles it.
    """
    try:
        revoke(registration, forget=not registration.is_manageable)
    except (ConflictError, InvalidResponseError, NetworkError):
        return
    except DCRError as exc:
        if exc.status not in RETRY_LATER:
            revoke(registration, forget=True)


# -- reading -----------------------------------------------------------------------------------


def fetch(work: Operation, *, release: bool = False) -> None:
    """GET the client and store the response (section 2.1); with ``release`` release the row."""
    registration = work.registration
    superseded = registration.registration_access_token
    reply = _send(work, "GET", accepted=_SUCCESS)
    _store(work, reply, superseded, registration.metadata, release=release)


# -- updating ----------------------------------------------------------------------------------


def _update(work: Operation, server: AuthorizationServer) -> None:
    requested, own = work.requested, work.registration.requested_metadata
    keys = own_keys(work.registration, requested)
    request = protocol.registration_request(requested, server.metadata, keys)
    work.log_warnings(request)
    # A client's keys are always sent, as jwks or jwks_uri, not both (RFC 7591 section 2).
    sent = [name for name in protocol.KEY_MEMBERS if name in request]
    replaced = [name for name in protocol.KEY_MEMBERS if sent and name not in sent]
    with work.lease(Status.ACTIVE):
        replace_metadata(
            work,
            requested={k: v for k, v in request.items() if k in requested or k in sent},
            # What the server has granted overrides what this app chose.
            defaults=request,
            removed=[k for k, v in own.items() if v in (None, "", [], {})] + replaced,
        )


def replace_metadata(
    work: Operation,
    *,
    requested: Mapping[str, Any],
    defaults: Mapping[str, Any],
    removed: Collection[str],
) -> None:
    """PUT the granted metadata with the ``requested`` changes (section 2.2).

    A PUT replaces everything, so the present metadata is read first where that is possible.
    """
    is_known = True
    try:
        fetch(work)
    except UnsupportedError:
        if not work.registration.is_manageable:
            raise
        is_known = False
    try:
        _put(work, requested, defaults, removed)
    except RegistrationGoneError as exc:
        if not is_known or exc.status == 401:
            raise
        raise UnsupportedError(
            "The server knows this client but does not offer updates. Put a new client with the "
            "metadata that you need in its place: manage.py dcr_replace "
            f"{work.registration.pk}",
            status=exc.status,
        ) from exc


@sensitive_variables()
def _put(
    work: Operation,
    requested: Mapping[str, Any],
    defaults: Mapping[str, Any],
    removed: Collection[str],
) -> None:
    registration = work.registration
    secret = registration.client_secret if registration.server.send_client_secret else None
    body = protocol.update_request(
        {**defaults, **registration.metadata},
        requested,
        client_id=registration.client_id,
        client_secret=None if secret is None else secret.reveal(),
        removed=removed,
    )
    superseded = registration.registration_access_token
    reply = _send(work, "PUT", accepted=_SUCCESS, body=body)
    if reply.status == 204:
        fetch(work, release=True)
    else:
        sent = {k: v for k, v in body.items() if k not in ("client_id", "client_secret")}
        _store(work, reply, superseded, sent, release=True)


# -- the exchange itself -----------------------------------------------------------------------


@sensitive_variables()
def _send(
    work: Operation,
    method: str,
    *,
    accepted: Collection[int],
    body: Mapping[str, Any] | None = None,
) -> transport.Reply:
    """Send one request to the configuration endpoint, with the registration access token.

    The URL is used as given, and only on an origin of the issuer or one that an operator trusts
    (RFC 7592 section 3 and appendix B).
    """
    registration, server = work.registration, work.server
    uri, token = registration.registration_client_uri, registration.registration_access_token
    if not uri or token is None:
        raise UnsupportedError(
            f"The server issued no credentials with which to read, update or delete registration "
            f"{registration.pk} (RFC 7592). For other metadata or another secret put a new client "
            f"in its place: manage.py dcr_replace {registration.pk}"
        )
    registration.check_attached()
    bearer = token.reveal()
    protocol.check_trusted_origin(uri, issuer=server.issuer, trusted_origins=server.trusted_origins)
    payload = None if body is None else protocol.encode(body)
    reply = work.send(method, uri, token=bearer, body=payload)
    secrets = [bearer] if body is None else [bearer, body.get("client_secret", "")]
    protocol.check_status(reply, accepted, step=work.step, secrets=secrets)
    return reply


@sensitive_variables()
def _store(
    work: Operation,
    reply: transport.Reply,
    superseded: Secret | None,
    known: Mapping[str, Any],
    *,
    release: bool,
) -> None:
    """Commit the credentials in a response, and only then check the rest of it."""
    registration = work.registration
    # No variable holds the document: its secrets would be shown in tracebacks.
    information = protocol.client_information(
        protocol.parse_object(reply.body), headers=reply.headers
    )
    if information.client_id != registration.client_id:
        raise InvalidResponseError(
            "The server's answer describes another client. Nothing was changed; report this to "
            "the server's operator."
        )
    secret = registration.client_secret  # the same object after store(), unless it is replaced
    # Members that a response leaves out were granted as requested (RFC 7591 section 3.2.1).
    adoptable = reply.status == 200 and not information.faults
    metadata = protocol.merge_metadata(known, information.metadata) if adoptable else None
    try:
        stored = registration.store(
            information, metadata=metadata, superseded=superseded, release=release and adoptable
        )
    except IntegrityError as exc:
        raise conflict(registration, "was replaced while this process waited") from exc
    if not stored:
        raise conflict(registration, "was taken over while this process waited")
    if registration.client_secret is not secret:
        announce(signals.secret_changed, registration)
    protocol.check_status(reply, {200}, step=work.step)
    if information.faults:
        raise unusable(information)


# -- deleting ----------------------------------------------------------------------------------


def _check_forgettable(registration: ClientRegistration, forget: bool) -> None:
    action = ACTIONS["forget" if forget else "revoke"]
    check_state(registration, *action.statuses)
    if not forget:
        check_possible(registration, "revoke")
        raise UnsupportedError(
            f"The server issued no credentials with which to delete registration "
            f"{registration.pk}. Delete the client there by hand, then close it with: "
            f"manage.py dcr_revoke {registration.pk} --forget"
        )


def _delete(work: Operation) -> ClientRegistration:
    registration, note = work.registration, ""
    work.wait_for_slot()
    work.acquire(*ACTIONS["revoke"].statuses, task="revoke", status=Status.REVOKING)
    before = Status(registration.claimed_as)
    try:
        with work.errors():
            _check_deleted(_send(work, "DELETE", accepted={200, 202, 204}))
    except RegistrationGoneError as exc:
        if before != Status.REVOKING and _still_known(work, exc):
            raise
        note = f"Counted as deleted: {exc}"
    except DCRError as exc:
        registration.fail(exc, _status_after(exc, registration.server, before))
        work.record_outcome(exc)
        raise
    if not registration.clear(note):
        raise conflict(registration, "was taken over while this process waited")
    work.record_outcome()
    announce(signals.revoked, registration)
    return registration


def _check_deleted(reply: transport.Reply) -> None:
    """Raise where a 200 is a login page or an error; an empty body or a document is a success."""
    if reply.status == 200 and reply.body.strip():
        document = protocol.parse_object(reply.body)
        if document.get("error"):
            raise InvalidResponseError(
                "The server answered the deletion request with status 200 and an error. Try again.",
                status=200,
            )


def _still_known(work: Operation, exc: RegistrationGoneError) -> bool:
    """Whether the client does, or may, still exist after the refusal of a first DELETE.

    401 means that the token is invalid or the client is gone, without saying which (RFC 7592
    section 2.3). 404 usually means gone, but servers without DELETE send it too, and still
    answer a read.
    """
    registration = work.registration
    if exc.status == 401:
        mark_gone(registration, exc)
        return True
    try:
        fetch(work)  # which may rotate the token
    except DCRError as second:
        if _passes(second):
            registration.fail(second, registration.claimed_as)  # to be tried again later
            raise
        answered = isinstance(second, InvalidResponseError) and second.status is None
        if not answered:
            return False
    error = UnsupportedError(
        f"The server knows registration {registration.pk} but does not delete clients. Delete it "
        f"there by hand, then close it with: manage.py dcr_revoke {registration.pk} --forget",
        status=exc.status,
    )
    registration.fail(error, Status.ACTIVE)
    raise error from exc


def _passes(exc: DCRError) -> bool:
    """Whether an error is transient and says nothing about the client."""
    busy = exc.status is not None and (exc.status == 429 or exc.status >= 500)
    return busy or isinstance(exc, (NetworkError, ConflictError))


def _status_after(exc: DCRError, server: AuthorizationServer, before: Status) -> Status:
    """Return the status of a row whose deletion request ended in ``exc``."""
    sent = exc.sent if isinstance(exc, NetworkError) else exc.status is not None
    if sent and not server.refused(exc):
        return Status.REVOKING
    # A server without DELETE did not perform an earlier one either; any other error leaves it open.
    is_undone = before == Status.REVOKING and isinstance(exc, UnsupportedError)
    return Status.ACTIVE if is_undone else before


def _close(work: Operation, note: str) -> None:
    work.acquire(Status(work.registration.status), task="forget" if note else "revoke")
    work.registration.clear(note)
    announce(signals.revoked, work.registration)

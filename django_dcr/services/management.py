"""Reading, updating and deleting a client at its configuration endpoint (RFC 7592)."""

from __future__ import annotations

from django_dcr import protocol, signals, transport
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    UnsupportedError,
)
from django_dcr.lifecycle import ACTIONS, Status
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.configuration import fetch, replace_metadata, send
from django_dcr.services.discovery import discover
from django_dcr.services.leases import (
    announce,
    check_state,
    conflict,
    held,
    lose,
    refuse_inside_atomic,
    take,
)
from django_dcr.services.pacing import Turn, await_turn
from django_dcr.services.registration import warn


def read(registration: ClientRegistration) -> ClientRegistration:
    """Store what the server says of the client now (RFC 7592 section 2.1).

    A live row whose deletion was never answered is settled by it, and a "gone" one that nothing
    has replaced is active again where the server knows it after all. Raises
    RegistrationGoneError where the server refuses the token or forgot the client (the row is
    then "gone"), and any other DCRError with the row's credentials unchanged.
    """
    refuse_inside_atomic("read")
    registration.server.check_allowed()
    # One that was replaced must not come back to life beside its successor.
    if registration.live:
        doubtful = [Status.REVOKING]
    else:
        doubtful = [] if registration.rivals().exists() else [Status.GONE]
    with held(registration, Status.ACTIVE, *doubtful, step="read"):
        fetch(registration, step="read", release=True)
    return registration


def recover(registration: ClientRegistration) -> ClientRegistration:
    """Read an active client whose row is marked: the server may have issued other credentials.

    A process that ended before it stored an answer, or a database that did not store it, leaves
    the mark; see ``ClientRegistration.interrupted``. It stays where the server cannot be asked.
    Raises what ``read()`` raises.
    """
    refuse_inside_atomic("read")
    registration.server.check_allowed()
    with held(registration, Status.ACTIVE, step="read", task="reconcile"):
        if registration.interrupted and registration.is_manageable:
            fetch(registration, step="read", release=True)
        registration.interrupted = False  # or there is nothing that could be asked
    return registration


def update(registration: ClientRegistration) -> ClientRegistration:
    """Ask the server for ``requested_metadata`` (RFC 7592 section 2.2): read, merge, put, store.

    A member requested as null is taken away. What the server grants instead is the row's
    ``drift``. Raises UnsupportedError where the server offers no updates, and any DCRError.
    """
    refuse_inside_atomic("update")
    server = discover(registration.server)
    asked = registration.asked
    request = protocol.registration_request(asked, server.metadata)
    warn(server, request)
    wishes = registration.requested_metadata
    with held(registration, Status.ACTIVE, step="update"):
        replace_metadata(
            registration,
            wanted={name: value for name, value in request.items() if name in asked},
            # What was chosen for lack of a wish gives way to what the server has granted.
            defaults=request,
            removed=[name for name, value in wishes.items() if value in (None, "", [], {})],
        )
    announce(signals.updated, registration)
    return registration


def revoke(registration: ClientRegistration, *, forget: bool = False) -> ClientRegistration:
    """Delete the client at the server and wipe its credentials (RFC 7592 section 2.3).

    With ``forget`` the row is closed even where the server cannot be asked or refuses, and
    ``last_error`` says that the client may live on there. Works for servers that are no longer
    allowed, too. Raises RegistrationGoneError where the server refuses the token (nobody can
    tell whether the client still exists), UnsupportedError where it deletes no clients,
    ConflictError, and NetworkError, after which the deletion may be repeated.
    """
    refuse_inside_atomic("delete")
    if not ACTIONS["revoke"].allows(registration):
        registration.reload()  # closing by what was so a while ago could lose a client
    note = ""
    if ACTIONS["revoke"].allows(registration):
        try:
            return _delete(registration)
        except ConflictError:
            raise
        except DCRError as exc:
            if not forget:
                raise
            note = f"Closed here only, the server may still hold the client: {exc}"
    elif registration.status not in ACTIONS["register"].statuses:
        _check_forgettable(registration, forget)
        note = "Closed here only, the server may still hold the client."
    _close(registration, note, Status(registration.status))
    return registration


def retire(registration: ClientRegistration) -> None:
    """Delete a client that was replaced, and close its row where the server refuses that.

    A row that stays "revoking", for lack of an answer, is left to ``reconcile()``.
    """
    try:
        revoke(registration, forget=not registration.is_manageable)
    except (ConflictError, InvalidResponseError, NetworkError):
        return
    except DCRError as exc:
        if exc.status not in (429, 503):  # which say to come back later
            revoke(registration, forget=True)


def _check_forgettable(registration: ClientRegistration, forget: bool) -> None:
    action = ACTIONS["forget" if forget else "revoke"]
    check_state(registration, *action.statuses, step="delete")
    if not forget:
        raise UnsupportedError(
            f"The server gave registration {registration.pk} no means to be deleted. Delete the "
            "client there by hand, then close it with: "
            f"manage.py dcr_revoke {registration.pk} --forget",
            issuer=registration.server.issuer,
            step="delete",
        )


def _delete(registration: ClientRegistration) -> ClientRegistration:
    note = ""
    await_turn(registration.server, step="delete")
    statuses = ACTIONS["revoke"].statuses
    take(registration, *statuses, step="delete", task="revoke", status=Status.REVOKING)
    before = Status(registration.claimed_as)
    try:
        reply = send(
            "DELETE", registration, step="delete", turn=Turn.TAKEN, accepted={200, 202, 204}
        )
        _check_deleted(registration, reply)
    except RegistrationGoneError as exc:
        if before != Status.REVOKING and _still_known(registration, exc):
            raise
        note = f"Counted as deleted: {exc}"
    except DCRError as exc:
        registration.fail(exc, _status_after(exc, registration.server, before))
        raise
    if not registration.clear(note):
        raise conflict(registration, "was taken over while this process waited", "delete")
    announce(signals.revoked, registration)
    return registration


def _check_deleted(registration: ClientRegistration, reply: transport.Reply) -> None:
    """A login page with status 200 has deleted nothing; an empty 200 or a document has."""
    if reply.status == 200 and reply.body.strip():
        issuer = registration.server.issuer
        document = protocol.parse_object(reply.body, issuer=issuer, step="delete")
        if document.get("error"):
            raise InvalidResponseError(
                "The server answered the deletion with status 200 and an error. Try again.",
                issuer=issuer,
                step="delete",
                status=200,
            )


def _still_known(registration: ClientRegistration, exc: RegistrationGoneError) -> bool:
    """Whether the refusal of a first DELETE leaves a client, or a doubt, at the server.

    401 says that the token is invalid or the client gone, and nobody can tell which (RFC 7592
    section 2.3). 404 usually says gone, but also comes from servers without DELETE, which
    still answer a read.
    """
    if exc.status == 401:
        lose(registration, exc)
        return True
    try:
        fetch(registration, step="delete", turn=Turn.MIDWAY)  # which may turn the token
    except DCRError as second:
        if _passes(second):
            registration.fail(second, registration.claimed_as)  # to be asked again
            raise
        answered = isinstance(second, InvalidResponseError) and second.status is None
        if not answered:
            return False
    error = UnsupportedError(
        f"The server knows registration {registration.pk} and deletes no clients. Delete it "
        f"there by hand, then close it with: manage.py dcr_revoke {registration.pk} --forget",
        issuer=registration.server.issuer,
        step="delete",
        status=exc.status,
    )
    registration.fail(error, Status.ACTIVE)
    raise error from exc


def _passes(exc: DCRError) -> bool:
    """Whether an error says nothing of the client, and may not come another time."""
    busy = exc.status is not None and (exc.status == 429 or exc.status >= 500)
    return busy or isinstance(exc, (NetworkError, ConflictError))


def _status_after(exc: DCRError, server: AuthorizationServer, before: Status) -> Status:
    """The state of an intent to delete whose request ended in ``exc``."""
    sent = exc.sent if isinstance(exc, NetworkError) else exc.status is not None
    if sent and not server.refused(exc):
        return Status.REVOKING
    # A server without DELETE has not done an earlier one either; all else leaves that open.
    is_undone = before == Status.REVOKING and isinstance(exc, UnsupportedError)
    return Status.ACTIVE if is_undone else before


def _close(registration: ClientRegistration, note: str, status: Status) -> None:
    take(registration, status, step="delete", task="forget" if note else "revoke")
    registration.clear(note)
    announce(signals.revoked, registration)

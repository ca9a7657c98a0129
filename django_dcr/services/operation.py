"""What every service that works on one row at its server has in common.

::

    with operation(registration, "read") as work, work.lease(Status.ACTIVE):
        reply = work.send("GET", url, token=token)

``operation()`` refuses to run inside a transaction and checks that the site still allows the
server, ``lease()`` holds the row and records a failure of the block on it, ``send()`` observes the
server's rate limit. Every error that leaves the block carries its issuer and step. Work that
nobody requested by name is wrapped in ``backoff()``, which raises what failed a short while ago.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from django.db import Error, router, transaction
from django.dispatch import Signal
from django.utils.functional import cached_property
from django.views.decorators.debug import sensitive_variables

from django_dcr import protocol, signals, transport
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotStoredError,
    RegistrationGoneError,
    UnsupportedError,
    errors_at,
)
from django_dcr.lifecycle import Status, state_of
from django_dcr.logs import log, log_registration
from django_dcr.mechanisms import refusal
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.runs import MAX_SILENCES, current_run

# Seconds to wait, beyond the time of one exchange, for the process that holds the row.
_MARGIN = 2.0
# With these a server asks to be retried later, whatever was requested.
RETRY_LATER = (429, 503)


@contextmanager
def operation(
    registration: ClientRegistration, step: str, *, at_any_server: bool = False
) -> Iterator[Operation]:
    """Begin work on a row that may change something at its server.

    Raises ConflictError inside a transaction, and, unless ``at_any_server``, NotAllowedError
    where the site no longer allows the server.
    """
    with errors_at(registration.server.issuer, step, registration.pk):
        refuse_inside_atomic()
        if not at_any_server:
            registration.server.check_allowed()
        yield Operation(registration, step)


class Exchanges:
    """The requests of one operation, sent no faster than ``requests_per_minute`` allows."""

    def __init__(self, server: AuthorizationServer) -> None:
        self.server = server
        #: Whether a request was sent already, which would be wasted without those that follow.
        self.has_begun = False
        self._has_slot = False

    def wait_for_slot(self) -> None:
        """Wait until ``requests_per_minute`` allows another request, and reserve it for ``send()``.

        Waits up to DCR_TIMEOUT seconds, or half of DCR_LEASE once a request has been sent.
        Raises ConflictError with ``retry_after`` where the wait would be longer, and inside a
        transaction, which would make every other process wait.
        """
        if self.server.requests_per_minute:
            self._wait()
        self._has_slot = True

    def _wait(self) -> None:
        refuse_inside_atomic()
        patience = conf.DCR_LEASE / 2 if self.has_begun else conf.DCR_TIMEOUT
        wait = self.server.reserve(patience)
        if wait > patience:
            raise ConflictError(
                f"{self.server.issuer} has already been sent the "
                f"{self.server.requests_per_minute} requests a minute that its row allows. "
                f"Try again in {math.ceil(wait)} seconds.",
                retry_after=math.ceil(wait),
            )
        time.sleep(wait)

    @sensitive_variables()
    def send(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> transport.Reply:
        """Wait for a slot, then send one request; see ``transport.send``.

        Raises ConflictError, with nothing sent, where the next slot is too far off, and
        NetworkError where the server has failed to answer twice in this run.
        """
        run, server = current_run(), self.server
        if run is not None and run.is_silent(server.pk):
            raise NetworkError(
                f"{server.issuer} failed to answer {MAX_SILENCES} times, so nothing more was sent "
                "to it. Run this again later.",
                sent=False,
            )
        if not self._has_slot:
            self.wait_for_slot()
        self._has_slot, self.has_begun = False, True
        try:
            reply = transport.send(method, url, token=token, body=body, headers=headers)
        except NetworkError as exc:
            if run is not None and transport.is_silence(exc):
                run.note_silence(server.pk)
            raise
        if run is not None:
            run.note_answer(server.pk)
        return reply

    def record_outcome(self, exc: DCRError | None = None) -> None:
        """Record on the server's row that it does not answer, or clear that record.

        ``exc`` is the error that an exchange ended in, None for a success. Raises nothing: the
        outcome of the exchange is what the caller needs to see.
        """
        server = self.server
        try:
            if exc is not None and is_outage(exc):
                server.record_outage(exc, exc.step)
            elif exc is None or exc.status is not None or isinstance(exc, InvalidResponseError):
                server.clear_outage()
        except Error as error:
            log("not_noted", "Not recorded on the row of %s: %s", server.issuer, error)


def is_outage(exc: DCRError) -> bool:
    """Whether any other request to this server would fail in the same way now."""
    return transport.is_silence(exc) or exc.status in RETRY_LATER


class Operation(Exchanges):
    """Work on one registration; ``step`` names it in errors."""

    def __init__(self, registration: ClientRegistration, step: str) -> None:
        super().__init__(registration.server)
        self.registration = registration
        self.step = step

    @cached_property
    def requested(self) -> dict[str, Any]:
        """What the row requests, with the defaults of the server and the site."""
        return self.registration.requested

    @contextmanager
    def lease(self, *statuses: Status, task: str = "") -> Iterator[None]:
        """Hold the row for the block, and record on it the error that the block raises.

        Raises what ``acquire()`` raises.
        """
        self.acquire(*statuses, task=task)
        registration = self.registration
        try:
            with self.errors():
                yield
        except RegistrationGoneError as exc:
            mark_gone(registration, exc)
            raise
        except NotStoredError as exc:
            log("not_stored", "%s", exc)
            with suppress(Error):  # the database may still be unreachable
                registration.fail(exc)
            raise
        except DCRError as exc:
            if not (isinstance(exc, ConflictError) and exc.retry_after):  # that one is transient
                registration.fail(exc)
            self.record_outcome(exc)
            raise
        else:
            self.record_outcome()
        finally:
            registration.release()

    def acquire(self, *statuses: Status, task: str = "", **values: Any) -> None:
        """Claim the row in one of ``statuses``, waiting for another process to finish with it.

        ``task`` names the work in the row's history, if not ``step``; ``values`` are written
        with the lease. Raises ConflictError where the row is in another state, now or after the
        wait, or stays claimed for longer than one exchange may last; and, where the caller
        ``accepts_failure``, the error of the process it waited for.
        """
        registration, task = self.registration, task or self.step
        seen = registration.failure
        for _ in attempts():
            if registration.claim(*statuses, task=task, **values):
                if registration.accepts_failure and registration.failure != seen and not values:
                    self._raise_new_failure(task)
                return
            registration.reload()
            check_state(registration, *statuses)
        raise conflict(
            registration,
            "is held by another process; try again later",
            retry_after=math.ceil(conf.DCR_TIMEOUT),
        )

    def _raise_new_failure(self, task: str) -> None:
        """Raise the error that another process has just recorded, instead of trying again."""
        if self.registration.failed_at(task):
            self.registration.release()
            raise self.registration.remembered_error(self.server.issuer)

    def errors(self) -> errors_at:
        """Add issuer, step and row to the errors of a block before they are recorded."""
        return errors_at(self.server.issuer, self.step, self.registration.pk)

    def log_warnings(self, request: Mapping[str, Any]) -> None:
        """Log what the server accepts in a request, but is better changed."""
        for sentence in protocol.warnings(request, self.server.metadata):
            log("advised", "Before sending to %s: %s", self.server.issuer, sentence)


def attempts() -> Iterator[None]:
    """Yield at intervals, for as long as it is worth waiting for the process that holds a row.

    The intervals shrink, so that the process that has waited longest is not starved by newcomers.
    """
    started, waited = time.monotonic(), 0.0
    while waited < conf.DCR_TIMEOUT + _MARGIN:
        yield
        # With jitter: waiters that woke together would collide again.
        time.sleep(random.uniform(0.1, 1) * 0.1 / (1 + waited))  # noqa: S311
        waited = time.monotonic() - started


# -- backing off -------------------------------------------------------------------------------


@contextmanager
def backoff(registration: ClientRegistration, task: str) -> Iterator[None]:
    """Raise the remembered error of ``task``, or of the server, until its pause is over.

    For work that nobody requested by name: a user opened a page, or a queue ran a job. After the
    pause one caller runs the block, and for the others the error is still raised until the
    outcome is known. A caller in the block that waits for another process raises that process's
    error. Raises ConflictError inside a transaction, where nothing may be sent.
    """
    check_backoff(registration.server, *[registration] if registration.failed_at(task) else [])
    registration.accepts_failure = True
    try:
        yield
    finally:
        registration.accepts_failure = False


def check_backoff(server: AuthorizationServer, *failed: ClientRegistration) -> None:
    """As ``backoff()``, for a server and those of its registrations that ``failed``."""
    rows: list[AuthorizationServer | ClientRegistration] = [*failed]
    rows = [row for row in ([server, *rows] if server.is_held_back else rows) if not row.may_retry]
    for row in rows:
        if row.seconds_until_retry:
            raise row.remembered_error(server.issuer)
    for row in rows:
        refuse_inside_atomic()
        if not row.claim_retry():
            raise row.remembered_error(server.issuer)


# -- refusing ----------------------------------------------------------------------------------


def is_inside_atomic() -> bool:
    """Whether a caller's transaction is open, or autocommit is off.

    The test is Django's own for ``atomic(durable=True)``, so Django's test cases still work.
    """
    alias = router.db_for_write(ClientRegistration)
    connection = transaction.get_connection(alias)
    if connection.in_atomic_block:
        with suppress(RuntimeError), transaction.atomic(using=alias, durable=True):
            return False
        return True
    return not connection.get_autocommit()  # without it, no intent would be committed either


def refuse_inside_atomic() -> None:
    """Raise ConflictError inside a caller's transaction, whose rollback would lose credentials."""
    if not is_inside_atomic():
        return
    raise ConflictError(
        "This sends requests to the server and cannot run inside a transaction, whose rollback "
        "would lose what the server issued. Call it outside atomic(); with ATOMIC_REQUESTS "
        "decorate the view with transaction.non_atomic_requests."
    )


def check_state(registration: ClientRegistration, *statuses: Status) -> None:
    """Raise ConflictError, with the next step, unless the row is in one of ``statuses``."""
    if registration.status not in statuses:
        raise conflict(registration, state_of(registration).next_step)


def check_possible(registration: ClientRegistration, action: str) -> None:
    """Raise UnsupportedError, saying why, where the row's mechanism does not allow the action."""
    refused = refusal(registration, action)
    if refused:
        raise UnsupportedError(f"Registration {registration.pk} {refused}.")


def conflict(
    registration: ClientRegistration, what: str, *, retry_after: int | None = None
) -> ConflictError:
    issuer = registration.server.issuer
    return ConflictError(
        f"Registration {registration.pk} {what.format(pk=registration.pk, issuer=issuer)}.",
        retry_after=retry_after,
    )


def unusable(information: protocol.ClientInformation) -> InvalidResponseError:
    reasons = "; ".join(information.faults)
    if information.error:
        reasons = f"the answer is an error{information.error}"
    return InvalidResponseError(
        f"The server's answer cannot be used: {reasons}. Report this to the server's operator."
    )


# -- announcing --------------------------------------------------------------------------------


def mark_gone(registration: ClientRegistration, refusal: RegistrationGoneError) -> None:
    """Record that the server refuses the row's token or forgot the client; send ``gone``."""
    if registration.fail(refusal, Status.GONE):
        announce(signals.gone, registration)


def announce(
    signal: Signal,
    registration: ClientRegistration,
    *,
    replaced: ClientRegistration | None = None,
) -> None:
    """Log what has happened to a client, and send the signal."""
    event = _EVENTS.get(signal)
    if event is not None:
        log_registration(event, event.capitalize(), registration, in_place_of(replaced))
    extra = {} if replaced is None else {"replaced": replaced}
    # A receiver's error must not undo or hide what has happened at the server.
    signal.send_robust(sender=ClientRegistration, registration=registration, **extra)


def in_place_of(replaced: ClientRegistration | None) -> str:
    return f", in place of registration {replaced.pk}." if replaced else ""


# Not here: a secret changes only as part of one of these, and "gone" is logged as a failure.
_EVENTS = {
    signals.registered: "registered",
    signals.updated: "updated",
    signals.renewed: "renewed",
    signals.revoked: "revoked",
}

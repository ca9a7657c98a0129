"""One process at a time: taking a row for work that may turn its tokens."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import router, transaction
from django.dispatch import Signal

from django_dcr import protocol, signals
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    RegistrationGoneError,
)
from django_dcr.models import ClientRegistration, Status

# How much longer than one exchange to wait for the process that has the row, in seconds.
_MARGIN = 2.0

_NEXT_STEP = {
    Status.DRAFT: "has not been sent to the server yet; register it first",
    Status.REGISTERING: "is being registered by another process; try again in a moment",
    Status.ACTIVE: "is registered already; update, renew or revoke it instead",
    Status.REJECTED: "was refused by the server; correct its metadata and register it again",
    Status.UNKNOWN: (
        "was sent and the answer was lost, so the server may hold a client that cannot be named; "
        "decide with: manage.py dcr_reconcile --retry {pk}, or --forget {pk}"
    ),
    Status.REVOKING: "is being revoked; finish with: manage.py dcr_revoke {pk}",
    Status.REVOKED: "is closed; register anew instead",
    Status.GONE: (
        "is no longer accepted by the server; "
        "decide with: manage.py dcr_reconcile --retry {pk}, or --forget {pk}"
    ),
}


def refuse_inside_atomic(step: str) -> None:
    """Raise ConflictError inside a caller's transaction, whose rollback would lose credentials.

    The test is Django's own for ``atomic(durable=True)``, so test cases still work.
    """
    alias = router.db_for_write(ClientRegistration)
    connection = transaction.get_connection(alias)
    # Where a caller has turned autocommit off, the intent would not be committed either.
    if connection.in_atomic_block or connection.get_autocommit():
        with suppress(RuntimeError), transaction.atomic(using=alias, durable=True):
            return
    raise ConflictError(
        "This speaks to the server and cannot run inside a transaction, whose rollback "
        "would lose what the server issued. Call it outside atomic(); with ATOMIC_REQUESTS "
        "decorate the view with transaction.non_atomic_requests.",
        step=step,
    )


def take(
    registration: ClientRegistration, *statuses: Status, step: str, task: str = "", **values: Any
) -> None:
    """Claim the row while it is in one of ``statuses``, waiting for another process to finish.

    ``task`` is what its history calls this, where that is not the ``step``.
    Raises ConflictError where it is, or comes to be, in another state, or stays taken for
    longer than one exchange may last.
    """
    deadline = patience()
    while not registration.claim(*statuses, task=task or step, **values):
        registration.reload()
        check_state(registration, *statuses, step=step)
        if time.monotonic() > deadline:
            raise conflict(registration, "is held by another process; try again later", step)
        pause()


@contextmanager
def held(
    registration: ClientRegistration, *statuses: Status, step: str, task: str = ""
) -> Iterator[None]:
    """Hold the row for the block, and record on it how the block failed."""
    take(registration, *statuses, step=step, task=task)
    try:
        yield
    except RegistrationGoneError as exc:
        lose(registration, exc)
        raise
    except DCRError as exc:
        registration.fail(exc)
        raise
    finally:
        registration.release()


def lose(registration: ClientRegistration, refusal: RegistrationGoneError) -> None:
    """Record that the server refuses the row's token or forgot the client, and tell of it."""
    if registration.fail(refusal, Status.GONE):
        announce(signals.gone, registration)


def check_state(registration: ClientRegistration, *statuses: Status, step: str) -> None:
    """Raise ConflictError, with the next step, unless the row is in one of ``statuses``."""
    if registration.status not in statuses:
        raise conflict(registration, _NEXT_STEP[Status(registration.status)], step)


def conflict(registration: ClientRegistration, what: str, step: str) -> ConflictError:
    return ConflictError(
        f"Registration {registration.pk} {what.format(pk=registration.pk)}.",
        issuer=registration.server.issuer,
        step=step,
    )


def unusable(
    registration: ClientRegistration, information: protocol.ClientInformation, step: str
) -> InvalidResponseError:
    return InvalidResponseError(
        f"The server's answer cannot be used: {'; '.join(information.faults)}. "
        "Report this to the server's operator.",
        issuer=registration.server.issuer,
        step=step,
    )


def patience() -> float:
    """Return until when to wait for the process that has a row, on the monotonic clock."""
    return time.monotonic() + conf.DCR_TIMEOUT + _MARGIN


def pause() -> None:
    # Waiters that woke in step would collide again.
    time.sleep(random.uniform(0.01, 0.1))  # noqa: S311


def announce(signal: Signal, registration: ClientRegistration, **extra: Any) -> None:
    # A receiver's error must not undo or hide what has happened at the server.
    signal.send_robust(sender=ClientRegistration, registration=registration, **extra)

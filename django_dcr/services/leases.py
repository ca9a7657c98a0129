"""One process at a time: taking a row for work that may turn its tokens."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import Error, router, transaction
from django.dispatch import Signal

from django_dcr import protocol, signals
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NotStoredError,
    RegistrationGoneError,
)
from django_dcr.lifecycle import STATES, Status
from django_dcr.models import ClientRegistration

logger = logging.getLogger("django_dcr")

# How much longer than one exchange to wait for the process that has the row, in seconds.
_MARGIN = 2.0


def refuse_inside_atomic(step: str) -> None:
    """Raise ConflictError inside a caller's transaction, whose rollback would lose credentials.

    The test is Django's own for ``atomic(durable=True)``, so test cases still work.
    """
    alias = router.db_for_write(ClientRegistration)
    connection = transaction.get_connection(alias)
    if connection.in_atomic_block:
        with suppress(RuntimeError), transaction.atomic(using=alias, durable=True):
            return
    elif connection.get_autocommit():  # where it is off, no intent would be committed either
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
    for _ in attempts():
        if registration.claim(*statuses, task=task or step, **values):
            return
        registration.reload()
        check_state(registration, *statuses, step=step)
    raise conflict(
        registration,
        "is held by another process; try again later",
        step,
        retry_after=math.ceil(conf.DCR_TIMEOUT),
    )


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
    except NotStoredError as exc:
        exc.step = step
        logger.error("%s", exc)
        with suppress(Error):  # the database may still be out of reach
            registration.fail(exc)
        raise
    except DCRError as exc:
        if not (isinstance(exc, ConflictError) and exc.retry_after):  # which passes
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
        state = STATES[Status(registration.status)]
        raise conflict(registration, state.next_step, step)


def conflict(
    registration: ClientRegistration, what: str, step: str, *, retry_after: int | None = None
) -> ConflictError:
    return ConflictError(
        f"Registration {registration.pk} {what.format(pk=registration.pk)}.",
        issuer=registration.server.issuer,
        step=step,
        retry_after=retry_after,
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


def attempts() -> Iterator[None]:
    """Come back again and again, for as long as to wait for the process that has a row.

    More and more often: who has waited longest must not starve among those who came later.
    """
    started, waited = time.monotonic(), 0.0
    while waited < conf.DCR_TIMEOUT + _MARGIN:
        yield
        # At random, for waiters that woke in step would collide again.
        time.sleep(random.uniform(0.1, 1) * 0.1 / (1 + waited))  # noqa: S311
        waited = time.monotonic() - started


def announce(signal: Signal, registration: ClientRegistration, **extra: Any) -> None:
    # A receiver's error must not undo or hide what has happened at the server.
    signal.send_robust(sender=ClientRegistration, registration=registration, **extra)

"""Writes that a database may reject, abort, or leave in doubt."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections, transaction
from django.utils import timezone

_T = TypeVar("_T")

_MIN_ATTEMPTS = 3
# In seconds: how long to retry writes that store nothing issued by a server, the first pause
# between two attempts, and the longest. Each pause is twice the one before.
_PATIENCE = 1.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


def moment_after(last: datetime) -> datetime:
    """Now, but later than the ``last`` write, even if the clocks of the hosts differ."""
    return max(timezone.now(), last + timedelta(microseconds=1))


class InDoubtError(OperationalError):
    """A COMMIT got no reply, and the database does not answer whether it was carried out."""


class _Retries:
    """Attempts with growing pauses: at least three, and more until ``until`` (monotonic)."""

    def __init__(self, alias: str, until: float | None) -> None:
        self.alias = alias
        self.until = time.monotonic() + _PATIENCE if until is None else until
        self.errors: list[Exception] = []

    def again(self, error: Exception) -> bool:
        """Wait before another attempt, on a new connection; False if there is to be none."""
        if connections[self.alias].in_atomic_block:
            raise error  # the caller's transaction is lost, and with it all attempts
        connections[self.alias].close()
        self.errors.append(error)
        pause = min(_FIRST_PAUSE * 2 ** (len(self.errors) - 1), _LONGEST_PAUSE)
        if len(self.errors) >= _MIN_ATTEMPTS and time.monotonic() + pause > self.until:
            return False
        time.sleep(pause)
        return True


def retry_on_db_error(act: Callable[[], _T], alias: str) -> _T:
    """Return what ``act`` returns; retry it after transient errors.

    The connection may have broken during HTTP. And MariaDB aborts one of two statements that
    deadlock, as an insert and an update of the same key can.
    """
    retries = _Retries(alias, until=None)
    while True:
        try:
            return act()
        except (OperationalError, InterfaceError) as exc:
            if not retries.again(exc):
                raise


def write_confirmed(
    write: Callable[[], int],
    is_there: Callable[[], bool],
    alias: str,
    *,
    until: float | None = None,
) -> bool:
    """As ``retry_on_db_error()``, and check whether a failed attempt was carried out after all.

    ``until``, by ``time.monotonic()``, is when to stop retrying. Raises InDoubtError if the
    outcome cannot be determined.
    """
    retries = _Retries(alias, until)
    while True:
        try:
            return bool(write()) or (bool(retries.errors) and is_there())
        except (OperationalError, InterfaceError) as exc:
            if not retries.again(exc):
                break
    if _found(is_there, in_doubt=any(isinstance(each, InDoubtError) for each in retries.errors)):
        return True
    last = retries.errors[-1]
    raise OperationalError(*last.args) from last


def _found(is_there: Callable[[], bool], *, in_doubt: bool) -> bool:
    try:
        return is_there()
    except (OperationalError, InterfaceError) as exc:
        if in_doubt:
            raise InDoubtError(*exc.args) from exc
        return False


def savepoint_if_nested(alias: str) -> AbstractContextManager[Any]:
    """A savepoint inside a transaction, so that the caller can go on after a failed statement."""
    is_nested = connections[alias].in_atomic_block
    return transaction.atomic(using=alias) if is_nested else nullcontext()


def update_in_savepoint(update: Callable[[], int], alias: str) -> bool:
    with savepoint_if_nested(alias):
        return bool(update())


def commit_or_in_doubt(update: Callable[[], int], alias: str) -> bool:
    """Update in a transaction: what fails before its COMMIT has certainly not been carried out."""
    updated = None
    try:
        with transaction.atomic(using=alias):
            updated = update()
    except (OperationalError, InterfaceError) as exc:
        if updated is None:
            raise
        raise InDoubtError(*exc.args) from exc
    return bool(updated)

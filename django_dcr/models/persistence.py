"""Writes that a database may refuse, give up, or leave in doubt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections, transaction

_T = TypeVar("_T")

# How often to try what the database gives up.
_ATTEMPTS = 3


class InDoubtError(OperationalError):
    """A COMMIT got no reply, and the database cannot be asked what came of it."""


def persistently(act: Callable[[], _T], alias: str) -> _T:
    """Return what ``act`` does, tried again where the database gives it up.

    MariaDB does so to one of two that wait for each other, and two single statements can: an
    insert, and an update that takes its key away. Or the connection died while HTTP went on.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return act()
        except (OperationalError, InterfaceError) as exc:
            _give_up(exc, alias)
    return act()


def persisted(write: Callable[[], int], is_there: Callable[[], bool], alias: str) -> bool:
    """As ``persistently()``; and look whether an attempt was done all the same.

    Raises InDoubtError where nobody can tell.
    """
    errors: list[Exception] = []
    while len(errors) < _ATTEMPTS:
        try:
            return bool(write()) or (bool(errors) and is_there())
        except (OperationalError, InterfaceError) as exc:
            _give_up(exc, alias)
            errors.append(exc)
    if _found(is_there, in_doubt=any(isinstance(error, InDoubtError) for error in errors)):
        return True
    raise OperationalError(*errors[-1].args) from errors[-1]


def _give_up(error: Exception, alias: str) -> None:
    """Prepare for another attempt; in a caller's transaction there can be none."""
    if connections[alias].in_atomic_block:
        raise error
    connections[alias].close()


def _found(is_there: Callable[[], bool], *, in_doubt: bool) -> bool:
    try:
        return is_there()
    except (OperationalError, InterfaceError) as exc:
        if in_doubt:
            raise InDoubtError(*exc.args) from exc
        return False


def shield(alias: str) -> AbstractContextManager[Any]:
    """Keep a refused statement from poisoning a test's outer transaction: the caller goes on."""
    is_nested = connections[alias].in_atomic_block
    return transaction.atomic(using=alias) if is_nested else nullcontext()


def shielded(update: Callable[[], int], alias: str) -> bool:
    with shield(alias):
        return bool(update())


def committed(update: Callable[[], int], alias: str) -> bool:
    """Update in a transaction: what fails before its end has surely not been done."""
    updated = None
    try:
        with transaction.atomic(using=alias):
            updated = update()
    except (OperationalError, InterfaceError) as exc:
        if updated is None:
            raise
        raise InDoubtError(*exc.args) from exc
    return bool(updated)

"""What happened to a registration, on its own row: who, when, which step, with what outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

from django_dcr.text import clean

#: So many events are kept: enough for a year of weekly renewals, and small enough for a row.
MAX_EVENTS = 50
_MAX_NAME = 150  # characters, as many as a user name of Django's has

_actor: ContextVar[str] = ContextVar("django_dcr_actor", default="")


@contextmanager
def acting(name: str) -> Iterator[None]:
    """Let the events written inside the block bear ``name``: whoever asked for what happens.

    Holds for this thread or task alone. Without it events bear "".
    """
    token = _actor.set(clean(name, _MAX_NAME))
    try:
        yield
    finally:
        _actor.reset(token)


def extended(events: Sequence[dict[str, Any]], step: str, outcome: str) -> list[dict[str, Any]]:
    """Return the last ``MAX_EVENTS`` events, a new one at the end.

    ``outcome`` is the state that followed, and what of this app's own is to be said of it: no
    word of a server's, no secret.
    """
    at = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
    event = {"at": at, "who": _actor.get(), "step": step, "outcome": outcome}
    return [*events, event][-MAX_EVENTS:]

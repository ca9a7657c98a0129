"""Runs: one command or admin action on many rows, which one silent server must not delay."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: After this many timeouts and failed connections a server is sent no more requests in a run.
MAX_SILENCES = 2


class Run:
    """Which servers, by primary key, answered during one command or admin action.

    The threads of a command share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silences: Counter[int | None] = Counter()
        self._answered: set[int | None] = set()

    def is_silent(self, server: int | None) -> bool:
        """Whether the server is sent no more requests."""
        return self._silences[server] >= MAX_SILENCES

    def silences(self, server: int | None) -> int:
        """Return how many requests the server has not answered."""
        return self._silences[server]

    def has_answered(self, server: int | None) -> bool:
        return server in self._answered

    def note_silence(self, server: int | None) -> None:
        with self._lock:
            self._silences[server] += 1

    def note_answer(self, server: int | None) -> None:
        with self._lock:
            self._answered.add(server)


_current: ContextVar[Run | None] = ContextVar("django_dcr_run", default=None)


def current_run() -> Run | None:
    """Return the run that this thread is part of, if any."""
    return _current.get()


@contextmanager
def one_run() -> Iterator[Run]:
    """Treat the block as one run; a nested block is part of the outer one."""
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    run = Run()
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)

"""Work on many rows, which one unresponsive server must not delay."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django_dcr import transport
from django_dcr.exceptions import NetworkError
from django_dcr.models import AuthorizationServer

#: After this many timeouts and failed connections a server is sent no more requests in a run.
MAX_SILENCES = 2


class Run:
    """Which servers answered during one command or admin action, and which did not.

    The threads of a command share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silences: Counter[int | None] = Counter()
        self._answered: set[int | None] = set()

    def is_silent(self, server: int | None) -> bool:
        """Whether the server with this primary key is sent no more requests."""
        return self._silences[server] >= MAX_SILENCES

    def silences(self, server: int | None) -> int:
        """Return how many requests the server has not answered."""
        return self._silences[server]

    def has_answered(self, server: int | None) -> bool:
        return server in self._answered

    def check(self, server: AuthorizationServer) -> None:
        """Raise NetworkError where the server is sent no more requests."""
        if self.is_silent(server.pk):
            raise NetworkError(
                f"{server.issuer} failed to answer {MAX_SILENCES} times, so nothing more was sent "
                "to it. Run this again later.",
                sent=False,
            )

    def note_failure(self, server: AuthorizationServer, exc: NetworkError) -> None:
        if transport.is_silence(exc):
            with self._lock:
                self._silences[server.pk] += 1

    def note_answer(self, server: AuthorizationServer) -> None:
        with self._lock:
            self._answered.add(server.pk)


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

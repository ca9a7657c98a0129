"""Work on many rows, which one server that does not answer must not delay."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django_dcr import transport
from django_dcr.exceptions import NetworkError
from django_dcr.models import AuthorizationServer

#: After this many time-outs and failed connections a server gets no more requests in a run.
MAX_SILENCES = 2


class Run:
    """Which servers answered during one command, or one action of the admin, and which did not.

    The threads of a command share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silences: Counter[int | None] = Counter()
        self._answered: set[int | None] = set()

    def is_silent(self, server: int | None) -> bool:
        """Whether the server with this primary key gets no more requests."""
        return self._silences[server] >= MAX_SILENCES

    def silences(self, server: int | None) -> int:
        """How many requests the server has not answered."""
        return self._silences[server]

    def has_answered(self, server: int | None) -> bool:
        return server in self._answered

    def check(self, server: AuthorizationServer) -> None:
        """Raise NetworkError where the server gets no more requests."""
        if self.is_silent(server.pk):
            raise NetworkError(
                f"{server.issuer} did not answer {MAX_SILENCES} times, so no more was sent to it. "
                "Run this again later.",
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
    """The run that this thread works for, if any."""
    return _current.get()


@contextmanager
def one_run() -> Iterator[Run]:
    """Count what is done inside the block as one run; a nested block is part of the outer one."""
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

"""The order in which a command works on its rows: one server must not hold up the others."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django_dcr.services.runs import MAX_SILENCES, Run

#: The primary keys of a registration and of its server.
Pair = tuple[int, int]


class Schedule:
    """Hands the rows of a run out to its workers, in order where it can.

    Until a server has answered, no more rows of it are at work than it may fail to answer: the
    others of its rows wait, and workers go on to those of other servers.
    """

    def __init__(self, rows: Iterable[Pair], run: Run, stop: threading.Event) -> None:
        self._run, self._stop = run, stop
        self._coming = deque(rows)
        self._ready: deque[Pair] = deque()
        self._waiting: defaultdict[int, deque[Pair]] = defaultdict(deque)
        self._at_work: Counter[int] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def next_row(self) -> Iterator[Pair | None]:
        """Yield a row to work on in the block, or None when there is none left to begin."""
        pair = self._take()
        try:
            yield pair
        finally:
            if pair is not None:
                self._put_back(pair[1])

    def close(self) -> None:
        """Begin no further row."""
        with self._changed:
            self._stop_all()

    def _take(self) -> Pair | None:
        with self._changed:
            while True:
                pair = self._first_that_may_begin()
                if pair is not None:
                    self._at_work[pair[1]] += 1
                    return pair
                if not any(self._waiting.values()):
                    return None
                self._changed.wait()

    def _first_that_may_begin(self) -> Pair | None:
        if self._stop.is_set():
            self._stop_all()
        while self._ready or self._coming:
            pair = (self._ready or self._coming).popleft()
            if self._may_begin(pair[1]):
                return pair
            self._waiting[pair[1]].append(pair)
        return None

    def _may_begin(self, server: int) -> bool:
        # Those of a server that is not to be asked again come to be named.
        in_doubt = self._at_work[server] + self._run.silences(server)
        return self._is_known(server) or in_doubt < MAX_SILENCES

    def _is_known(self, server: int) -> bool:
        return self._run.has_answered(server) or self._run.is_silent(server)

    def _put_back(self, server: int) -> None:
        with self._changed:
            self._at_work[server] -= 1
            waiting = self._waiting[server]
            # One for each that is done, so that nothing is looked at again and again.
            while waiting:
                self._ready.append(waiting.popleft())
                if not self._is_known(server):
                    break
            self._changed.notify_all()

    def _stop_all(self) -> None:
        self._coming.clear()
        self._ready.clear()
        self._waiting.clear()
        self._changed.notify_all()

"""The order in which a command works on its rows: one server must not delay the others."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django_dcr.runs import MAX_SILENCES, Run

# How many rows are passed over for those of other servers: a million would take a lot of memory.
_MAX_WAITING = 10_000

#: The primary keys of a registration and of its server.
Pair = tuple[int, int]


class Schedule:
    """Hands out the rows of a run to its workers, in order as far as possible.

    Until a server has answered for the first time, at most ``MAX_SILENCES`` of its rows are at
    work. The others wait, and the workers take rows of other servers.
    """

    def __init__(self, rows: Iterable[Pair], run: Run, stop: threading.Event) -> None:
        self._run, self._stop = run, stop
        self._coming = iter(rows)
        self._ready: deque[Pair] = deque()
        self._waiting: defaultdict[int, deque[Pair]] = defaultdict(deque)
        self._waiting_in_all = 0
        self._at_work: Counter[int] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def next_row(self) -> Iterator[Pair | None]:
        """Yield a row to work on in the block, or None when no row is left."""
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
                if not self._waiting_in_all:
                    return None
                self._changed.wait()

    def _first_that_may_begin(self) -> Pair | None:
        if self._stop.is_set():
            self._stop_all()
        while self._ready or self._waiting_in_all < _MAX_WAITING:
            pair = self._ready.popleft() if self._ready else next(self._coming, None)
            if pair is None or self._may_begin(pair[1]):
                return pair
            self._waiting[pair[1]].append(pair)
            self._waiting_in_all += 1
        return None

    def _may_begin(self, server: int) -> bool:
        # The rows of a silent server are handed out as well, so that the summary names them.
        in_doubt = self._at_work[server] + self._run.silences(server)
        return self._is_known(server) or in_doubt < MAX_SILENCES

    def _is_known(self, server: int) -> bool:
        return self._run.has_answered(server) or self._run.is_silent(server)

    def _put_back(self, server: int) -> None:
        with self._changed:
            self._at_work[server] -= 1
            waiting = self._waiting[server]
            # One for each that is done: to look at all of them each time would be quadratic.
            while waiting:
                self._ready.append(waiting.popleft())
                self._waiting_in_all -= 1
                if not self._is_known(server):
                    break
            self._changed.notify_all()

    def _stop_all(self) -> None:
        self._coming = iter(())
        self._ready.clear()
        self._waiting.clear()
        self._waiting_in_all = 0
        self._changed.notify_all()

"""Work on many registrations: one failure stops no other row, and no server delays another."""

from __future__ import annotations

import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from django.core.management import CommandError
from django.db import connections
from tqdm import tqdm  # type: ignore[import-untyped]

from django_dcr.management.failures import ERRORS, INTERRUPTED, describe_error
from django_dcr.management.output import DCRCommand, Row, discard_output
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet
from django_dcr.runs import MAX_SILENCES, Run, one_run

Service = Callable[[ClientRegistration], ClientRegistration]
#: The primary keys of a registration and of its server.
Keys = tuple[int, int]

_PAGE = 1000
_MAX_NAMED = 2000  # failures that the summary lists
_QUIET_ROWS = 5  # up to here the rows themselves show the progress
_MAX_POSTPONED = 10_000  # which bounds the memory: a run may have a million rows


class WorkCommand(DCRCommand):
    """A command that acts on registrations, each on its own."""

    #: How many rows are worked on at the same time, each in a thread.
    workers = 1

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.workers = options.get("workers", 1)
        return super().execute(*args, **options)

    def work(
        self,
        rows: ClientRegistrationQuerySet,
        service: Service,
        *,
        done: str,
        leaves_silent: bool = True,
    ) -> None:
        """Call ``service`` on each row, print what it returns, and sum up on standard error.

        A row that fails does not stop the others; CommandError lists the failures at the end.
        After SIGINT or SIGTERM no further row is started. With ``workers`` rows are printed in
        the order in which they are finished. Once a server has failed to answer twice, its other
        rows are left for later and listed; without ``leaves_silent`` the service is called for
        them too, although nothing is sent to that server.
        """
        tally = _Tally(rows.order_by().count())
        with _deferred_signals() as stop, one_run() as run:
            attempt = partial(_attempt, service, run if leaves_silent else None, self._rows())
            outcomes: Iterator[_Outcome] = map(
                attempt, takewhile(lambda _: not stop.is_set(), _keys(rows))
            )
            if self.workers > 1:
                outcomes = self._in_threads(attempt, Schedule(_keys(rows), run), stop)
            printed = self._counted(outcomes, tally)
            try:
                self.write_registrations(printed, none="Nothing to do.")
                self.stdout.flush()
            except BrokenPipeError:
                discard_output()
                deque(printed, maxlen=0)  # the work is still wanted
        self._sum_up(tally, done, interrupted=stop.is_set())

    def failure_cell(self, error: str) -> str:
        """Return what the table says of a failed row whose ``error`` the summary lists."""
        on_terminal = self.stdout.isatty() and self.stderr.isatty() and not self.as_json
        return "see below" if on_terminal else error

    def _rows(self) -> ClientRegistrationQuerySet:
        """All registrations, with what is printed of each."""
        rows = ClientRegistration.objects.select_related("server")
        return rows.with_replacements() if self.as_json else rows

    def _in_threads(
        self, attempt: _Attempt, schedule: Schedule, stop: threading.Event
    ) -> Iterator[_Outcome]:
        """Attempt as many rows at a time as there are workers; yield outcomes as they come."""
        running: dict[Future[_Outcome], Keys] = {}
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                while True:
                    while len(running) < self.workers and not stop.is_set():
                        if (keys := schedule.next_row()) is None:
                            break
                        # In a copy of the context, which has the actor for the rows' history.
                        running[pool.submit(copy_context().run, attempt, keys)] = keys
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        schedule.finish(running.pop(future))
                        yield future.result()
            finally:
                _close_connections(pool, self.workers)

    def _counted(self, outcomes: Iterable[_Outcome], tally: _Tally) -> Iterator[Row]:
        """Count the outcomes, show the progress, and yield what is to be printed."""
        quiet = tally.total <= _QUIET_ROWS or not self.stderr.isatty()
        for each in tqdm(outcomes, total=tally.total, disable=quiet, leave=False, unit=""):
            is_listed = tally.count(each)
            if each.row is None:
                continue
            if each.row.pk != each.pk:
                self.note(f"Registration {each.pk} was replaced by {each.row.pk}.")
            error = self.failure_cell(each.error) if is_listed else each.error
            yield each.row, {"error": error or None}

    def _sum_up(self, tally: _Tally, done: str, *, interrupted: bool) -> None:
        # Others may have changed since the count which rows are selected.
        total = tally.total if interrupted else tally.seen
        text, lines = f"{tally.done} of {total} {done}.", [*tally.lines()]
        if interrupted:
            label = " Failed:" if lines else ""
            advice = "Continue by running the command again."
            message = "\n".join([f"Interrupted. {text}{label}", *lines, advice])
            raise CommandError(message, returncode=INTERRUPTED)
        self.sum_up(text, lines)


class _Outcome(NamedTuple):
    pk: int
    row: ClientRegistration | None
    error: str = ""
    is_left: bool = False


_Attempt = Callable[[Keys], _Outcome]


@dataclass
class _Tally:
    total: int
    seen: int = 0
    done: int = 0
    unlisted: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    #: The ids of the rows that were left for later, by the issuer of their server.
    left: dict[str, list[int]] = field(default_factory=dict)

    def count(self, outcome: _Outcome) -> bool:
        """Count an outcome; return whether the summary lists its error."""
        self.seen += 1
        if not outcome.error:
            self.done += 1
            return False
        if self.seen - self.done > _MAX_NAMED:
            self.unlisted += 1
            return False
        if outcome.is_left and outcome.row is not None:
            self.left.setdefault(outcome.row.server.issuer, []).append(outcome.pk)
        else:
            self.failures[outcome.pk] = outcome.error
        return True

    def lines(self) -> Iterator[str]:
        yield from (f"  {pk}: {error}" for pk, error in self.failures.items())
        for issuer, pks in self.left.items():
            ids = ", ".join(map(str, pks))
            yield f"  {ids}: left for later, since {issuer} did not answer."
        if self.unlisted:
            yield f"  And {self.unlisted} more, named above."


class Schedule:
    """The order of the rows for several workers: as given, as far as possible.

    Until a server has answered for the first time, at most ``MAX_SILENCES`` of its rows are
    worked on. The others are postponed, and rows of other servers come first.
    """

    def __init__(self, rows: Iterable[Keys], run: Run) -> None:
        self._run = run
        self._rows = iter(rows)
        self._ready: deque[Keys] = deque()
        self._postponed: defaultdict[int, deque[Keys]] = defaultdict(deque)
        self._postponed_count = 0
        self._running: Counter[int] = Counter()

    def next_row(self) -> Keys | None:
        """Return a row to start now, or None where there is none until another is finished."""
        while self._ready or self._postponed_count < _MAX_POSTPONED:
            keys = self._ready.popleft() if self._ready else next(self._rows, None)
            if keys is None:
                break
            server = keys[1]
            in_doubt = self._running[server] + self._run.silences(server)
            if self._is_known(server) or in_doubt < MAX_SILENCES:
                self._running[server] += 1
                return keys
            self._postponed[server].append(keys)
            self._postponed_count += 1
        return None

    def finish(self, keys: Keys) -> None:
        """Record that a row of ``next_row`` is finished."""
        server = keys[1]
        self._running[server] -= 1
        postponed = self._postponed[server]
        # While the server is unknown one may follow; to look at all each time is quadratic.
        while postponed:
            self._ready.append(postponed.popleft())
            self._postponed_count -= 1
            if not self._is_known(server):
                break

    def _is_known(self, server: int) -> bool:
        # Rows of a silent server are returned, too, so that the summary lists them.
        return self._run.has_answered(server) or self._run.is_silent(server)


def _close_connections(pool: ThreadPoolExecutor, threads: int) -> None:
    """Close the database connections of each thread of the pool."""
    all_have_come = threading.Barrier(threads)  # until then none takes a second task

    def close() -> None:
        connections.close_all()
        all_have_come.wait()

    wait([pool.submit(close) for _ in range(threads)])


def _attempt(
    service: Service, run: Run | None, rows: ClientRegistrationQuerySet, keys: Keys
) -> _Outcome:
    pk, server = keys
    if run is not None and run.is_silent(server):
        error = "Left for later, since the server did not answer."
        return _Outcome(pk, rows.filter(pk=pk).first(), error, is_left=True)
    try:
        return _Outcome(pk, service(rows.get(pk=pk)))
    except ClientRegistration.DoesNotExist:
        return _Outcome(pk, None, "was removed meanwhile")
    except ERRORS as exc:
        return _Outcome(pk, rows.filter(pk=pk).first(), describe_error(exc))  # as it is stored


def _keys(rows: ClientRegistrationQuerySet) -> Iterator[Keys]:
    """Yield the keys of the present rows and of their servers, a page at a time.

    An open cursor would hold a lock on SQLite while requests are sent. Rows that the work
    inserts, such as a client that replaces another, are left out.
    """
    keys = rows.order_by("pk").values_list("pk", "server_id")
    last = keys.last()
    after = 0
    while last is not None and (page := list(keys.filter(pk__gt=after, pk__lte=last[0])[:_PAGE])):
        yield from page
        after = page[-1][0]


@contextmanager
def _deferred_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second signal has its usual effect."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # handlers can be set in the main thread only
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(*_: object) -> None:
        stop.set()
        restore()

    for number in numbers:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()

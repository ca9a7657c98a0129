"""What the commands share that act on registrations: working on each, and choosing them."""

from __future__ import annotations

import re
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from django.core.management import CommandError
from django.db import connections
from tqdm import tqdm  # type: ignore[import-untyped]

from django_dcr.fields import digest
from django_dcr.management.output import (
    ERRORS,
    INTERRUPTED,
    DCRCommand,
    Row,
    discard_output,
    sentence,
)
from django_dcr.management.schedule import Pair, Schedule
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet, Status
from django_dcr.services.runs import Run, one_run
from django_dcr.text import clean

_PAGE = 1000
_MAX_NAMED = 2000  # so many failures are told once more at the end
_QUIET_ROWS = 5  # up to here a progress bar says less than the rows themselves


class WorkCommand(DCRCommand):
    """A command that acts on registrations, each on its own."""

    #: How many rows are worked on at once, each in a thread.
    workers = 1

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.workers = options.get("workers", 1)
        return super().execute(*args, **options)

    def work(
        self,
        rows: ClientRegistrationQuerySet,
        act: Callable[[ClientRegistration], ClientRegistration],
        *,
        done: str,
        leaves_silent: bool = True,
    ) -> None:
        """Call ``act`` on each row, print what it returns, and sum up on standard error.

        A row that fails does not stop the others; CommandError names it in the end. SIGINT and
        SIGTERM let the rows at work finish. With ``workers`` they come as they are done. Where a
        server has not answered twice its other rows are left for later, and named as well;
        without ``leaves_silent`` they are worked on, though nothing is sent to it.
        """
        tally = _Tally(rows.order_by().count())
        with _deferred_signals() as stop, one_run() as run:
            attempt = partial(_attempt, act, run if leaves_silent else None, self.loading())
            outcomes = self._outcomes(tally, attempt, Schedule(_pairs(rows), run, stop))
            try:
                self.write_registrations(outcomes)
                self.stdout.flush()
            except BrokenPipeError:
                discard_output()
                deque(outcomes, maxlen=0)  # nobody reads on, and the work is still asked for
        self._sum_up(tally, done, interrupted=stop.is_set())

    def loading(self) -> ClientRegistrationQuerySet:
        """All registrations, with what is printed of each."""
        rows = ClientRegistration.objects.select_related("server")
        return rows.with_places() if self.as_json else rows

    def _outcomes(
        self,
        tally: _Tally,
        attempt: _Attempt,
        schedule: Schedule,
    ) -> Iterator[Row]:
        outcomes = _one_by_one(attempt, schedule)
        if self.workers > 1:
            outcomes = self._at_once(attempt, schedule)
        quiet = tally.total <= _QUIET_ROWS or not self.stderr.isatty()
        for each in tqdm(outcomes, total=tally.total, disable=quiet, leave=False, unit=""):
            tally.count(each)
            if each.registration is not None:
                yield each.registration, {"error": each.error}

    def _at_once(self, attempt: _Attempt, schedule: Schedule) -> Iterator[_Outcome]:
        """Attempt so many rows at once as there are workers; yield what is done first first."""
        outcomes: SimpleQueue[_Outcome | None] = SimpleQueue()

        def work() -> None:
            try:
                for outcome in _one_by_one(attempt, schedule):
                    outcomes.put(outcome)
            finally:
                connections.close_all()  # they are this thread's own
                outcomes.put(None)

        with ThreadPoolExecutor(self.workers) as pool:
            # A copy of the context each, so that the rows' history says who acted.
            workers = [pool.submit(copy_context().run, work) for _ in range(self.workers)]
            try:
                for _worker in workers:
                    yield from iter(outcomes.get, None)
            finally:
                schedule.close()  # whatever ended this
        for worker in workers:
            worker.result()  # raises what is no fault of a row

    def _sum_up(self, tally: _Tally, done: str, *, interrupted: bool) -> None:
        # Rows may have come to be meant, or not to be meant any more, since they were counted.
        total = tally.total if interrupted else tally.seen
        text = f"{tally.done} of {total} {done}."
        if tally.failures:
            lines = [f"  {pk}: {error}" for pk, error in tally.failures.items()]
            for issuer, ids in tally.left.items():
                named = ", ".join(map(str, ids))
                lines.append(f"  {named}: left for later, since {issuer} did not answer.")
            lines += [f"  And {tally.unnamed} more, named above."] if tally.unnamed else []
            text = "\n".join([f"{text} Failed:", *lines])
        if interrupted:
            raise CommandError(
                f"Interrupted. {text}\nGo on by running the command again.",
                returncode=INTERRUPTED,
            )
        if tally.failures:
            raise CommandError(text)
        self.note(text)


class RegistrationsCommand(WorkCommand):
    """A command whose options name the registrations that are meant."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", metavar="ID", help="registrations by their id")
        parser.add_argument("--issuer", help="those at this authorization server")
        parser.add_argument("--owner", help='those of this owner; "" is the site itself')
        parser.add_argument("--status", choices=Status.values, help="those in this state")
        parser.add_argument("--all", action="store_true", dest="everything", help="all of them")

    def select(self, options: Mapping[str, Any]) -> ClientRegistrationQuerySet:
        """Return the registrations that the options name; CommandError for ids that are none."""
        rows = ClientRegistration.objects.select_related("server").order_by("pk")
        if options["issuer"] is not None:
            rows = rows.filter(server__issuer_digest=digest(options["issuer"]))
        owner = options["owner"]
        if owner is not None:
            rows = rows.owned_by(owner)
            # MariaDB compares without regard to case and to blanks at the end.
            found = rows.values_list("pk", "owner").iterator()
            rows = rows.exclude(pk__in=[pk for pk, text in found if text != owner])
        if options["status"] is not None:
            rows = rows.filter(status=options["status"])
        return among(rows, options["ids"]) if options["ids"] else rows

    def choose(self, options: Mapping[str, Any], *statuses: Status) -> ClientRegistrationQuerySet:
        """Return what to work on: by id or status as named, else those in ``statuses``.

        Raises CommandError where nothing is named, or nothing of that name is stored.
        """
        if not names_some(options):
            raise CommandError(
                "Name the registrations: by their ids, or with --issuer, --owner, --status or "
                "--all. See them with: manage.py dcr_list"
            )
        if options["ids"] and options["everything"]:
            raise CommandError("Give ids or --all, not both.")
        rows = self.select(options)
        if options["ids"] or options["status"]:
            return rows
        if not options["everything"] and not rows.exists():
            raise CommandError(
                "No registration of that issuer or owner is stored. See what is with: "
                "manage.py dcr_list"
            )
        return rows.filter(status__in=statuses)


@dataclass
class _Tally:
    total: int
    seen: int = 0
    done: int = 0
    unnamed: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    #: The ids of the rows that were left for later, by the issuer of their server.
    left: dict[str, list[int]] = field(default_factory=dict)

    def count(self, outcome: _Outcome) -> None:
        self.seen += 1
        if outcome.error is None:
            self.done += 1
        elif self.seen - self.done > _MAX_NAMED:
            self.unnamed += 1
        elif outcome.registration is not None and outcome.is_left:
            self.left.setdefault(outcome.registration.server.issuer, []).append(outcome.pk)
        else:
            self.failures[outcome.pk] = outcome.error


class _Outcome(NamedTuple):
    pk: int
    registration: ClientRegistration | None
    error: str | None
    is_left: bool = False


def _pairs(rows: ClientRegistrationQuerySet) -> Iterator[Pair]:
    """The keys of the rows that there are now, and of their servers, a page at a time.

    No cursor stays open: on SQLite it would hold a lock while servers are spoken to. And what the
    work inserts, such as a new client in place of another, is not worked on in its turn.
    """
    keys = rows.order_by("pk").values_list("pk", "server_id")
    last = keys.last()
    after = 0
    while last is not None and (page := list(keys.filter(pk__gt=after, pk__lte=last[0])[:_PAGE])):
        yield from page
        after = page[-1][0]


_LEFT = "Left for later, since the server did not answer."
_Attempt = Callable[[int, int], _Outcome]


def _one_by_one(attempt: _Attempt, schedule: Schedule) -> Iterator[_Outcome]:
    while True:
        with schedule.next_row() as pair:
            if pair is None:
                return
            outcome = attempt(*pair)
        yield outcome


def _attempt(
    act: Callable[[ClientRegistration], ClientRegistration],
    run: Run | None,
    rows: ClientRegistrationQuerySet,
    pk: int,
    server: int,
) -> _Outcome:
    if run is not None and run.is_silent(server):
        return _Outcome(pk, rows.filter(pk=pk).first(), _LEFT, is_left=True)
    try:
        return _Outcome(pk, act(rows.get(pk=pk)), None)
    except ClientRegistration.DoesNotExist:
        return _Outcome(pk, None, "was removed meanwhile")
    except ERRORS as exc:
        return _Outcome(pk, rows.filter(pk=pk).first(), sentence(exc))  # the row as it is stored


def names_some(options: Mapping[str, Any]) -> bool:
    """Whether the options of a RegistrationsCommand name registrations at all."""
    filters = (options["issuer"], options["owner"], options["status"])
    return bool(options["ids"] or options["everything"] or any(f is not None for f in filters))


def threads(text: str) -> int:
    """Read a number of threads from the command line."""
    if not re.fullmatch("[1-9][0-9]?", text):
        raise ArgumentTypeError("write a number from 1 to 99")
    return int(text)


def days(text: str) -> timedelta:
    """Read a number of days from the command line."""
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", text):
        raise ArgumentTypeError("write a number of days, such as 7")
    return timedelta(days=float(text))


def among(rows: ClientRegistrationQuerySet, ids: list[str]) -> ClientRegistrationQuerySet:
    """Return those of ``rows`` that have the ``ids``; CommandError names the ids that none has."""
    # 64 bits hold every number of 18 digits.
    wrong = [text for text in ids if not re.fullmatch("[0-9]{1,18}", text)]
    if wrong:
        raise CommandError(f"An id is a number, not {clean(', '.join(wrong))}.")
    wanted = {int(text) for text in ids}
    chosen = rows.filter(pk__in=wanted)
    missing = sorted(wanted - set(chosen.values_list("pk", flat=True)))
    if missing:
        names = clean(", ".join(map(str, missing)), 400)
        raise CommandError(
            f"No such registration: {names}. See what is stored with: manage.py dcr_list"
        )
    return chosen


@contextmanager
def _deferred_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second signal acts as always."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread hears signals
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

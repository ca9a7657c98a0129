"""What the commands share: choosing registrations, working on each, printing, failing."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import threading
import unicodedata
from argparse import ArgumentParser, ArgumentTypeError
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from django.db import Error as DatabaseError
from tqdm import tqdm  # type: ignore[import-untyped]

from django_dcr.exceptions import DCRError, NotAllowedError
from django_dcr.fields import digest
from django_dcr.models import ClientRegistration, ClientRegistrationQuerySet, Status
from django_dcr.text import clean

#: What a command or a row may fail with; all else is a fault of this app.
ERRORS = (DCRError, ValidationError, ImproperlyConfigured, DatabaseError)

_INTERRUPTED = 130  # as a shell reports a process that SIGINT ended
_SHOWN_LENGTH = 20_000  # in characters: beyond any value that is accepted from a server
_QUIET_ROWS = 5  # up to here a progress bar says less than the rows themselves
_CHUNK_ROWS = 50  # a terminal's table is aligned by so many rows, so that memory stays constant
_NARROW = 60  # terminals with fewer columns get a line per value
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # what Python makes of bytes that are no text

Row = tuple[ClientRegistration, dict[str, Any]]


class DCRCommand(BaseCommand):
    """A command that prints for people or for programs, and fails with one sentence."""

    requires_system_checks = ("django_dcr",)
    as_json = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Abbreviations would take "--initial-access-token SECRET" for the option of the file.
        return super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format",
            choices=["table", "json"],
            default="table",
            dest="output_format",
            help="text for people (the default), or one JSON document",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.as_json = options["output_format"] == "json"
        if sys.stdout is None:  # it was closed before Python started
            options["stdout"] = io.StringIO()
        for name in ("issuer", "owner"):
            if _UNSTORABLE.search(options.get(name) or ""):
                raise CommandError(f"The {name} holds characters that are no text in UTF-8.")
        try:
            output = super().execute(*args, **options)
            self.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            sys.exit(1)
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. What was under way is recorded; settle it with: "
                "manage.py dcr_reconcile",
                returncode=_INTERRUPTED,
            ) from None
        except ERRORS as exc:
            raise CommandError(sentence(exc)) from exc
        return output

    def write(self, line: str) -> None:
        """Print a line on standard output, around a progress bar and in any encoding."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        with tqdm.external_write_mode():
            self.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding))

    def note(self, line: str) -> None:
        """Print a line on standard error, where it does not disturb what is printed."""
        self.stderr.write(line, str)

    def write_document(
        self, document: Mapping[str, Any], *, secrets: Mapping[str, str | None] | None = None
    ) -> None:
        """Print one thing: a JSON object, or a line for each member that says something.

        ``secrets`` are printed in clear and exactly as they are.
        """
        secrets = secrets or {}
        if self.as_json:
            self.write(json.dumps({**document, **secrets}, indent=2))
            return
        shown = {name: value for name, value in document.items() if value not in _EMPTY}
        for line in _details(shown):
            self.write(line)
        for name, secret in secrets.items():
            if secret is not None:
                self.write(f"{name}: {secret}")

    def write_registration(
        self, registration: ClientRegistration, *, secrets: Mapping[str, str | None] | None = None
    ) -> None:
        """Print one registration in full, its secrets only where they are handed in."""
        document = described(registration)
        if not self.as_json:
            document["client_id_issued_at"] = _moment(registration.client_id_issued_at)
            times = [_moment(registration.client_secret_expires_at), _expiry(registration)]
            document["client_secret_expires_at"] = ", ".join(filter(None, times))
            kept = {name: getattr(registration, name) for name in SECRETS if not secrets}
            document |= {name: str(value) for name, value in kept.items() if value is not None}
        self.write_document(document, secrets=secrets)

    def write_registrations(self, rows: Iterable[Row]) -> None:
        """Print registrations as they come, in constant memory."""
        if self.as_json:
            self._write_array({**described(row), **extra} for row, extra in rows)
            return
        cells = ({**_cells(row), **_texts(extra)} for row, extra in rows)
        if not self.stdout.isatty():
            lines = _tabbed(cells)
        else:
            width = shutil.get_terminal_size().columns
            lines = _stacked(cells, width) if width < _NARROW else _aligned(cells, width)
        for line in lines:
            self.write(line)

    def _write_array(self, elements: Iterable[Mapping[str, Any]]) -> None:
        separator = "["
        try:
            for element in elements:
                self.stdout.write(f"{separator}\n{json.dumps(element)}", ending="")
                separator = ","
        finally:  # one whole document, whatever happens
            self.write("[]" if separator == "[" else "\n]")


class RegistrationsCommand(DCRCommand):
    """A command that acts on chosen registrations, each on its own."""

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
            rows = rows.filter(owner=owner)
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

    def work(
        self,
        rows: ClientRegistrationQuerySet,
        act: Callable[[ClientRegistration], ClientRegistration],
        *,
        done: str,
    ) -> None:
        """Call ``act`` on each row, print what it returns, and sum up on standard error.

        A row that fails does not stop the others; CommandError names it in the end. SIGINT and
        SIGTERM let the row at work finish.
        """
        # No cursor stays open: on SQLite it would hold a lock while servers are spoken to.
        tally = _Tally(list(rows.order_by("pk").values_list("pk", flat=True)))
        with _deferred_signals() as stop:
            outcomes = self._outcomes(tally, act, stop)
            try:
                self.write_registrations(outcomes)
            except BrokenPipeError:
                _discard_output()
                deque(outcomes, maxlen=0)  # nobody reads on, and the work is still asked for
        self._sum_up(tally, done, interrupted=stop.is_set())

    def _outcomes(
        self,
        tally: _Tally,
        act: Callable[[ClientRegistration], ClientRegistration],
        stop: threading.Event,
    ) -> Iterator[Row]:
        rows = ClientRegistration.objects.select_related("server")
        quiet = len(tally.ids) <= _QUIET_ROWS or not self.stderr.isatty()
        for pk in tqdm(tally.ids, disable=quiet, leave=False, unit=""):
            if stop.is_set():
                return
            error = None
            try:
                registration = act(rows.get(pk=pk))
            except ClientRegistration.DoesNotExist:
                tally.failures[pk] = "was removed meanwhile"
                continue
            except ERRORS as exc:
                tally.failures[pk] = error = sentence(exc)
                registration = rows.get(pk=pk)  # as it is stored, without what was tried
            else:
                tally.done += 1
            yield registration, {"error": error}

    def _sum_up(self, tally: _Tally, done: str, *, interrupted: bool) -> None:
        text = f"{tally.done} of {len(tally.ids)} {done}."
        if tally.failures:
            lines = [f"  {pk}: {error}" for pk, error in tally.failures.items()]
            text = "\n".join([f"{text} Not so:", *lines])
        if interrupted:
            raise CommandError(
                f"Interrupted. {text}\nGo on by running the command again.",
                returncode=_INTERRUPTED,
            )
        if tally.failures:
            raise CommandError(text)
        self.note(text)


@dataclass
class _Tally:
    ids: list[int]
    done: int = 0
    failures: dict[int, str] = field(default_factory=dict)


def names_some(options: Mapping[str, Any]) -> bool:
    """Whether the options of a RegistrationsCommand name registrations at all."""
    filters = (options["issuer"], options["owner"], options["status"])
    return bool(options["ids"] or options["everything"] or any(f is not None for f in filters))


def days(text: str) -> timedelta:
    """Read a number of days from the command line."""
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", text):
        raise ArgumentTypeError("write a number of days, such as 7")
    return timedelta(days=float(text))


def sentence(exc: Exception) -> str:
    """Return what to tell a person about one of ``ERRORS``."""
    if isinstance(exc, ValidationError):
        return clean(" ".join(exc.messages), 500)
    if isinstance(exc, DatabaseError):
        # Further lines may quote the row.
        reason = clean(str(exc).partition("\n")[0])
        return f"The database refused ({reason}). Where tables are missing: manage.py migrate"
    return str(exc)


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


def _discard_output() -> None:
    # The end that ``docs.python.org/library/signal.html#note-on-sigpipe`` gives a closed pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -- how registrations are shown ------------------------------------------------------------

SECRETS = ("client_secret", "registration_access_token")
_EMPTY: tuple[object, ...] = (None, "", [], {})


def described(registration: ClientRegistration) -> dict[str, Any]:
    """Return a registration for JSON: what was asked and granted, and no secret."""
    return {
        "id": registration.pk,
        "issuer": registration.server.issuer,
        "owner": registration.owner,
        "status": str(registration.status),
        "client_id": registration.client_id,
        "client_id_issued_at": registration.client_id_issued_at,
        "client_secret_expires_at": registration.client_secret_expires_at,
        "registration_client_uri": registration.registration_client_uri,
        "requested_metadata": registration.requested_metadata,
        "metadata": registration.metadata,
        "drift": _drift(registration),
        "deviations": registration.deviations,
        "last_error": registration.last_error,
    }


def _drift(registration: ClientRegistration) -> dict[str, Any] | None:
    try:
        return registration.drift
    except NotAllowedError:
        return None  # the metadata that is asked is no object, so nothing can be compared


def _cells(registration: ClientRegistration) -> dict[str, str]:
    values = {
        "id": registration.pk,
        "issuer": registration.server.issuer,
        "owner": registration.owner,
        "status": registration.status,
        "client_id": registration.client_id,
        "expires": _expiry(registration),
        "drift": len(_drift(registration) or ()) or "",
    }
    return _texts(values)


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: clean("" if v is None else v, _SHOWN_LENGTH) for name, v in values.items()}


def _expiry(registration: ClientRegistration) -> str:
    if registration.client_secret is None:
        return ""
    expiry = registration.secret_expiry
    if expiry is None:
        return "never" if registration.client_secret_expires_at == 0 else "unknown"
    if registration.secret_has_expired:
        return "expired"
    count = (expiry - datetime.now(tz=timezone.utc)).days
    return {0: "within a day", 1: "in 1 day"}.get(count, f"in {count} days")


def _moment(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat() if seconds else ""


def _details(document: Mapping[str, Any]) -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield f"{clean(name)}:"
            yield from (f"  {line}" for line in _details(value))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{clean(name)}: {clean(text, _SHOWN_LENGTH)}"


def _tabbed(rows: Iterator[dict[str, str]]) -> Iterator[str]:
    """Lines for a pipe or a file: whole values between tabs."""
    for number, row in enumerate(rows):
        if number == 0:
            yield "\t".join(row)
        yield "\t".join(row.values())


def _stacked(rows: Iterator[dict[str, str]], width: int) -> Iterator[str]:
    """Lines for a narrow terminal: one for each value, and an empty one after each row."""
    for row in rows:
        yield from (_cut(f"{name}: {text}", width) for name, text in row.items() if text)
        yield ""


def _aligned(rows: Iterator[dict[str, str]], width: int) -> Iterator[str]:
    """Lines for a terminal: columns, the widest of which give way until a line fits."""
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        table = [list(chunk[0]), *(list(row.values()) for row in chunk)]
        widths = [min(width, max(map(_columns, column))) for column in zip(*table, strict=True)]
        while sum(widths) + 2 * (len(widths) - 1) > width:
            widths[widths.index(max(widths))] -= 1
        for line in table:
            cells = zip(line, widths, strict=True)
            yield "  ".join(_padded(text, columns) for text, columns in cells).rstrip()


def _padded(text: str, columns: int) -> str:
    text = _cut(text, columns)
    return text + " " * (columns - _columns(text))


def _cut(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    while _columns(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def _columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes: East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)

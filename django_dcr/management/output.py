"""What every command shares: its output, for people or for programs, and its failures."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from datetime import datetime, timezone
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from django.db import Error as DatabaseError
from tqdm import tqdm  # type: ignore[import-untyped]

from django_dcr.exceptions import DCRError, NotAllowedError
from django_dcr.management import table
from django_dcr.management.databases import explained
from django_dcr.management.interruptions import interruption
from django_dcr.models import ClientRegistration, actor
from django_dcr.text import clean

#: What a command or a row may fail with; all else is a fault of this app.
ERRORS = (DCRError, ImproperlyConfigured, DatabaseError)
#: The exit status of an interrupted command: as a shell reports a process that SIGINT ended.
INTERRUPTED = 130
SECRETS = ("client_secret", "registration_access_token")

_EMPTY: tuple[object, ...] = (None, "", [], {})
_SHOWN_LENGTH = 20_000  # in characters: beyond any value that is accepted from a server
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # what Python makes of bytes that are no text

#: A registration, and what else is to be printed of it.
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
                raise CommandError(f"The {name} is not valid UTF-8.")
        try:
            with actor(f"manage.py {type(self).__module__.rpartition('.')[2]}"):
                output = super().execute(*args, **options)
            self.stdout.flush()
            return output
        except BrokenPipeError:
            discard_output()
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted. {interruption()}", returncode=INTERRUPTED) from None
        except ERRORS as exc:
            raise CommandError(sentence(exc)) from exc
        # Out here the list that was cut short is gone, and its cursor closed with it.
        sys.exit(1)

    def write(self, text: str, ending: str = "\n") -> None:
        """Print on standard output, around a progress bar and whatever the encoding."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with tqdm.external_write_mode() if self.stdout.isatty() else nullcontext():
            self.stdout.write(text, ending=ending)

    def note(self, line: str) -> None:
        """Print a line on standard error, where it does not disturb what is printed."""
        self.stderr.write(line, str)

    def write_document(
        self, document: Mapping[str, Any], *, secrets: Mapping[str, str | None] | None = None
    ) -> None:
        """Print one thing: a JSON object, or a line for each member that says something.

        ``secrets`` are printed unencrypted and exactly as they are.
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
        document["warnings"] = registration.warnings
        if not self.as_json:
            document["client_id_issued_at"] = _moment(registration.client_id_issued_at)
            times = [_moment(registration.client_secret_expires_at), _expiry(registration)]
            document["client_secret_expires_at"] = ", ".join(filter(None, times))
            kept = {name: getattr(registration, name) for name in SECRETS if not secrets}
            document |= {name: str(value) for name, value in kept.items() if value is not None}
        self.write_document(document, secrets=secrets)

    def write_registrations(self, rows: Iterable[Row], *, none: str = "No registrations.") -> None:
        """Print registrations as they come, in constant memory."""
        if self.as_json:
            self.write_rows({**described(row), **extra} for row, extra in rows)
        else:
            self.write_rows(({**_cells(row), **extra} for row, extra in rows), none=none)

    def write_rows(
        self, rows: Iterable[Mapping[str, Any]], *, none: str = "No registrations."
    ) -> None:
        """Print what has the same members in each row: a JSON array, or a table.

        ``none`` is what a person reads where there is no row.
        """
        if self.as_json:
            self._write_array(rows)
            return
        cells = map(_texts, rows)
        if not self.stdout.isatty():
            lines = table.tabbed(cells)
        else:
            lines = table.fitted(cells, shutil.get_terminal_size().columns)
        line = ""
        for line in lines:
            self.write(line)
        if not line and self.stdout.isatty():
            self.write(none)

    def _write_array(self, elements: Iterable[Mapping[str, Any]]) -> None:
        separator, is_known = "[", True
        try:
            for element in elements:
                self.write(f"{separator}\n{json.dumps(element)}", ending="")
                separator = ","
        except Exception:
            is_known = separator != "["  # an empty list would say that there are none
            raise
        finally:  # one whole document, whatever ended it
            if is_known:
                self.write("[]" if separator == "[" else "\n]")


def sentence(exc: Exception) -> str:
    """Return what to tell a person about one of ``ERRORS``."""
    return explained(exc) if isinstance(exc, DatabaseError) else str(exc)


def discard_output() -> None:
    """Send what is still to be printed nowhere, after the reader of a pipe has left."""
    # The way of docs.python.org/3/library/signal.html#note-on-sigpipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def moment(at: datetime | None) -> str:
    """Return a moment as text, "" for none."""
    return "" if at is None else at.isoformat(timespec="seconds")


def described(registration: ClientRegistration) -> dict[str, Any]:
    """Return a registration for JSON: what was requested and granted, and no secret."""
    until = registration.rests_until
    return {
        "id": registration.pk,
        "issuer": registration.server.issuer,
        "owner": registration.owner,
        "status": str(registration.status),
        "replaced_by": registration.replaced_by,
        "replaces": registration.replaces,
        "client_id": registration.client_id,
        "mechanism": str(registration.mechanism),
        "client_id_issued_at": registration.client_id_issued_at,
        "client_secret_expires_at": registration.client_secret_expires_at,
        "registration_client_uri": registration.registration_client_uri,
        "requested_metadata": registration.requested_metadata,
        "metadata": registration.metadata,
        "drift": _drift(registration),
        "deviations": registration.deviations,
        "last_error": registration.last_error,
        "retry_at": until.isoformat(timespec="seconds") if until else None,
    }


def _drift(registration: ClientRegistration) -> dict[str, Any] | None:
    try:
        return registration.drift
    except NotAllowedError:
        return None  # the metadata that is requested is not an object, so nothing can be compared


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

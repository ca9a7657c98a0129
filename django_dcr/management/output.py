"""The base of every command: it prints for people or programs, and fails with one message."""

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

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser
from tqdm import tqdm  # type: ignore[import-untyped]

from django_dcr.exceptions import NotAllowedError
from django_dcr.management import table
from django_dcr.management.arguments import check_no_secret
from django_dcr.management.failures import (
    ERRORS,
    INTERRUPTED,
    describe_error,
    describe_interruption,
    printed_once,
)
from django_dcr.models import ClientRegistration, actor
from django_dcr.text import clean

SECRETS = ("client_secret", "registration_access_token")

_COLUMNS = (
    *("owner", "status", "replaced_by", "replaces", "client_id", "mechanism"),
    *("client_id_issued_at", "client_secret_expires_at", "registration_client_uri"),
    *("requested_metadata", "metadata"),
)
_EMPTY: tuple[object, ...] = (None, "", [], {})
_MAX_LENGTH = 20_000  # in characters: beyond any value that is accepted from a server
_INVALID = re.compile("[\x00\ud800-\udfff]")  # surrogates stand for bytes that are not UTF-8

#: A registration, and further columns or members to print with it.
Row = tuple[ClientRegistration, dict[str, Any]]


class DCRCommand(BaseCommand):
    """A command that prints text or JSON, and fails with one message."""

    requires_system_checks = ("django_dcr",)
    as_json = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # An abbreviation would let "--initial-access-token SECRET" name the option of the file.
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
        check_no_secret(options)
        for name in ("issuer", "owner"):
            if _INVALID.search(options.get(name) or ""):
                raise CommandError(f"The {name} is not valid UTF-8.")
        try:
            with actor(f"manage.py {type(self).__module__.rpartition('.')[2]}"), printed_once():
                output = super().execute(*args, **options)
            self.stdout.flush()
            return output
        except BrokenPipeError:
            discard_output()
        except KeyboardInterrupt:
            raise CommandError(
                f"Interrupted. {describe_interruption()}", returncode=INTERRUPTED
            ) from None
        except ERRORS as exc:
            raise CommandError(describe_error(exc)) from exc
        # Outside of the handler no traceback keeps the generator of the rows, or its cursor, open.
        sys.exit(1)

    def write(self, text: str, ending: str = "\n") -> None:
        """Print on standard output; letters that its encoding lacks are escaped."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with tqdm.external_write_mode() if self.stdout.isatty() else nullcontext():
            self.stdout.write(text, ending=ending)

    def note(self, line: str) -> None:
        """Print a line on standard error, apart from the output of the command."""
        self.stderr.write(line, str)

    def sum_up(self, text: str, failures: Iterable[str], *, label: str = "Failed:") -> None:
        """Print ``text`` on standard error, or raise it with the lines of the ``failures``."""
        if lines := [*failures]:
            raise CommandError("\n".join([f"{text} {label}", *lines]))
        self.note(text)

    def write_document(
        self, document: Mapping[str, Any], *, secrets: Mapping[str, str | None] | None = None
    ) -> None:
        """Print a JSON object, or a line for each member that is not empty.

        ``secrets`` are printed unencrypted and unchanged.
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
        """Print one registration in full, and masks unless its ``secrets`` are given."""
        document = described(registration)
        document["warnings"] = registration.warnings
        if not self.as_json:
            document["client_id_issued_at"] = _moment(registration.client_id_issued_at)
            times = [_moment(registration.client_secret_expires_at), _expiry(registration)]
            document["client_secret_expires_at"] = ", ".join(filter(None, times))
            masked = {name: getattr(registration, name) for name in SECRETS if not secrets}
            document |= {name: str(value) for name, value in masked.items() if value is not None}
        self.write_document(document, secrets=secrets)

    def write_registrations(self, rows: Iterable[Row], *, none: str = "No registrations.") -> None:
        """Print registrations one by one, in constant memory."""
        if self.as_json:
            self.write_rows({**described(row), **extra} for row, extra in rows)
        else:
            self.write_rows(({**_cells(row), **extra} for row, extra in rows), none=none)

    def write_rows(
        self, rows: Iterable[Mapping[str, Any]], *, none: str = "No registrations."
    ) -> None:
        """Print rows with the same members: a JSON array, or a table.

        ``none`` is printed on a terminal where there is no row.
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
        separator, is_complete = "[", True
        try:
            for element in elements:
                self.write(f"{separator}\n{json.dumps(element)}", ending="")
                separator = ","
        except Exception:
            is_complete = separator != "["  # an empty array would say that there are no rows
            raise
        finally:  # also after an interruption the output is valid JSON
            if is_complete:
                self.write("[]" if separator == "[" else "\n]")


def discard_output() -> None:
    """Discard all further output, after the reader of a pipe has closed it."""
    # As docs.python.org/3/library/signal.html#note-on-sigpipe has it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def moment(at: datetime | None) -> str:
    """Return a time in ISO format, "" for None."""
    return "" if at is None else at.isoformat(timespec="seconds")


def described(registration: ClientRegistration) -> dict[str, Any]:
    """Return a registration's members for JSON, without secrets."""
    return {
        "id": registration.pk,
        "issuer": registration.server.issuer,
        **{name: getattr(registration, name) for name in _COLUMNS},
        "drift": _drift(registration),
        "deviations": registration.deviations,
        "last_error": registration.last_error,
        "retry_at": moment(registration.paused_until) or None,
    }


def _drift(registration: ClientRegistration) -> dict[str, Any] | None:
    try:
        return registration.drift
    except NotAllowedError:
        return None  # the requested metadata is not an object, so nothing can be compared


def _cells(registration: ClientRegistration) -> dict[str, Any]:
    return {
        "id": registration.pk,
        "issuer": registration.server.issuer,
        "owner": registration.owner,
        "status": registration.status,
        "client_id": registration.client_id,
        "expires": _expiry(registration),
        "drift": len(_drift(registration) or ()) or "",
    }


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: clean("" if v is None else v, _MAX_LENGTH) for name, v in values.items()}


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
            yield f"{clean(name)}: {clean(text, _MAX_LENGTH)}"

"""What commands read from their arguments: client metadata, NAME=VALUE, secrets in files."""

from __future__ import annotations

import os
import re
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.views.decorators.debug import sensitive_variables

from django_dcr.exceptions import InvalidResponseError
from django_dcr.protocol import METADATA_MEMBERS, names_secret, parse_object
from django_dcr.text import SensitiveText, clean

_EXAMPLES = {
    bool: "true or false",
    int: "a whole number",
    dict: 'a JSON object, such as {"keys": []}',
    list: 'a text, or a JSON list such as ["a", "b"]',
}


def add_metadata(parser: ArgumentParser) -> None:
    """Add ``--metadata FILE`` and ``--set NAME=VALUE``."""
    parser.add_argument(
        "--metadata",
        metavar="FILE",
        help='the client metadata to request, as one JSON object in a file; "-" is standard input',
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="NAME=VALUE",
        help=(
            "one member of the client metadata, on top of the others; lists take one text each "
            "time, or a JSON list; true, false, numbers and objects are JSON; no VALUE removes "
            "the member"
        ),
    )


def refuse_secrets(parser: ArgumentParser, *options: str) -> None:
    """Add options that users may try, which DCRCommand refuses: ``ps`` shows their values."""
    parser.add_argument(*options, dest="secret_on_command_line", help=SUPPRESS)


def check_no_secret(options: Mapping[str, Any]) -> None:
    """Raise CommandError where one of the options of ``refuse_secrets`` was given."""
    if options.get("secret_on_command_line") is not None:
        raise CommandError(
            "Secrets are not taken on the command line, where every user of this machine can read "
            "them. Put the secret into a file, and name that with the option ending in -file."
        )


def check_one_stdin(*files: str | None) -> None:
    """Raise CommandError where more than one of the files is standard input."""
    if files.count("-") > 1:
        raise CommandError("Only one of the files can be standard input.")


def read_metadata(
    file: str | None, assignments: list[str]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function from a registration's stored client metadata to what is to be requested.

    That is the document in ``file``, or else what is stored, changed by the ``assignments``.
    Raises CommandError where one of them cannot be used.
    """
    document, changes = read_document(file), read_changes(assignments)
    return lambda stored: {**(stored if document is None else document), **changes}


def read_document(file: str | None) -> dict[str, Any] | None:
    """Return the JSON object in ``file``, "-" being standard input, or None for no file."""
    if file is None:
        return None
    try:
        return parse_object(read_bytes(file))
    except InvalidResponseError as exc:
        raise CommandError(
            f"{clean(file)} does not hold one JSON object of client metadata: {json_fault(exc)}"
        ) from exc


def json_fault(exc: InvalidResponseError) -> str:
    """Return why ``parse_object`` failed, without its words about a response."""
    return str(exc).partition(": ")[2]


def read_bytes(file: str) -> bytes:
    """Return the contents of ``file``; CommandError where it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as exc:
        raise unreadable(file, exc) from exc


def unreadable(file: str, exc: Exception) -> CommandError:
    """Return the error for a file that cannot be opened or read."""
    reason = getattr(exc, "strerror", None) or "it is not a file name"
    return CommandError(f"{clean(file)} cannot be read: {reason}.")


@sensitive_variables()
def read_secret(file: str | None, variable: str) -> str | None:
    """Return the secret in ``file``, "-" being standard input, else that of the environment."""
    if file is None:
        return SensitiveText(os.environ[variable]) if os.environ.get(variable) else None
    try:
        return SensitiveText(read_bytes(file).decode())
    except UnicodeDecodeError:
        raise CommandError(f"{clean(file)} must hold the secret and nothing else.") from None


def read_changes(assignments: list[str]) -> dict[str, Any]:
    """Return the members of client metadata that ``--set`` names, None for one to remove."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        base = name.partition("#")[0]  # without the language tag (RFC 7591 section 2.2)
        if names_secret(base):
            raise CommandError(
                f"--set {clean(name, 100)}: secrets are not taken on the command line, where every "
                "user of this machine can read them, and a client's are assigned by its server."
            )
        if not equals or not base:
            raise CommandError("--set takes NAME=VALUE, such as --set client_name=Shop")
        kind = METADATA_MEMBERS.get(base)
        value = _read_member(name, kind, text)
        if kind is list and isinstance(value, list):
            value = [*(changes.get(name) or ()), *value]
        changes[name] = value
    return changes


def _read_member(name: str, kind: type | None, text: str) -> Any:
    """Read ``text`` as the member's type; as JSON, if it is that, where the type is unknown."""
    if not text or kind is str:
        return text or None
    if kind is list and not text.startswith("["):
        return [text]
    try:
        value = parse_value(text)
    except InvalidResponseError as exc:
        if kind is None:
            return text
        raise CommandError(f"--set {clean(name, 100)} takes {_EXAMPLES[kind]}.") from exc
    if kind and not isinstance(value, kind):
        raise CommandError(f"--set {clean(name, 100)} takes {_EXAMPLES[kind]}.")
    return value


def parse_value(text: str) -> Any:
    """Return any JSON value; raise InvalidResponseError where ``text`` is not exactly one."""
    # The strict parser of responses takes objects only.
    document = parse_object(b'{"value":' + text.encode(errors="surrogateescape") + b"}")
    if document.keys() != {"value"}:
        raise InvalidResponseError("it is more than one value")
    return document["value"]


def days(text: str) -> timedelta:
    """Read a number of days."""
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", text):
        raise ArgumentTypeError("write a number of days, such as 7")
    return timedelta(days=float(text))

"""Client metadata from the command line: ``--metadata FILE`` and ``--set NAME=VALUE``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management import CommandError

from django_dcr.exceptions import InvalidResponseError
from django_dcr.protocol import METADATA_MEMBERS, names_secret, parse_object
from django_dcr.text import clean

_EXAMPLES = {
    bool: "true or false",
    int: "a whole number",
    dict: 'a JSON object, such as {"keys": []}',
    list: 'a text, or a JSON list such as ["a", "b"]',
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the two options."""
    parser.add_argument(
        "--metadata",
        metavar="FILE",
        help='the client metadata to ask for, as one JSON object in a file; "-" is standard input',
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


def requested(
    stored: Mapping[str, Any], document: Mapping[str, Any] | None, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the metadata to ask for: the file's, else the stored one, and the changes on top."""
    return {**(stored if document is None else document), **changes}


def read_document(file: str | None) -> dict[str, Any] | None:
    """Return the JSON object in ``file``, "-" being standard input, or None for no file."""
    if file is None:
        return None
    try:
        return parse_object(read_bytes(file))
    except InvalidResponseError as exc:
        reason = str(exc).partition(": ")[2]
        raise CommandError(
            f"{clean(file)} does not hold one JSON object of client metadata: {reason}"
        ) from exc


def read_bytes(file: str) -> bytes:
    """Return what is in ``file``; CommandError where it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not a file name"
        raise CommandError(f"{clean(file)} cannot be read: {reason}.") from exc


def read_changes(assignments: list[str]) -> dict[str, Any]:
    """Return the members that ``--set`` names, None for one to remove."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        _check_name(name, equals)
        value = _value(name, text)
        if METADATA_MEMBERS.get(_base(name)) is list and isinstance(value, list):
            value = [*(changes.get(name) or ()), *value]
        changes[name] = value
    return changes


def _check_name(name: str, equals: str) -> None:
    if names_secret(_base(name)):
        raise CommandError(
            f"--set {clean(name, 100)}: secrets are not taken on the command line, where every "
            "user of this machine can read them, and a client's are assigned by its server."
        )
    if not equals or not _base(name):
        raise CommandError("--set takes NAME=VALUE, such as --set client_name=Shop")


def _base(name: str) -> str:
    return name.partition("#")[0]  # without the language tag (RFC 7591 section 2.2)


def _value(name: str, text: str) -> Any:
    """Read ``text`` by the member's type; where the member is unknown, as JSON if it is some."""
    wanted = METADATA_MEMBERS.get(_base(name))
    if not text or wanted is str:
        return text or None
    if wanted is list and not text.startswith("["):
        return [text]
    try:
        value = _json(text)
    except InvalidResponseError as exc:
        if wanted is None:
            return text
        raise CommandError(f"--set {clean(name, 100)} takes {_EXAMPLES[wanted]}.") from exc
    if wanted and not isinstance(value, wanted):
        raise CommandError(f"--set {clean(name, 100)} takes {_EXAMPLES[wanted]}.")
    return value


def _json(text: str) -> Any:
    """Read any JSON value with the one strict reader, which takes objects."""
    document = parse_object(b'{"value":' + text.encode(errors="surrogateescape") + b"}")
    if document.keys() != {"value"}:
        raise InvalidResponseError("it is more than one value")
    return document["value"]

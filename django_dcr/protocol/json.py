"""Strict parsing of JSON from servers, and JSON for requests."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from django_dcr.exceptions import InvalidResponseError
from django_dcr.text import SensitiveBytes, SensitiveDict, hides_variables

# MariaDB refuses JSON whose values are 33 levels deep, and so lists 32 deep.
MAX_DEPTH = 31
#: Ten times as many as the largest documents of real servers have.
MAX_VALUES = 5_000
MAX_INTEGER_DIGITS = 20
MAX_FLOAT_LENGTH = 100

# Never backtracks: each string is scanned once.
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_TOO_MANY = f"it has more than {MAX_VALUES} values"

# jsonb refuses NUL, and no database driver encodes a lone surrogate.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@hides_variables
def parse_object(body: bytes) -> dict[str, Any]:
    """Read ``body`` as one JSON object in UTF-8 (RFC 8259), whatever its media type says.

    Raises InvalidResponseError for anything else, and for duplicate names, malformed or very
    large numbers, nesting deeper than ``MAX_DEPTH``, and more than ``MAX_VALUES`` values in all:
    each hit reads again what is stored.
    """
    try:
        return _decode(body)
    except (ValueError, RecursionError) as exc:
        # It depends on the version of Python which of the two a deep document raises.
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
    # Raised outside of the handler, whose exception holds the whole document, with its secrets.
    raise InvalidResponseError(
        "The answer is not the JSON object it should be. "
        f"Report to the server's operator what is wrong: {reason}.",
    )


def _decode(body: bytes) -> dict[str, Any]:
    if _values_at_least(body) > MAX_VALUES:  # cheaper than creating them
        raise ValueError(_TOO_MANY)
    value = json.loads(
        body.decode("utf-8-sig"),
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=_constant,
    )
    _check_size(value)
    if not isinstance(value, dict):
        raise ValueError("it is another JSON value")
    return SensitiveDict(value)


def _values_at_least(body: bytes) -> int:
    """Return a lower bound of the number of values in JSON, at least half of the true number."""
    bare = _TEXT.sub(b"", body)
    return max(bare.count(b",") + 1, bare.count(b"[") + bare.count(b"{"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers differ in which of two they take, so one could be shown and the other used.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _integer(digits: str) -> int:
    # int() takes quadratic time, and raises another error above 4,300 digits.
    if len(digits) > MAX_INTEGER_DIGITS + digits.startswith("-"):
        raise ValueError(f"a number has more than {MAX_INTEGER_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits) if len(digits) <= MAX_FLOAT_LENGTH else math.inf
    if math.isinf(number):
        raise ValueError("a number is out of bounds")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_size(value: object) -> None:
    """Raise ValueError for more values, or deeper nesting, than is allowed."""
    left, pending = MAX_VALUES, [(value, MAX_DEPTH)]
    while pending:
        container, levels = pending.pop()
        if not isinstance(container, (dict, list)):
            continue
        if levels == 0:
            raise ValueError("it is nested too deeply")
        left -= len(container)
        if left < 0:
            raise ValueError(_TOO_MANY)
        members = container.values() if isinstance(container, dict) else container
        pending += [(member, levels - 1) for member in members]


def storable(value: Any, *, substitute: str = "") -> Any:
    """Return a copy of parsed JSON that PostgreSQL, MariaDB and SQLite all store unchanged.

    Members whose names contain NUL or lone surrogates are dropped; in strings ``substitute``
    replaces these characters. Integers beyond 64 bits, and floats beyond 53, become text. Not for
    credentials, which are stored exactly or refused.
    """
    if isinstance(value, Mapping):
        return {
            name: storable(member, substitute=substitute)
            for name, member in value.items()
            if isinstance(name, str) and not _UNSTORABLE.search(name)
        }
    if isinstance(value, (list, tuple)):
        return [storable(item, substitute=substitute) for item in value]
    if isinstance(value, str):
        return _UNSTORABLE.sub(substitute, value)
    if isinstance(value, (int, float)) and not -_limit(value) <= value < _limit(value):
        return str(value)
    return value


def is_storable(value: Any) -> bool:
    """Whether a Python value is JSON that ``parse_object`` accepts and all databases store."""
    try:
        plain = _decode(json.dumps(value, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        return False
    return bool(storable(plain) == plain)


def is_altered(value: object) -> bool:
    """Whether ``storable`` would remove characters from a string in ``value``."""
    if isinstance(value, str):
        return bool(_UNSTORABLE.search(value))
    return isinstance(value, (list, tuple)) and any(is_altered(item) for item in value)


def _limit(number: float) -> int:
    # jsonb returns 4.142950536278659e+16 as an integer that is another number: beyond 53 bits
    # the shortest text of a float is not its exact value.
    return 2**53 if isinstance(number, float) else 2**63


@hides_variables
def encode(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as the JSON of a request, in UTF-8.

    Raises TypeError or ValueError for what is not JSON; checked client metadata always is.
    """
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return SensitiveBytes(text.encode())

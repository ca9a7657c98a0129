"""JSON that others wrote, read strictly, and JSON for requests."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from django_dcr.exceptions import InvalidResponseError
from django_dcr.text import SensitiveBytes, SensitiveDict, hides_variables

# MariaDB refuses JSON whose values are 33 levels deep, and so lists 32 deep.
MAX_DEPTH = 31
#: Ten times as many as the largest documents of real servers have.
MAX_VALUES = 5_000
MAX_INTEGER_DIGITS = 20
MAX_FLOAT_LENGTH = 100

# Nothing in it can fail half-way, so what follows a quotation mark is walked through once.
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_TOO_MANY = f"it has more than {MAX_VALUES} values"

# jsonb refuses NUL, and no database driver encodes a lone surrogate.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@hides_variables
def parse_object(body: bytes) -> dict[str, Any]:
    """Read ``body`` as one JSON object in UTF-8 (RFC 8259), whatever its media type says.

    Raises InvalidResponseError for anything else, and for duplicate names, numbers that are
    none or are out of bounds, nesting deeper than ``MAX_DEPTH``, and more than ``MAX_VALUES``
    values in all: what is stored is read again with every hit, and shown on pages.
    """
    try:
        return _decode(body)
    except (ValueError, RecursionError) as exc:
        # Which of the two ends a deep document depends on the version of Python.
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
    # Raised outside of the handlers: their exceptions carry the whole document, with secrets.
    raise InvalidResponseError(
        "The answer is not the JSON object it should be. "
        f"Report to the server's operator what is wrong: {reason}.",
    )


def _decode(body: bytes) -> dict[str, Any]:
    if _values_at_least(body) > MAX_VALUES:  # before they are made, which takes a while
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
    """Return how many values JSON has at least; it may have twice as many, and no more."""
    bare = _TEXT.sub(b"", body)
    return max(bare.count(b",") + 1, bare.count(b"[") + bare.count(b"{"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two they take, so one could be shown and the other used.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _integer(digits: str) -> int:
    # int() takes quadratic time, and raises on its own above 4,300 digits.
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
    """Look at each value once, and at no more of them than are allowed."""
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

    Members whose names hold NUL or lone surrogates are dropped; in strings ``substitute`` takes
    the place of these characters. Numbers beyond 64 bits, and floats beyond 53, become text. Not
    for credentials, which are kept exactly or refused.
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


def is_altered(value: object) -> bool:
    """Whether ``storable`` would take characters out of a text in ``value``."""
    if isinstance(value, str):
        return bool(_UNSTORABLE.search(value))
    return isinstance(value, (list, tuple)) and any(is_altered(item) for item in value)


def _limit(number: float) -> int:
    # jsonb gives 4.142950536278659e+16 back as an integer, which is another number: beyond 53
    # bits the shortest text of a float is not its exact value.
    return 2**53 if isinstance(number, float) else 2**63


@hides_variables
def encode(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as the JSON of a request, in UTF-8.

    Raises TypeError or ValueError for what is not JSON; checked client metadata always is.
    """
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return SensitiveBytes(text.encode())


def delta_seconds(text: str) -> float | None:
    """Return the number of seconds in a header (RFC 9110 section 10.2.3), or None.

    However many digits there are, this takes no time and raises nothing: it ends in infinity.
    """
    text = text.strip(" \t")
    return float(text) if re.fullmatch("[0-9]+", text) else None


def http_date(text: str) -> float | None:
    """Return a date in a header (RFC 9110 section 5.6.7) in seconds since 1970, or None."""
    try:
        moment = parsedate_to_datetime(text[:64])
        # "-0000" gives a date without a zone.
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None

"""Rows of text as lines: for a pipe, for a terminal, and for a narrow one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

_CHUNK_ROWS = 50  # a terminal's table is aligned by so many rows, so that memory stays constant
_NARROW = 60  # terminals with fewer columns get a line per value
_GAP = 2
# To so many columns of the terminal a value may be cut; the others stay whole.
_LEAST = {"issuer": 22, "owner": 10, "client_id": 12, "error": 24, "actor": 12, "kid": 12}
#: What a line can do without, first that which helps least to tell rows apart or to act on them.
_DISPENSABLE = ("new_secret", "created", "mechanism", "drift", "client_id", "expires", "owner")
_SENTENCES = ("error",)

_Row = Mapping[str, str]


def tabbed(rows: Iterable[_Row]) -> Iterator[str]:
    """Lines for a pipe or a file: whole values between tabs."""
    for number, row in enumerate(rows):
        if number == 0:
            yield "\t".join(row)
        yield "\t".join(row.values())


def fitted(rows: Iterable[_Row], width: int) -> Iterator[str]:
    """Lines of at most ``width`` columns: a table, or a line for each value where it is narrow."""
    return _stacked(rows, width) if width < _NARROW else _aligned(iter(rows), width)


def _stacked(rows: Iterable[_Row], width: int) -> Iterator[str]:
    for row in rows:
        yield from (cut(f"{name}: {text}", width) for name, text in row.items() if text)
        yield ""


def _aligned(rows: Iterator[_Row], width: int) -> Iterator[str]:
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        widths = _widths(chunk, width)
        for row in [dict(zip(chunk[0], chunk[0], strict=True)), *chunk]:
            cells = (_padded(name, row[name], columns) for name, columns in widths.items())
            yield (" " * _GAP).join(cells).rstrip()


def _widths(rows: list[_Row], width: int) -> dict[str, int]:
    """The columns that fit, with their widths: empty ones are left out, long ones give way."""
    natural = {
        name: max(columns_of(name), *(columns_of(row[name]) for row in rows))
        for name in rows[0]
        if any(row[name] for row in rows)
    }
    least = {name: min(size, _LEAST.get(name, size)) for name, size in natural.items()}
    for name in _DISPENSABLE:
        if _total(least) > width:
            natural.pop(name, None)
            least.pop(name, None)
    while _total(natural) > width:
        # What is above its least first; where none is, whatever is widest.
        slack = {name: size - least[name] for name, size in natural.items()}
        sizes = slack if any(slack.values()) else natural
        natural[max(sizes, key=sizes.__getitem__)] -= 1
        least = {name: min(size, natural[name]) for name, size in least.items()}
    return natural


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _padded(name: str, text: str, columns: int) -> str:
    text = cut(text, columns) if name in _SENTENCES else cut_in_the_middle(text, columns)
    return text + " " * (columns - columns_of(text))


def cut(text: str, columns: int) -> str:
    """The beginning of ``text``, in so many columns of a terminal."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def cut_in_the_middle(text: str, columns: int) -> str:
    """Both ends of ``text``: issuers begin alike, and what tells clients apart may stand last."""
    if columns_of(text) <= columns:
        return text
    end = text[-columns:]
    while columns_of(end) > columns // 2:
        end = end[1:]
    start = text
    while columns_of(start) >= columns - columns_of(end):
        start = start[:-1]
    return f"{start}…{end}"


def columns_of(text: str) -> int:
    """How many columns of a terminal ``text`` takes: East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)

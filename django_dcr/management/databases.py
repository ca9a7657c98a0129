"""What to do about an error of the database, by its kind."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.db import Error

from django_dcr.text import clean


class _Kind(NamedTuple):
    advice: str
    #: What PostgreSQL (SQLSTATE) and MariaDB (a number) call it.
    codes: Collection[object]
    #: What SQLite, which has no codes in every Python, says.
    words: Collection[str]


_KINDS = (
    _Kind(
        "Tables or columns are missing: run manage.py migrate",
        ("42P01", "42703", 1146, 1054),
        ("no such table", "no such column", "has no column"),
    ),
    _Kind(
        "Another process is writing: try again in a moment.",
        ("55P03", "40P01", "40001", "57014", 1205, 1213),
        ("is locked", "deadlock"),
    ),
    _Kind(
        "It can only be read: check who may write the file and its folder, and that DATABASES "
        "does not name a replica.",
        ("25006", 1290, 1792, 1836),
        ("readonly", "read-only"),
    ),
    _Kind(
        "Make room on its disk, then run the command again.",
        ("53100", 1021, 1114),
        ("disk is full",),
    ),
    _Kind(
        "It cannot be reached: check DATABASES, and that the database runs.",
        ("08001", "08003", "08006", "28P01", "3D000", "57P03", 1045, 1049, 2002, 2003, 2006, 2013),
        ("unable to open", "connection"),
    ),
)


def explained(exc: Error) -> str:
    """Return one sentence with what the database said, and one with what to do about it."""
    # Further lines may quote the row.
    reason = clean(str(exc).partition("\n")[0])
    codes, words = _codes(exc), reason.lower()
    for kind in _KINDS:
        if not codes.isdisjoint(kind.codes) or any(word in words for word in kind.words):
            return f"The database refused ({reason}). {kind.advice}"
    return f"The database refused ({reason}). See its log, then run the command again."


def _codes(exc: Error) -> set[object]:
    """The driver's codes: ``sqlstate`` of psycopg, ``pgcode`` of psycopg2, MySQL's number."""
    driver = exc.__cause__ or exc
    codes = {getattr(driver, "sqlstate", None), getattr(driver, "pgcode", None), *driver.args[:1]}
    return {code for code in codes if isinstance(code, (str, int))}

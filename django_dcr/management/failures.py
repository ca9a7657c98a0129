"""What a command says when it fails or is interrupted, and what to do next."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError
from django.db import Error as DatabaseError
from django.db import models

from django_dcr.exceptions import DCRError
from django_dcr.models import ClientRegistration
from django_dcr.text import clean

#: What a command, or its work on one row, may fail with; anything else is a bug.
ERRORS = (DCRError, ImproperlyConfigured, DatabaseError)
#: The exit status of an interrupted command: that of a process that SIGINT ended.
INTERRUPTED = 130

_MAX_NAMED = 10


def describe_error(exc: Exception) -> str:
    """Return what one of ``ERRORS`` means for the user."""
    return _describe_database_error(exc) if isinstance(exc, DatabaseError) else str(exc)


@contextmanager
def printed_once() -> Iterator[None]:
    """Keep Python from printing logged failures, which the command prints itself.

    It prints warnings on standard error where a site has not configured logging.
    """

    def is_not_printed(record: logging.LogRecord) -> bool:
        return getattr(record, "event", None) not in ("failed", "lost")

    handlers = [logging.lastResort] if logging.lastResort else []
    for handler in handlers:
        handler.addFilter(is_not_printed)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_not_printed)


def check_row(row: models.Model) -> None:
    """Raise CommandError, with a line per column, where ``row`` is not valid."""
    try:
        row.full_clean()
    except ValidationError as exc:
        faults = [f"{name}: {' '.join(texts)}" for name, texts in exc.message_dict.items()]
        raise CommandError("\n".join(["Nothing was changed.", *faults])) from exc


def describe_interruption() -> str:
    """Return what an interrupted command leaves unfinished, and what to do about it."""
    try:
        leases = describe_leases()
        is_unfinished = ClientRegistration.objects.needs_reconciliation().exists()
    except DatabaseError:
        return "The state of each request is recorded; settle it with: manage.py dcr_reconcile"
    if leases:
        return f"{leases} Then settle what is left with: manage.py dcr_reconcile"
    if is_unfinished:
        return "Settle what is left with: manage.py dcr_reconcile"
    return "Nothing was left half-done."


def describe_leases() -> str:
    """Return which registrations are leased, and for how long at most; "" for none."""
    leases = ClientRegistration.objects.leases()
    if not leases:
        return ""
    ids = ", ".join(str(pk) for pk, _seconds in leases[:_MAX_NAMED])
    more = f" and {len(leases) - _MAX_NAMED} more" if len(leases) > _MAX_NAMED else ""
    seconds = math.ceil(max(seconds for _pk, seconds in leases))
    return (
        f"A process may still be at work on registration {ids}{more}; if it has ended, "
        f"its lease expires within {seconds} seconds."
    )


class _Kind(NamedTuple):
    advice: str
    #: SQLSTATE codes of PostgreSQL, and MariaDB's error numbers.
    codes: Collection[object]
    #: Parts of SQLite's messages, for which Python 3.10 has no codes.
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


def _describe_database_error(exc: DatabaseError) -> str:
    reason = clean(str(exc).partition("\n")[0])  # further lines may quote the row
    codes, words = _codes(exc), reason.lower()
    for kind in _KINDS:
        if not codes.isdisjoint(kind.codes) or any(word in words for word in kind.words):
            return f"The database refused ({reason}). {kind.advice}"
    return f"The database refused ({reason}). See its log, then run the command again."


def _codes(exc: DatabaseError) -> set[object]:
    """The driver's codes: ``sqlstate`` of psycopg, ``pgcode`` of psycopg2, MySQL's number."""
    driver = exc.__cause__ or exc
    codes = {getattr(driver, "sqlstate", None), getattr(driver, "pgcode", None), *driver.args[:1]}
    return {code for code in codes if isinstance(code, (str, int))}

"""What this app logs: a table of the events, each with its logger, level and meaning."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django_dcr.exceptions import MAX_LENGTH, current_context
from django_dcr.text import clean


@dataclass(frozen=True)
class Event:
    """A kind of log record."""

    #: The name of the logger below "django_dcr".
    logger: str
    level: int
    meaning: str


#: By the name that each record has as its attribute ``event``.
EVENTS = {
    "exchange": Event("exchanges", logging.DEBUG, "a request was sent, with or without a response"),
    "registered": Event("registrations", logging.INFO, "a client was registered or adopted"),
    "updated": Event("registrations", logging.INFO, "the server accepted an update"),
    "renewed": Event("registrations", logging.INFO, "a secret was renewed, or the client replaced"),
    "replaced": Event("registrations", logging.INFO, "a registration replaced another"),
    "revoked": Event("registrations", logging.INFO, "a client was deleted, or closed here"),
    "advised": Event("registrations", logging.WARNING, "the requested metadata should be changed"),
    "failed": Event("registrations", logging.WARNING, "work on a registration failed; it says why"),
    "lost": Event("registrations", logging.WARNING, "the server no longer knows the client"),
    "stale": Event("servers", logging.WARNING, "metadata could not be refreshed and is served"),
    "login_failed": Event("logins", logging.WARNING, "a user could not log in; it says why"),
    "not_counted": Event(
        "storage", logging.WARNING, "the database was unavailable during a scrape"
    ),
    "not_noted": Event("storage", logging.WARNING, "the database did not store an error or event"),
    "not_stored": Event("storage", logging.ERROR, "the database did not store a result"),
}


def log(event: str, message: str, *args: Any, **extra: Any) -> None:
    """Log a record with the attributes ``event``, ``issuer``, ``step``, ``registration``,
    ``status`` and ``duration``, each None unless it is known or in ``extra``.
    """
    kind = EVENTS[event]
    logger = logging.getLogger(f"django_dcr.{kind.logger}")
    if not logger.isEnabledFor(kind.level):
        return
    issuer, step, registration = current_context()
    known = {
        "event": event,
        "issuer": issuer or None,
        "step": step or None,
        "registration": registration,
        "status": None,
        "duration": None,
    }
    logger.log(kind.level, message, *args, extra={**known, **extra}, stacklevel=2)


def log_registration(event: str, done: str, registration: Any, more: str = "") -> None:
    """Log one record, without a secret, about a change of a client."""
    issuer = registration.server.issuer
    log(
        event,
        '%s: registration %s, owner "%s", issuer %s, client "%s"%s',
        done,
        registration.pk,
        clean(registration.owner),
        clean(issuer),
        clean(registration.client_id),
        clean(more, MAX_LENGTH) or ".",
        issuer=issuer,
        step=registration.task or current_context().step or None,
        registration=registration.pk,
    )

"""Servers that do not answer, or ask to come back later: remembered on their rows."""

from __future__ import annotations

from django.db import Error

from django_dcr import transport
from django_dcr.exceptions import DCRError, InvalidResponseError
from django_dcr.logs import log
from django_dcr.models import AuthorizationServer

# With these a server asks to come back later, whatever was requested.
_COME_BACK_LATER = (429, 503)


def is_silence(exc: DCRError) -> bool:
    """Whether nothing else can be expected of the server now either."""
    return transport.is_silence(exc) or exc.status in _COME_BACK_LATER


def note_outcome(server: AuthorizationServer, exc: DCRError | None = None) -> None:
    """Remember on the server's row that it does not answer, or forget that it did not.

    ``exc`` is what an exchange ended in, None for a success. Raises nothing: the exchange is
    what the caller has to hear of.
    """
    try:
        if exc is not None and is_silence(exc):
            server.fail_to_answer(exc, exc.step)
        elif exc is None or exc.status is not None or isinstance(exc, InvalidResponseError):
            server.recover()
    except Error as error:
        log("not_noted", "Not recorded on the row of %s: %s", server.issuer, error)

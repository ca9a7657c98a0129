"""Remembering, on their rows, which servers do not answer or ask to be retried later."""

from __future__ import annotations

from django.db import Error

from django_dcr import transport
from django_dcr.exceptions import DCRError, InvalidResponseError
from django_dcr.logs import log
from django_dcr.models import AuthorizationServer

# With these a server asks to be retried later, whatever was requested.
_RETRY_LATER = (429, 503)


def is_silence(exc: DCRError) -> bool:
    """Whether any other request to this server would fail in the same way now."""
    return transport.is_silence(exc) or exc.status in _RETRY_LATER


def note_outcome(server: AuthorizationServer, exc: DCRError | None = None) -> None:
    """Record on the server's row that it does not answer, or clear that record.

    ``exc`` is the error that an exchange ended in, None for a success. Raises nothing: the
    outcome of the exchange is what the caller needs to see.
    """
    try:
        if exc is not None and is_silence(exc):
            server.fail_to_answer(exc, exc.step)
        elif exc is None or exc.status is not None or isinstance(exc, InvalidResponseError):
            server.recover()
    except Error as error:
        log("not_noted", "Not recorded on the row of %s: %s", server.issuer, error)

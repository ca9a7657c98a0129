"""The limits of one exchange, and the messages of its failures."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import requests
import urllib3

from django_dcr import uris
from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, NetworkError

HEAD_BYTES = 64 * 1024

# Constant texts: none quotes a server, and a forbidden address reads like one that does not
# answer, so that nobody can map a private network by them.
UNREACHABLE = (
    "The server cannot be reached: check its name and address; one that is inside your network "
    "must be listed in DCR_INTERNAL_ORIGINS."
)
UNREACHABLE_INSIDE = (
    "The server cannot be reached, although DCR_INTERNAL_ORIGINS lists it: check that it runs, and "
    "its name and port."
)
UNREACHABLE_BEHIND = (
    "The proxy of DCR_PROXY, or the server behind it, cannot be reached: check that both run, and "
    "that the proxy lets this site through to the server."
)
TIMED_OUT = (
    "The server did not complete its answer within DCR_TIMEOUT (%g s). If that repeats, ask its "
    "operator, or raise DCR_TIMEOUT."
)
TLS_FAILED = (
    "No secure connection: the server's certificate or TLS version is not accepted. "
    "Authorities of your own are named in DCR_CA_BUNDLE."
)
NO_AUTHORITIES = (
    "DCR_CA_BUNDLE does not name a readable file of certificates. Correct the setting, or leave "
    "it out."
)
TOO_LARGE = (
    "The answer is larger than DCR_MAX_RESPONSE_BYTES, or its head than 64 KiB. Ask the server's "
    "operator what it is, or raise the limit."
)
BROKEN_OFF = (
    "The connection broke off before the whole answer had arrived. If that repeats, ask the "
    "server's operator."
)
MALFORMED = "The answer is not well-formed HTTP. Report this to the server's operator."
UNDECODABLE = (
    "The answer's content coding is unknown, or the answer does not decode. Report this to the "
    "server's operator."
)
UNSENDABLE = (
    "The token or a header holds characters that no HTTP header may hold. Store the token again, "
    "exactly as it was issued."
)

# After these the server is not expected to answer another request either.
_SILENT = {UNREACHABLE, UNREACHABLE_INSIDE, UNREACHABLE_BEHIND, TLS_FAILED, BROKEN_OFF}


def is_silence(exc: DCRError) -> bool:
    """Whether ``exc`` is a time-out, or a connection that failed before any response."""
    if not isinstance(exc, NetworkError):
        return False
    reason: str = exc.args[0]
    return reason.startswith(TIMED_OUT.partition("%")[0]) or (
        exc.status is None and reason in _SILENT
    )


@dataclass
class Exchange:
    """What one call of ``send()`` may still use, and its progress."""

    url: uris.URL
    internal: bool
    deadline: float  # of time.monotonic()
    bytes_left: int = HEAD_BYTES
    sent: bool = False
    status: int | None = None  # set at the end of the response's head

    @property
    def target(self) -> str:
        """The request target (RFC 9112 section 3.2.1), byte for byte as in the URL."""
        query = "" if self.url.query is None else f"?{self.url.query}"
        return (self.url.path or "/") + query

    def seconds_left(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    @property
    def unreachable(self) -> str:
        """The message for a failed connection."""
        if conf.DCR_PROXY:
            return UNREACHABLE_BEHIND
        return UNREACHABLE_INSIDE if self.internal else UNREACHABLE

    def outcome(self, reason: str) -> str:
        """Return the outcome, of ``signals.OUTCOMES``, after a failure for ``reason``."""
        if reason == TIMED_OUT % conf.DCR_TIMEOUT:
            return "timeout"
        return "broken" if self.sent else "unreachable"

    def reason(self, error: Exception) -> str:
        """Return the message for an error of the libraries below."""
        if time.monotonic() > self.deadline - 0.01:  # the kernel's clock and Python's differ
            return TIMED_OUT % conf.DCR_TIMEOUT
        if isinstance(error, (requests.exceptions.SSLError, urllib3.exceptions.SSLError)):
            return TLS_FAILED
        return BROKEN_OFF if self.sent else self.unreachable


class _Thread(threading.local):
    exchange: Exchange


#: The current exchange of this thread.
current = _Thread()

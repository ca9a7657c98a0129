"""What one exchange may use up, and what it says when it fails."""

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

# One constant text per kind: a server's words never get in, and a forbidden address reads
# like one that does not answer, so that a text cannot be used to map a private network.
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


# What says that the server cannot be expected to answer another request either.
_SILENT = {UNREACHABLE, UNREACHABLE_INSIDE, UNREACHABLE_BEHIND, TLS_FAILED, BROKEN_OFF}


def is_silence(exc: DCRError) -> bool:
    """Whether ``exc`` is a time-out, or a connection that failed before there was an answer."""
    if not isinstance(exc, NetworkError):
        return False
    reason: str = exc.args[0]
    return reason.startswith(TIMED_OUT.partition("%")[0]) or (
        exc.status is None and reason in _SILENT
    )


@dataclass
class Exchange:
    """What one call of ``send()`` may still use up, and how far it has got."""

    url: uris.URL
    internal: bool
    deadline: float  # of time.monotonic()
    bytes_left: int = HEAD_BYTES
    sent: bool = False
    status: int | None = None  # known from the end of the answer's head on

    @property
    def target(self) -> str:
        """The request target (RFC 9112 section 3.2.1), as the URL has it to the byte."""
        query = "" if self.url.query is None else f"?{self.url.query}"
        return (self.url.path or "/") + query

    def seconds_left(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    @property
    def unreachable(self) -> str:
        """Our text for a server that does not let itself be connected to."""
        if conf.DCR_PROXY:
            return UNREACHABLE_BEHIND
        return UNREACHABLE_INSIDE if self.internal else UNREACHABLE

    def outcome(self, reason: str) -> str:
        """Return what it ended in that failed for ``reason``; see ``signals.OUTCOMES``."""
        if reason == TIMED_OUT % conf.DCR_TIMEOUT:
            return "timeout"
        return "broken" if self.sent else "unreachable"

    def reason(self, error: Exception) -> str:
        """Return our text for an error of the libraries below."""
        if time.monotonic() > self.deadline - 0.01:  # clocks of the kernel and ours differ
            return TIMED_OUT % conf.DCR_TIMEOUT
        if isinstance(error, (requests.exceptions.SSLError, urllib3.exceptions.SSLError)):
            return TLS_FAILED
        return BROKEN_OFF if self.sent else self.unreachable


class _Thread(threading.local):
    exchange: Exchange


#: The exchange that this thread is at.
current = _Thread()

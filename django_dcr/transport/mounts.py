"""Servers that answer inside this process, for tests, without sockets.

A mounted server answers the requests of all threads, each in the thread that sends it. The checks
on URLs, the limits and the errors are those of any exchange.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from django_dcr.transport import sending
from django_dcr.transport.exchange import Exchange, current
from django_dcr.transport.sending import Reply

#: Takes method, URL, headers and body of a request. Raises TimeoutError for no answer in time,
#: ConnectionRefusedError where nothing could be sent, and another ConnectionError for a connection
#: that broke off.
Answer = Callable[[str, str, Mapping[str, str], bytes], Reply]


class Mount(HTTPAdapter):
    """A transport for ``requests`` that hands each request to a function."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        try:
            reply = self.answer(str(request.method), str(request.url), request.headers, body)
        except OSError as exc:
            _end(exc)
            timed_out = isinstance(exc, TimeoutError)
            kind = requests.ReadTimeout if timed_out else requests.ConnectionError
            raise kind(request=request) from exc
        raw = urllib3.HTTPResponse(
            io.BytesIO(reply.body), reply.headers, reply.status, preload_content=False
        )
        return self.build_response(request, raw)


def _end(error: OSError) -> None:
    """End this thread's exchange as a socket would; a session of the site's own has none."""
    exchange: Exchange | None = getattr(current, "exchange", None)
    if exchange is not None:
        exchange.sent = not isinstance(error, ConnectionRefusedError)
        if isinstance(error, TimeoutError):
            exchange.deadline = 0.0  # as if the time had passed


@contextmanager
def mounted(answer: Answer, prefixes: Iterable[str]) -> Iterator[Mount]:
    """Let ``answer`` handle every request whose URL begins with one of ``prefixes``.

    The longest prefix decides. Raises ValueError where one of them is mounted already.
    """
    mount = Mount(answer)
    added: dict[str, Any] = dict.fromkeys(prefixes, mount)
    taken = sorted(added.keys() & sending.mounts.keys())
    if taken:
        raise ValueError(f"{taken[0]} is mounted already.")
    # Replaced rather than changed, because other threads may be reading it.
    sending.mounts = {**sending.mounts, **added}
    try:
        yield mount
    finally:
        left = {prefix: each for prefix, each in sending.mounts.items() if prefix not in added}
        sending.mounts = left

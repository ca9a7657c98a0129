"""Sending one request, through the session that each thread keeps.

Every exchange is bounded in time and size, and raises errors of this app only.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from django_dcr import __version__, signals, uris
from django_dcr.conf import conf
from django_dcr.exceptions import NetworkError, NotAllowedError, current_context
from django_dcr.logs import log
from django_dcr.text import SensitiveBytes, SensitiveText, hides_variables
from django_dcr.transport.connections import FIELD_VALUE, Connection, TLSConnection
from django_dcr.transport.exchange import (
    TOO_LARGE,
    UNDECODABLE,
    UNREACHABLE,
    UNSENDABLE,
    Exchange,
    current,
)
from django_dcr.uris import is_address, is_public

_CHUNK_BYTES = 16 * 1024
#: The outcome of an answered exchange, by the first digit of its status; see ``signals.OUTCOMES``.
_OUTCOMES = {2: "success", 3: "redirect", 4: "rejected", 5: "failed"}
_PORTS = frozenset({443, 8443, 9443})


@dataclass(frozen=True)
class Reply:
    """A complete response of any final status; a redirect's body is not read."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@hides_variables
def send(
    method: str,
    url: str,
    *,
    token: str | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request and return the response, whatever its status; redirects are not followed.

    ``token`` is sent as a bearer token (RFC 6750 section 2.1), ``body`` as JSON unless
    ``headers`` says otherwise. Takes at most ``DCR_TIMEOUT`` seconds, and about twice
    ``DCR_MAX_RESPONSE_BYTES`` of memory. With ``DCR_PROXY`` the proxy resolves names, so it is the
    proxy that must refuse internal addresses.

    Raises NotAllowedError where the site's policy forbids the URL, else NetworkError.
    """
    started = time.monotonic()
    target = _allowed(url)
    exchange = Exchange(target, conf.is_internal(target), started + conf.DCR_TIMEOUT)
    current.exchange = exchange
    url = url if target.path else target.origin + exchange.target
    outcome = "interrupted"
    try:
        reply = _perform(exchange, _prepare(method, url, token, body, headers or {}))
        outcome = "success" if reply.status == 304 else _OUTCOMES[reply.status // 100]
        return reply
    except NetworkError as error:
        reason = str(error)
        outcome = exchange.outcome(reason)
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        reason = exchange.reason(error)
        outcome = exchange.outcome(reason)
    finally:
        _report(exchange, method, outcome, time.monotonic() - started)
    # Raised here it has no context: the other library's error and frames contain the token.
    raise NetworkError(reason, status=exchange.status, sent=exchange.sent)


def _report(exchange: Exchange, method: str, outcome: str, duration: float) -> None:
    """Log an exchange and send its signal."""
    status = exchange.status
    log(
        "exchange",
        "%s %s %s %.0f ms",
        method,
        exchange.url.origin + exchange.url.path,
        status or "-",
        duration * 1000,
        status=status,
        duration=duration,
        outcome=outcome,
        method=method,
    )
    signals.exchanged.send_robust(
        sender=None,
        **current_context()._asdict(),
        method=method,
        status=status,
        outcome=outcome,
        duration=duration,
    )


def _allowed(url: str) -> uris.URL:
    try:
        target = uris.parse(url)
    except ValueError as exc:
        raise NotAllowedError(f"The URL to ask {exc}.") from exc
    if conf.DCR_PROXY and not conf.DCR_PROXY.startswith("http://"):
        # TLS inside of TLS is done in Python by urllib3, past the bounded sockets below.
        raise NotAllowedError("DCR_PROXY must be an http:// URL.")
    if conf.is_internal(target):
        return target
    hint = "; if the server is yours, list its origin in DCR_INTERNAL_ORIGINS."
    if target.scheme != "https":
        raise NotAllowedError(f"Only https is allowed{hint}")
    if target.port not in _PORTS:
        raise NotAllowedError(f"Port {target.port} is not allowed{hint}")
    # A proxy that resolves names would find an internal host for "vault".
    if not (is_public(target.host) if is_address(target.host) else "." in target.host):
        raise NetworkError(UNREACHABLE, sent=False)
    return target


def _prepare(
    method: str, url: str, token: str | None, body: bytes | None, headers: Mapping[str, str]
) -> requests.PreparedRequest:
    fields = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"django-dcr/{__version__}",
    }
    if body is not None:
        fields["Content-Type"] = "application/json"
    fields.update(headers)
    if token is not None:
        fields["Authorization"] = SensitiveText(f"Bearer {token}")
    if not all(FIELD_VALUE.fullmatch(value) for value in fields.values()):
        raise NetworkError(UNSENDABLE)
    # Not Request.prepare(), which quotes the URL again, although it has to be used as given
    # (RFC 7592 appendix B), and looks for cookies and for a password in it.
    prepared = requests.PreparedRequest()
    prepared.prepare_method(method)
    prepared.prepare_headers(fields)
    prepared.prepare_body(body, None)
    prepared.url = url
    return prepared


def _perform(exchange: Exchange, request: requests.PreparedRequest) -> Reply:
    proxies = {"http": conf.DCR_PROXY, "https": conf.DCR_PROXY} if conf.DCR_PROXY else None
    exchange.sent = True  # it may be from here on, unless connecting fails
    # Not session().send(), which would keep cookies and read the whole body of a redirect.
    transport = session().get_adapter(str(request.url))
    response = transport.send(request, stream=True, timeout=conf.DCR_TIMEOUT, proxies=proxies)
    with response:  # which closes the connection if the body is not read to its end
        exchange.status = status = response.status_code
        body = b"" if 300 <= status < 400 else _body(response.raw, response.headers)
        return Reply(status, response.headers, SensitiveBytes(body))


class _Thread(threading.local):
    """One session per thread: sessions and sockets must not be shared between threads."""

    session: requests.Session
    made_for: tuple[object, ...] = ()


_thread = _Thread()

#: Transports that answer inside this process, by URL prefix; see ``mounts.py``.
mounts: dict[str, BaseAdapter] = {}


def session() -> requests.Session:
    """Return this thread's session, which keeps connections and nothing else."""
    # A forked process must not use its parent's connections, nor may those of other settings stay.
    rules = (os.getpid(), conf.DCR_CA_BUNDLE, *conf.DCR_INTERNAL_ORIGINS, *mounts.items())
    if _thread.made_for != rules:
        _thread.session = _new_session()
        _thread.made_for = rules
    return _thread.session


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no .netrc, no proxies and authorities from the environment
    transport = _Transport(pool_connections=16, pool_maxsize=1)
    session.mount("https://", transport)
    session.mount("http://", transport)
    for prefix, mount in mounts.items():
        session.mount(prefix, mount)
    return session


class _Transport(HTTPAdapter):
    """``requests`` over this package's connections; by default it does not retry."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = TLSConnection if pool.scheme == "https" else Connection
        return pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Leave the TLS context alone; ``requests`` would add certifi's authorities to it."""


def _body(raw: urllib3.BaseHTTPResponse, headers: Mapping[str, str]) -> bytes:
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise NetworkError(UNDECODABLE)
    limit = conf.DCR_MAX_RESPONSE_BYTES
    body = bytearray()
    while chunk := raw.read(_CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > limit:
            raise NetworkError(TOO_LARGE)
    return bytes(body) if coding == "identity" or not body else _inflate(body, limit)


def _inflate(body: bytearray, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise NetworkError(UNDECODABLE) from None
    if len(plain) > limit:
        raise NetworkError(TOO_LARGE)
    if not inflater.eof or inflater.unused_data:
        raise NetworkError(UNDECODABLE)
    return plain

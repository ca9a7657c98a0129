"""Connections that check the addresses they connect to, and that limit time and bytes."""

from __future__ import annotations

import functools
import http.client
import queue
import re
import socket
import ssl
import threading
import time
from typing import Any

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH as _CERTIFI

from django_dcr.conf import conf
from django_dcr.exceptions import NetworkError
from django_dcr.transport.exchange import (
    HEAD_BYTES,
    MALFORMED,
    NO_AUTHORITIES,
    TOO_LARGE,
    UNREACHABLE,
    Exchange,
    current,
)
from django_dcr.uris import is_address, is_public

_ADDRESSES_TRIED = 4
# A server may close an idle connection, and a POST sent at that moment has no known outcome.
_IDLE_SECONDS = 1.0

# RFC 9110 section 5.5: no control character but the tab.
FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CONTENT_LENGTH = re.compile(r"[0-9]{1,15}")


class _Socket(socket.socket):
    """A socket that enforces the deadline and the number of bytes of the current exchange."""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        exchange = current.exchange
        if exchange.bytes_left <= 0:
            raise NetworkError(TOO_LARGE)
        self.settimeout(exchange.seconds_left())
        size = min(nbytes or len(buffer), exchange.bytes_left)
        received = super().recv_into(buffer, size, flags)
        if not received and exchange.status is None:
            raise ConnectionAbortedError  # or http.client would take this for the head's end
        exchange.bytes_left -= received
        return received

    def send(self, data: Any, flags: int = 0) -> int:
        self.settimeout(current.exchange.seconds_left())
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.settimeout(current.exchange.seconds_left())
        super().sendall(data, flags)


class _TLSSocket(_Socket, ssl.SSLSocket):  # type: ignore[misc]
    """The same with TLS; the timeout covers the whole handshake."""

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(current.exchange.seconds_left())
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()  # ssl does this for its own errors only
            raise


class _Response(http.client.HTTPResponse):
    """A response head by RFC 9112; http.client and urllib3 accept more."""

    def begin(self) -> None:
        try:
            super().begin()
            while 101 < self.status < 200:  # http.client skips 100 only
                self.headers = None  # type: ignore[assignment]
                super().begin()
        except (http.client.HTTPException, ValueError):
            raise NetworkError(MALFORMED) from None
        if not (200 <= self.status < 600 and _is_well_formed(self.msg)):
            raise NetworkError(MALFORMED)
        exchange = current.exchange
        exchange.status = self.status
        exchange.bytes_left += conf.DCR_MAX_RESPONSE_BYTES + HEAD_BYTES  # body, chunk framing


def _is_well_formed(head: http.client.HTTPMessage) -> bool:
    lengths = set(head.get_all("Content-Length", ()))
    codings = [coding.lower() for coding in head.get_all("Transfer-Encoding", ())]
    return (
        not head.defects
        and not head.get_payload()  # lines that are not header fields
        and all(FIELD_VALUE.fullmatch(value) for value in head.values())
        and all(_CONTENT_LENGTH.fullmatch(length) for length in lengths)
        and len(lengths) + len(codings) <= 1  # RFC 9112 section 6.3: both may be smuggling
        and codings in ([], ["chunked"])
    )


class Connection(urllib3.connection.HTTPConnection):
    """A connection to a checked address, or through the operator's proxy."""

    response_class = _Response
    answered_at = 0.0

    def connect(self) -> None:
        current.exchange.sent = False
        super().connect()
        current.exchange.sent = True

    def _new_conn(self) -> socket.socket:
        exchange = current.exchange
        trusted = exchange.internal or self.proxy is not None
        # The final dot keeps the resolver from trying its search domains.
        absolute = trusted or is_address(self.host)
        found = _resolve(self.host if absolute else f"{self.host}.", self.port, exchange)
        if not trusted and not all(is_public(str(entry[4][0])) for entry in found):
            raise NetworkError(UNREACHABLE)
        return _connect(found[:_ADDRESSES_TRIED], exchange)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        exchange = current.exchange  # urllib3 has quoted ``url`` again
        origin = exchange.url.origin if self.proxy_is_forwarding else ""
        super().putrequest(method, origin + exchange.target, *args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self.answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether another request may be sent: nothing unread, not closed, not idle for long."""
        unread = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        idle = time.monotonic() - self.answered_at
        return super().is_connected and not unread and idle < _IDLE_SECONDS


class TLSConnection(Connection, urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        self.ssl_context = _tls_context(conf.DCR_CA_BUNDLE or _CERTIFI)
        return super()._new_conn()


def _resolve(host: str, port: int, exchange: Exchange) -> list[Any]:
    """Return what ``getaddrinfo`` finds; it has no timeout, so it runs in a thread."""
    found: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, ValueError):
            found.put([])

    threading.Thread(target=ask, name="django-dcr resolver", daemon=True).start()
    try:
        return found.get(timeout=exchange.seconds_left())
    except queue.Empty:
        raise TimeoutError from None


def _connect(found: list[Any], exchange: Exchange) -> socket.socket:
    for position, (family, kind, protocol, _, address) in enumerate(found):
        try:
            connection = _Socket(family, kind, protocol)
        except OSError:
            continue  # such as IPv6 where there is none
        try:
            connection.settimeout(exchange.seconds_left() / (len(found) - position))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError:
            connection.close()
        except BaseException:
            connection.close()
            raise
    exchange.seconds_left()  # raises TimeoutError where the time ran out
    raise NetworkError(exchange.unreachable)


@functools.lru_cache(maxsize=4)
def _tls_context(ca_file: str) -> ssl.SSLContext:
    # Not ssl.create_default_context(), which obeys SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    try:
        context.load_verify_locations(ca_file)
    except OSError:
        raise NetworkError(NO_AUTHORITIES) from None
    context.sslsocket_class = _TLSSocket
    return context

"""The only door to the network: one request, one bounded answer, errors of this app only.

``requests`` prepares and parses, in one remembered session a thread without cookies, ``.netrc``,
proxies from the environment and redirects. The classes at the end of this file decide where a
connection may go and how long, and how many bytes, it may go on for.
"""

from __future__ import annotations

import functools
import http.client
import logging
import os
import queue
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from django.utils.datastructures import CaseInsensitiveMapping
from django.views.decorators.debug import sensitive_variables
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH as _CERTIFI

from django_dcr import __version__, urls
from django_dcr.addresses import is_address, is_public
from django_dcr.conf import conf
from django_dcr.exceptions import NetworkError, NotAllowedError
from django_dcr.text import SensitiveBytes

logger = logging.getLogger("django_dcr")

_HEAD_BYTES = 64 * 1024
_CHUNK_BYTES = 16 * 1024
_PORTS = frozenset({443, 8443, 9443})
_ADDRESSES_TRIED = 4
# A server may close a connection that rests, and a POST sent into that has no known outcome.
_REST_SECONDS = 1.0

# One constant text per kind: a server's words never get in, and a forbidden address reads
# like one that does not answer, so that a text cannot be used to map a private network.
_UNREACHABLE = (
    "The server cannot be reached: check its name and address; one that is inside your network "
    "must be listed in DCR_INTERNAL_ORIGINS."
)
_TIMED_OUT = "The server did not complete its answer within DCR_TIMEOUT."
_TLS_FAILED = (
    "No secure connection: the server's certificate or TLS version is not accepted. "
    "Authorities of your own are named in DCR_CA_BUNDLE."
)
_NO_AUTHORITIES = "DCR_CA_BUNDLE does not name a readable file of certificates."
_TOO_LARGE = "The answer is larger than DCR_MAX_RESPONSE_BYTES, or its head than 64 KiB."
_BROKEN_OFF = "The connection broke off before the whole answer had arrived."
_MALFORMED = "The answer is not well-formed HTTP."
_UNDECODABLE = "The answer's content coding is unknown, or the answer does not decode."
_UNSENDABLE = "The token or a header holds characters that no HTTP header may hold."

# RFC 9110 section 5.5: no control character but the tab.
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CONTENT_LENGTH = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Reply:
    """A complete answer of any final status; that of a redirect has no body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@sensitive_variables()
def send(
    method: str,
    url: str,
    *,
    issuer: str,
    step: str,
    token: str | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request and return the answer to it, whatever its status; never follow it.

    ``token`` is sent as a bearer token (RFC 6750 section 2.1), ``body`` as JSON unless
    ``headers`` says otherwise. Takes at most ``DCR_TIMEOUT`` seconds and holds at most about
    twice ``DCR_MAX_RESPONSE_BYTES``. With ``DCR_PROXY`` it is the proxy that resolves names,
    and so the proxy that has to keep them from leading to internal addresses.

    Raises NotAllowedError where the site's policy forbids the URL, else NetworkError.
    """
    started = time.monotonic()
    target = _allowed(url, issuer, step)
    exchange = _Exchange(target, conf.is_internal(target), started + conf.DCR_TIMEOUT)
    _thread.exchange = exchange
    url = url if target.path else target.origin + exchange.target
    try:
        return _perform(exchange, _prepare(method, url, token, body, headers or {}))
    except NetworkError as error:
        reason = str(error)
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        reason = exchange.reason(error)
    finally:
        took = (time.monotonic() - started) * 1000
        place = target.origin + target.path
        logger.debug("%s %s %s %.0f ms", method, place, exchange.status or "-", took)
    # Raised out here it has no context: the foreign error's text and frames hold the token.
    raise NetworkError(reason, issuer=issuer, step=step, status=exchange.status, sent=exchange.sent)


def _allowed(url: str, issuer: str, step: str) -> urls.URL:
    try:
        target = urls.parse(url)
    except ValueError as exc:
        raise NotAllowedError(f"The URL to ask {exc}.", issuer=issuer, step=step) from exc
    if conf.DCR_PROXY and not conf.DCR_PROXY.startswith("http://"):
        # TLS inside of TLS is done in Python by urllib3, past the bounded sockets below.
        message = "DCR_PROXY must be an http:// URL."
        raise NotAllowedError(message, issuer=issuer, step=step)
    if conf.is_internal(target):
        return target
    hint = "; if the server is yours, list its origin in DCR_INTERNAL_ORIGINS."
    if target.scheme != "https":
        raise NotAllowedError(f"Only https is allowed{hint}", issuer=issuer, step=step)
    if target.port not in _PORTS:
        message = f"Port {target.port} is not allowed{hint}"
        raise NotAllowedError(message, issuer=issuer, step=step)
    # Also where a proxy resolves names, and would find the internal one for "vault".
    if not (is_public(target.host) if is_address(target.host) else "." in target.host):
        raise NetworkError(_UNREACHABLE, issuer=issuer, step=step, sent=False)
    return target


@sensitive_variables()
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
        fields["Authorization"] = f"Bearer {token}"
    if not all(_FIELD_VALUE.fullmatch(value) for value in fields.values()):
        raise NetworkError(_UNSENDABLE)
    prepared = requests.Request(method, url, headers=fields, data=body).prepare()
    prepared.url = url  # which requests has quoted anew; used as given (RFC 7592 appendix B)
    return prepared


@sensitive_variables()
def _perform(exchange: _Exchange, request: requests.PreparedRequest) -> Reply:
    proxies = {"http": conf.DCR_PROXY, "https": conf.DCR_PROXY} if conf.DCR_PROXY else None
    exchange.sent = True  # and no longer certain not to be, unless connecting fails
    response = _session().send(
        request,
        stream=True,
        allow_redirects=False,
        timeout=conf.DCR_TIMEOUT,
        proxies=proxies or {},
    )
    with response:  # which closes the connection if the body is not read to its end
        exchange.status = status = response.status_code
        headers = CaseInsensitiveMapping(response.headers)
        body = b"" if 300 <= status < 400 else _body(response.raw, headers)
        return Reply(status, headers, SensitiveBytes(body))


def _body(raw: urllib3.BaseHTTPResponse, headers: Mapping[str, str]) -> bytes:
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise NetworkError(_UNDECODABLE)
    limit = conf.DCR_MAX_RESPONSE_BYTES
    body = bytearray()
    while chunk := raw.read(_CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > limit:
            raise NetworkError(_TOO_LARGE)
    return bytes(body) if coding == "identity" or not body else _inflate(body, limit)


def _inflate(body: bytearray, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise NetworkError(_UNDECODABLE) from None
    if len(plain) > limit:
        raise NetworkError(_TOO_LARGE)
    if not inflater.eof or inflater.unused_data:
        raise NetworkError(_UNDECODABLE)
    return plain


@dataclass
class _Exchange:
    """What one call of ``send()`` may still use up, and how far it has got."""

    url: urls.URL
    internal: bool
    deadline: float  # of time.monotonic()
    bytes_left: int = _HEAD_BYTES
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

    def reason(self, error: Exception) -> str:
        """Return our text for an error of the libraries below."""
        if time.monotonic() > self.deadline - 0.01:  # clocks of the kernel and ours differ
            return _TIMED_OUT
        if isinstance(error, (requests.exceptions.SSLError, urllib3.exceptions.SSLError)):
            return _TLS_FAILED
        return _BROKEN_OFF if self.sent else _UNREACHABLE


class _Thread(threading.local):
    """One session per thread: neither ``requests`` nor a socket may be shared between them."""

    exchange: _Exchange
    session: _Session
    made_for: tuple[object, ...] = ()


_thread = _Thread()


def _session() -> _Session:
    # A child process must not speak on its parent's connections, nor one made under other rules.
    rules = (os.getpid(), conf.DCR_CA_BUNDLE, *conf.DCR_INTERNAL_ORIGINS)
    if _thread.made_for != rules:
        _thread.session = _Session()
        _thread.made_for = rules
    return _thread.session


class _Session(requests.Session):
    """A remembered session that remembers connections, and nothing that a server says."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no .netrc, no proxies and authorities from the environment
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(pool_connections=16, pool_maxsize=1)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """See no redirect: even when none is followed, requests would read its whole body."""
        return None


@functools.lru_cache(maxsize=4)
def _tls_context(ca_file: str) -> ssl.SSLContext:
    # Not ssl.create_default_context(), which obeys SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    try:
        context.load_verify_locations(ca_file)
    except OSError:
        raise NetworkError(_NO_AUTHORITIES) from None
    context.sslsocket_class = _TLSSocket
    return context


class _Adapter(HTTPAdapter):
    """``requests`` over the connections of this file; it retries nothing, as is its default."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _TLSConnection if pool.scheme == "https" else _Connection
        return pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Leave the context alone, to which ``requests`` would add certifi's authorities."""


class _Socket(socket.socket):
    """A socket on which an exchange can outlast neither its deadline nor its allowance."""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        exchange = _thread.exchange
        if exchange.bytes_left <= 0:
            raise NetworkError(_TOO_LARGE)
        self.settimeout(exchange.seconds_left())
        size = min(nbytes or len(buffer), exchange.bytes_left)
        received = super().recv_into(buffer, size, flags)
        if not received and exchange.status is None:
            raise ConnectionAbortedError  # http.client takes this for the end of the head
        exchange.bytes_left -= received
        return received

    def send(self, data: Any, flags: int = 0) -> int:
        self.settimeout(_thread.exchange.seconds_left())
        return super().send(data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.settimeout(_thread.exchange.seconds_left())
        super().sendall(data, flags)


class _TLSSocket(_Socket, ssl.SSLSocket):  # type: ignore[misc]
    """The same under TLS, where the timeout is that of the whole handshake."""

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(_thread.exchange.seconds_left())
        super().do_handshake(block)


class _Response(http.client.HTTPResponse):
    """A response head by RFC 9112, where http.client and urllib3 let more pass."""

    def begin(self) -> None:
        try:
            super().begin()
            while 101 < self.status < 200:  # http.client skips 100 only
                self.headers = None  # type: ignore[assignment]
                super().begin()
        except (http.client.HTTPException, ValueError):
            raise NetworkError(_MALFORMED) from None
        if not (200 <= self.status < 600 and _is_well_formed(self.msg)):
            raise NetworkError(_MALFORMED)
        exchange = _thread.exchange
        exchange.status = self.status
        exchange.bytes_left += conf.DCR_MAX_RESPONSE_BYTES + _HEAD_BYTES  # body, chunk framing


def _is_well_formed(head: http.client.HTTPMessage) -> bool:
    lengths = set(head.get_all("Content-Length", ()))
    codings = [coding.lower() for coding in head.get_all("Transfer-Encoding", ())]
    return (
        not head.defects
        and not head.get_payload()  # lines that are no header fields
        and all(_FIELD_VALUE.fullmatch(value) for value in head.values())
        and all(_CONTENT_LENGTH.fullmatch(length) for length in lengths)
        and len(lengths) + len(codings) <= 1  # RFC 9112 section 6.3: both may be smuggling
        and codings in ([], ["chunked"])
    )


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that goes to a checked address, or through the operator's proxy."""

    response_class = _Response
    answered_at = 0.0

    def connect(self) -> None:
        _thread.exchange.sent = False
        super().connect()
        _thread.exchange.sent = True

    def _new_conn(self) -> socket.socket:
        exchange = _thread.exchange
        trusted = exchange.internal or self.proxy is not None
        # The final dot keeps the resolver from trying its search domains.
        absolute = trusted or is_address(self.host)
        found = _resolve(self.host if absolute else f"{self.host}.", self.port, exchange)
        if not trusted and not all(is_public(str(entry[4][0])) for entry in found):
            raise NetworkError(_UNREACHABLE)
        return _connect(found[:_ADDRESSES_TRIED], exchange)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        exchange = _thread.exchange  # urllib3 has quoted ``url`` anew
        origin = exchange.url.origin if self.proxy_is_forwarding else ""
        super().putrequest(method, origin + exchange.target, *args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self.answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether another request may be sent: nothing unread, not closed, not long at rest."""
        unread = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        rested = time.monotonic() - self.answered_at
        return super().is_connected and not unread and rested < _REST_SECONDS


class _TLSConnection(_Connection, urllib3.connection.HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        self.ssl_context = _tls_context(conf.DCR_CA_BUNDLE or _CERTIFI)
        return super()._new_conn()


def _resolve(host: str, port: int, exchange: _Exchange) -> list[Any]:
    """Return what ``getaddrinfo`` finds, which takes no timeout and so runs in a thread."""
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


def _connect(found: list[Any], exchange: _Exchange) -> socket.socket:
    for position, (family, kind, protocol, _, address) in enumerate(found):
        try:
            connection = _Socket(family, kind, protocol)
        except OSError:
            continue  # such as IPv6 where there is none
        try:
            connection.settimeout(exchange.seconds_left() / (len(found) - position))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connection.close()
        else:
            return connection
    exchange.seconds_left()  # raises where it was the time that ran out
    raise NetworkError(_UNREACHABLE)

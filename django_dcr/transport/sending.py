"""One request, one bounded answer, errors of this app only."""

from __future__ import annotations

import http.client
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import requests
import urllib3
from django.views.decorators.debug import sensitive_variables

from django_dcr import __version__, signals, uris
from django_dcr.addresses import is_address, is_public
from django_dcr.conf import conf
from django_dcr.exceptions import NetworkError, NotAllowedError, work_at_hand
from django_dcr.logs import log
from django_dcr.text import SensitiveBytes, SensitiveText, hides_variables
from django_dcr.transport.connections import FIELD_VALUE
from django_dcr.transport.exchange import (
    TOO_LARGE,
    UNDECODABLE,
    UNREACHABLE,
    UNSENDABLE,
    Exchange,
    current,
)
from django_dcr.transport.sessions import session

_CHUNK_BYTES = 16 * 1024
#: What an answered exchange ended in, by the first digit of its status; see ``signals.OUTCOMES``.
_OUTCOMES = {2: "success", 3: "redirect", 4: "rejected", 5: "failed"}
_PORTS = frozenset({443, 8443, 9443})


@dataclass(frozen=True)
class Reply:
    """A complete answer of any final status; that of a redirect has no body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@hides_variables
@sensitive_variables()
def send(
    method: str,
    url: str,
    *,
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
        _tell(exchange, method, outcome, time.monotonic() - started)
    # Raised out here it has no context: the foreign error's text and frames hold the token.
    raise NetworkError(reason, status=exchange.status, sent=exchange.sent)


def _tell(exchange: Exchange, method: str, outcome: str, duration: float) -> None:
    """Log an exchange, and send its signal: every one passes here."""
    status = exchange.status
    place = exchange.url.origin + exchange.url.path
    took = duration * 1000
    log(
        "exchange",
        "%s %s %s %.0f ms",
        method,
        place,
        status or "-",
        took,
        status=status,
        duration=duration,
        outcome=outcome,
        method=method,
    )
    signals.exchanged.send_robust(
        sender=None,
        **work_at_hand()._asdict(),
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
    # Also where a proxy resolves names, and would find the internal one for "vault".
    if not (is_public(target.host) if is_address(target.host) else "." in target.host):
        raise NetworkError(UNREACHABLE, sent=False)
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
        fields["Authorization"] = SensitiveText(f"Bearer {token}")
    if not all(FIELD_VALUE.fullmatch(value) for value in fields.values()):
        raise NetworkError(UNSENDABLE)
    # Not by Request.prepare(), which quotes the URL again, where it is to be used as given
    # (RFC 7592 appendix B), and looks for cookies and for a password in it.
    prepared = requests.PreparedRequest()
    prepared.prepare_method(method)
    prepared.prepare_headers(fields)
    prepared.prepare_body(body, None)
    prepared.url = url
    return prepared


@sensitive_variables()
def _perform(exchange: Exchange, request: requests.PreparedRequest) -> Reply:
    proxies = {"http": conf.DCR_PROXY, "https": conf.DCR_PROXY} if conf.DCR_PROXY else None
    exchange.sent = True  # and no longer certain not to be, unless connecting fails
    # Not by session().send(), which would keep cookies, and read the whole body of a redirect.
    transport = session().get_adapter(str(request.url))
    response = transport.send(request, stream=True, timeout=conf.DCR_TIMEOUT, proxies=proxies)
    with response:  # which closes the connection if the body is not read to its end
        exchange.status = status = response.status_code
        body = b"" if 300 <= status < 400 else _body(response.raw, response.headers)
        return Reply(status, response.headers, SensitiveBytes(body))


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

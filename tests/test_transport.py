"""The door to the network, against servers on loopback that break every rule there is."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from django.test import override_settings
from django.views.debug import ExceptionReporter

from django_dcr import transport
from django_dcr.exceptions import NetworkError, NotAllowedError
from django_dcr.transport import Reply, send
from tests import hostile
from tests.clocks import Clock
from tests.hostile import (
    BOMB,
    PATIENCE,
    TIMEOUTS,
    Authority,
    Server,
    answer,
    delivered,
    drip,
    endless,
    first_byte,
    found,
    pause,
    read,
    reset,
    silence,
    until_it_stalls,
)

TIMEOUT = TIMEOUTS[0]  # where whatever happens in it ends the same
TOKEN = "registration-access-token"
BODY = b'{"client_name": "a secret plan"}'
LEAKS = (TOKEN, "secret plan", "RAW", "hidden", "127.0.0.1")

UNREACHABLE = "cannot be reached"
TIMED_OUT = "within DCR_TIMEOUT"
TLS_FAILED = "No secure connection"
TOO_LARGE = "larger than DCR_MAX_RESPONSE_BYTES"
BROKEN_OFF = "broke off"
MALFORMED = "not well-formed HTTP"
UNDECODABLE = "content coding"

loopback = pytest.mark.network


@pytest.fixture(autouse=True)
def _loopback_is_internal(settings: Any) -> None:
    settings.DCR_TIMEOUT = PATIENCE
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]


@pytest.fixture(autouse=True)
def resting(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock for idle connections, which only the test moves."""
    clock = Clock()
    monkeypatch.setattr("django_dcr.transport.connections.time", clock)
    return clock


def post(url: str) -> Reply:
    return send("POST", url, token=TOKEN, body=BODY)


def get(url: str, **options: Any) -> Reply:
    return send("GET", url, **options)


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Check that the block takes no more than 16 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def fails(url: str, match: str, ask: Callable[[str], Reply] = post) -> NetworkError:
    """Return the error of a request to ``url``, after the checks that apply to every error."""
    with pytest.raises(NetworkError, match=match) as caught:
        ask(url)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    for leak in LEAKS:
        assert leak not in str(error) + repr(error) + repr(pickle.dumps(error))
    return error


def breaks(
    *steps: hostile.Step,
    match: str,
    check: Callable[[Server], NetworkError],
    tls: ssl.SSLContext | None = None,
) -> NetworkError:
    """Return what ``check`` returns for a server that performs the steps.

    Where the error is that time ran out, DCR_TIMEOUT is short; else it never does.
    """
    if match == TIMED_OUT:
        return until_it_stalls(*steps, check=check, tls=tls)
    with Server(*steps, tls=tls) as server:
        return check(server)


# --- what goes out -----------------------------------------------------------------------------


@loopback
def test_a_request_contains_the_necessary_headers_only() -> None:
    with Server(read, answer(b'{"client_id": "1"}', "201 Created", "ETag: x")) as server:
        reply = post(f"{server.url}/register")

    assert (reply.status, reply.body) == (201, b'{"client_id": "1"}')
    assert reply.headers["etag"] == "x"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert sorted(head.decode().split("\r\n")) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(BODY)}",
        "Content-Type: application/json",
        f"Host: 127.0.0.1:{server.port}",
        "POST /register HTTP/1.1",
        "User-Agent: django-dcr/0.1.0",
    ]


@loopback
def test_a_request_without_token_and_body_has_no_headers_for_them() -> None:
    with Server(read, answer()) as server:
        get(server.url, headers={"If-None-Match": '"x"', "accept": "text/plain"})

    head = server.requests[0].lower()
    assert head.startswith(b"get / http/1.1\r\n")
    assert b'if-none-match: "x"' in head
    assert b"accept: text/plain" in head
    assert b"application/json" not in head
    assert b"authorization" not in head
    assert b"content-" not in head


@loopback
@pytest.mark.parametrize("target", ["/a%2fb?x=[1]&y=%7e&z=%", "/?", "/~a;b//c?d=e/f?g", "?x=1"])
def test_the_url_is_sent_byte_for_byte(target: str) -> None:
    """R-092: the URL is used as given, where requests and urllib3 would quote it again."""
    with Server(read, answer()) as server:
        get(server.url + target)

    sent = target if target.startswith("/") else f"/{target}"
    assert server.requests[0].startswith(b"GET %s HTTP/1.1\r\n" % sent.encode())


@pytest.mark.parametrize(
    "options",
    [
        {"token": "a\r\nX-Injected: 1"},
        {"token": "a\x00b"},
        {"token": "\u20ac"},
        {"token": "\ud800"},
        {"headers": {"If-None-Match": "a\nb"}},
        {"headers": {"If-None-Match": " a"}},
        {"headers": {"If\r\nNone": "a"}},
    ],
    ids=repr,
)
def test_a_header_is_never_split(options: dict[str, Any]) -> None:
    with pytest.raises(NetworkError, match=r"characters|cannot be reached") as caught:
        get("https://as.example/", **options)
    assert not caught.value.sent


# --- what comes back, over plain sockets -------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LINE = b"A: %s\r\n" % (b"b" * 400)  # long, for of lines there may be 100 only
CUT = b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{}"


@loopback
@pytest.mark.parametrize(
    ("steps", "match"),
    [
        pytest.param([silence], TIMED_OUT, id="3: accepts, never answers"),
        pytest.param([read, silence], TIMED_OUT, id="4: does it, never answers"),
        pytest.param([], BROKEN_OFF, id="5: closes before"),
        pytest.param([read], BROKEN_OFF, id="5: closes after"),
        pytest.param([first_byte, reset], BROKEN_OFF, id="6: resets before"),
        pytest.param([read, reset], BROKEN_OFF, id="6: resets after"),
        pytest.param([read, CUT, delivered, reset], BROKEN_OFF, id="7: resets in the body"),
        pytest.param([read, CUT], BROKEN_OFF, id="8: closes in the body, which is JSON"),
        pytest.param([read, b"HTTP/1."], BROKEN_OFF, id="9: closes in the status line"),
        pytest.param([read, OK], BROKEN_OFF, id="9: closes after the status line"),
        pytest.param(
            [read, b"HTTP/1.1 204 No Content\r\nA: b\r\n"], BROKEN_OFF, id="9: closes in the head"
        ),
        pytest.param([read, OK + b"Conten"], BROKEN_OFF, id="9: closes in a header line"),
        pytest.param([read, OK, drip(b"", LINE)], TIMED_OUT, id="10: drips the head"),
        pytest.param([read, OK + b"\r\n", drip(b"", b"{")], TIMED_OUT, id="11: drips the body"),
        pytest.param([read, CHUNKED, drip(b"", b"1\r\n{\r\n")], TIMED_OUT, id="11: drips chunks"),
        pytest.param([read, OK, endless(b"RAW: 1\r\n")], MALFORMED, id="12: endless lines"),
        pytest.param(
            [read, OK, endless(b"RAW: %s\r\n" % (b"x" * 9999))], TOO_LARGE, id="12: long lines"
        ),
        pytest.param([read, OK, endless(b"RAW")], TOO_LARGE, id="12: one endless line"),
        pytest.param([read, endless(b"RAW")], TOO_LARGE, id="12: endless status line"),
        pytest.param([read, OK + b"\r\n{}", endless(b" ")], TOO_LARGE, id="13: endless spaces"),
        pytest.param(
            [read, CHUNKED, endless(b"400\r\n%s\r\n" % bytes(1024))],
            TOO_LARGE,
            id="14: endless chunks",
        ),
        pytest.param(
            [read, CHUNKED, endless(b"1;%s\r\nx\r\n" % (b"e" * 999))], TOO_LARGE, id="15: padding"
        ),
        pytest.param([read, CHUNKED + b"1;", endless(b"e")], BROKEN_OFF, id="15: extension"),
        pytest.param(
            [read, CHUNKED + b"0\r\n", endless(b"a: %s\r\n" % (b"b" * 999))],
            TOO_LARGE,
            id="15: trailer",
        ),
        pytest.param([read, CHUNKED + b"RAW\r\n{}\r\n"], BROKEN_OFF, id="16: size not hex"),
        pytest.param([read, CHUNKED + b"-1\r\n{}\r\n"], BROKEN_OFF, id="16: size -1"),
        pytest.param([read, CHUNKED + b"-9\r\n{}\r\n"], BROKEN_OFF, id="16: size -9"),
        pytest.param([read, CHUNKED + b"f" * 16 + b"\r\n{}\r\n"], BROKEN_OFF, id="16: 2^64-1"),
        pytest.param([read, CHUNKED + b"2\r\n{}\r\n"], BROKEN_OFF, id="16: no last chunk"),
        pytest.param(
            [read, endless(b"HTTP/1.1 100 Continue\r\n\r\n")], TOO_LARGE, id="17: endless 100"
        ),
        pytest.param(
            [read, endless(b"HTTP/1.1 103 Hints\r\nA: %s\r\n\r\n" % (b"b" * 999))],
            TOO_LARGE,
            id="17: endless 103",
        ),
        pytest.param(
            [read, drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n")], TIMED_OUT, id="17: dripping 100"
        ),
        pytest.param([read, answer(b"", "101 RAW")], MALFORMED, id="17: 101"),
        pytest.param([read, OK + b"Content-Length: -1\r\n\r\n"], MALFORMED, id="18: negative"),
        pytest.param([read, OK + b"Content-Length: 12abc\r\n\r\n"], MALFORMED, id="18: 12abc"),
        pytest.param([read, answer(b"{}", "200 OK", "Content-Length: 3")], MALFORMED, id="18: two"),
        pytest.param(
            [read, CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n") + b"{}"],
            MALFORMED,
            id="19: length and chunked",
        ),
        pytest.param([read, OK + b"Transfer-Encoding: gzip\r\n\r\n"], MALFORMED, id="19: coding"),
        pytest.param(
            [read, OK + b"Content-Length: 1%s\r\n\r\n{}" % (b"0" * 15)], MALFORMED, id="20"
        ),
        pytest.param(
            [read, OK + b"Content-Length: 1%s\r\n\r\n{}" % (b"0" * 14)], BROKEN_OFF, id="20: less"
        ),
        pytest.param(
            [read, OK + b"Content-Length: %s\r\n\r\n{}" % (b"1" * 60000)], MALFORMED, id="20: 60k"
        ),
        pytest.param(
            [read, OK + b"Content-Length: %s\r\n\r\n{}" % (b"1" * 10**5)], TOO_LARGE, id="20: 100k"
        ),
        pytest.param([b"SSH-2.0-RAW\r\n", silence], MALFORMED, id="21: SSH"),
        pytest.param([read, b"\x15\x03\x01\x00\x02\x02\x28"], BROKEN_OFF, id="21: TLS alert"),
        pytest.param([b"\0\0\x12\x04\0\0\0\0\0" * 3 + b"\n"], MALFORMED, id="21: HTTP/2"),
        pytest.param([read, b"HTTP/2 200\r\n\r\n"], MALFORMED, id="21: HTTP/2 in words"),
        pytest.param([read, b"<html>RAW\n</html>\n"], MALFORMED, id="21: HTTP/0.9"),
        pytest.param([read, answer(b"{}", "RAW")], MALFORMED, id="22: no number"),
        pytest.param([read, answer(b"{}", "000")], MALFORMED, id="22: 000"),
        pytest.param([read, answer(b"{}", "999")], MALFORMED, id="22: 999"),
        pytest.param([read, answer(b"{}", "20000000000")], MALFORMED, id="22: 11 digits"),
        pytest.param([read, answer(b"{}", "200", "RAW: a\0b")], MALFORMED, id="23: NUL"),
        pytest.param([read, answer(b"{}", "200", "RAW: a\rb")], MALFORMED, id="23: CR"),
        pytest.param([read, answer(b"{}", "200", "RAW: a\x1b[2J")], MALFORMED, id="23: escape"),
        pytest.param([read, answer(b"{}", "200", "RAW")], MALFORMED, id="23: no colon"),
        pytest.param(
            [read, OK + b"Content-Length: 2\r\nFrom RAW\r\n\r\n{}"], MALFORMED, id="23: mbox"
        ),
        pytest.param([read, answer(b"{}", "200", ": RAW")], MALFORMED, id="23: no name"),
        pytest.param([read, answer(b"{}", "200", "RAW: a\r\n b")], MALFORMED, id="23: folded"),
    ],
)
def test_a_response_that_must_not_be_read_is_a_network_error(
    steps: list[hostile.Step], match: str
) -> None:
    """Faults 3 to 23: in time, in bounds, and the request counts as sent."""
    servers: list[Server] = []

    def check(server: Server) -> NetworkError:
        servers.append(server)
        with in_memory():
            error = fails(f"{server.url}/register", match)
        assert error.sent
        return error

    breaks(*steps, match=match, check=check)
    assert servers[-1].accepted == 1  # nothing was tried twice


@loopback
def test_the_error_has_the_status_of_a_broken_response() -> None:
    with Server(read, CUT) as server:
        assert fails(server.url, BROKEN_OFF).status == 201


@loopback
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        pytest.param([f"Set-Cookie: a={'x' * 10_000}"], b"{}", id="25: cookies"),
        pytest.param(
            [f"{name}: //evil.example" for name in ("Alt-Svc", "Refresh", "Link", "Location")],
            b"{}",
            id="26: elsewhere",
        ),
        pytest.param(["X-Name: caf\xe9"], b"{}", id="23: Latin-1"),
        pytest.param(
            ["Transfer-Encoding: Chunked"], b"2;a=b\r\n{}\r\n0\r\nc: d\r\n\r\n", id="chunks"
        ),
        pytest.param(["Content-Length: 2"], b"{}", id="18: twice the same"),
        pytest.param([f"Content-Type: text/{'x' * 60_000}"], b"{}", id="56: 60 kB type"),
        pytest.param(["Content-Type: application/json; charset=zlib_codec"], b"{}", id="57"),
        pytest.param(["Content-Encoding: Identity"], b"{}", id="53: identity"),
        pytest.param(["Content-Encoding: gzip"], gzip.compress(b"{}"), id="53: gzip"),
        pytest.param(["Content-Encoding: x-gzip"], gzip.compress(b"{}"), id="53: x-gzip"),
        pytest.param(["Content-Encoding: deflate"], zlib.compress(b"{}"), id="53: deflate"),
    ],
)
def test_an_unusual_response_that_can_be_read_is_read(fields: list[str], body: bytes) -> None:
    with Server(read, answer(body, "200 OK", *fields)) as server:
        assert post(server.url).body == b"{}"


@loopback
def test_an_empty_body_may_claim_any_coding() -> None:
    with Server(read, answer(b"", "204 No Content", "Content-Encoding: gzip")) as server:
        assert post(server.url).body == b""


@loopback
def test_informational_responses_are_skipped() -> None:
    """Fault 17: one 100 and one 103 before the answer."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with Server(read, early + answer(b"{}", "201 Created")) as server:
        assert post(server.url).status == 201


@loopback
def test_a_slow_answer_is_awaited() -> None:
    """Fault 27: a server may take its time within ``DCR_TIMEOUT``."""
    head = OK + b"Content-Length: 2\r\n\r\n"
    with Server(read, pause(0.1), head, drip(b"{}")) as server:
        assert post(server.url).body == b"{}"


@loopback
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(settings: Any) -> None:
    settings.DCR_MAX_RESPONSE_BYTES = 100_000
    with Server(read, answer(b"x" * 100_000)) as server:
        assert len(post(server.url).body) == 100_000
    with Server(read, answer(b"x" * 100_001)) as server:
        error = fails(server.url, TOO_LARGE)
        assert (error.sent, error.status) == (True, 200)


@loopback
def test_a_head_may_be_almost_64_kilobytes_beside_a_full_body(settings: Any) -> None:
    head = [f"X-{number}: {'x' * 650}" for number in range(95)]
    with Server(read, answer(b"x" * 1024 * 1024, "200 OK", *head)) as server:
        assert len(post(server.url).body) == 1024 * 1024


@loopback
@pytest.mark.parametrize(
    ("coding", "body", "match"),
    [
        pytest.param("gzip", BOMB, TOO_LARGE, id="54: bomb"),
        pytest.param("gzip, gzip", gzip.compress(BOMB), UNDECODABLE, id="54: bomb in bomb"),
        pytest.param("deflate", zlib.compress(bytes(50_000_000)), TOO_LARGE, id="54: zlib bomb"),
        pytest.param(", ".join(["gzip"] * 100), b"x", UNDECODABLE, id="54: 100 codings"),
        pytest.param("gzip", gzip.compress(b"{}")[:-1], UNDECODABLE, id="55: cut"),
        pytest.param("gzip", gzip.compress(b"{}")[:-8] + bytes(8), UNDECODABLE, id="55: CRC"),
        pytest.param("gzip", gzip.compress(b"{}") + b"x", UNDECODABLE, id="55: trailing bytes"),
        pytest.param("gzip", b"{}", UNDECODABLE, id="55: not gzip"),
        pytest.param("RAW", b"{}", UNDECODABLE, id="55: unknown"),
        pytest.param("br", b"\xff\xff", UNDECODABLE, id="55: bad br"),
    ],
)
def test_a_body_that_cannot_be_decoded_within_the_limit_is_an_error(
    coding: str, body: bytes, match: str
) -> None:
    """Faults 54 and 55."""
    coded = answer(body, "200 OK", f"Content-Encoding: {coding}")
    with Server(read, coded) as server, in_memory():
        error = fails(server.url, match)
        assert (error.sent, error.status) == (True, 200)


@loopback
def test_a_bomb_in_a_bomb_is_decoded_once() -> None:
    """Fault 54."""
    coded = answer(gzip.compress(BOMB), "200 OK", "Content-Encoding: gzip")
    with Server(read, coded) as server, in_memory():
        assert post(server.url).body == BOMB


LOCATIONS = [
    "https://other.example/",
    "/same-origin",
    "//host.example/",
    "file:///etc/passwd",
    "gopher://x/",
    "javascript:alert(1)",
    "http://user@127.0.0.1/",
    "http://169.254.169.254/",
    "http://\xef\xbc\x91.example/",
    "",
]
REDIRECTS = [(status, "/") for status in (300, 301, 303, 304, 305, 307, 308)]


@loopback
@pytest.mark.parametrize(("status", "location"), REDIRECTS + [(302, to) for to in LOCATIONS])
def test_a_redirect_is_returned_like_any_other_response(status: int, location: str) -> None:
    """Faults 41 to 46: not followed, its body not read, its connection not used again."""
    redirect = answer(b"", f"{status} Elsewhere", f"Location: {location}", "X-Body: endless")
    redirect = redirect.replace(b"Content-Length: 0\r\n", b"")
    with Server(read, redirect, endless(b"x")) as server, hostile.recorded_connects() as connects:
        with in_memory():
            reply = post(server.url)

        assert (reply.status, reply.body) == (status, b"")
        assert len(connects) == len(server.requests) == 1


@loopback
@pytest.mark.parametrize(
    "status", [200, 201, 202, 204, 206, 226, 400, 401, 404, 429, 500, 511, 599]
)
def test_every_final_status_is_returned(status: int) -> None:
    """Faults 38 to 52: transport does not judge them."""
    with Server(read, answer(b"", f"{status} x", "WWW-Authenticate: Basic")) as server:
        assert post(server.url).status == status
        assert len(server.requests) == 1


# --- connections that live on ------------------------------------------------------------------


@loopback
def test_a_connection_serves_several_requests() -> None:
    with Server(read, answer(b"1"), read, answer(b"2"), read, answer(b"3")) as server:
        assert [post(server.url).body for _ in range(3)] == [b"1", b"2", b"3"]
        assert server.accepted == 1


@loopback
def test_an_idle_connection_is_not_used_again(resting: Clock) -> None:
    """The server may be closing it, and then the outcome of a POST is unknown."""
    with Server(*[read, answer()] * 3) as server:
        post(server.url)
        resting.now += 0.95
        post(server.url)
        assert server.accepted == 1
        resting.now += 1.05
        post(server.url)
        assert server.accepted == 2


@loopback
@pytest.mark.parametrize("wait", [0, 0.1], ids=["at once", "a little later"])
def test_a_second_response_is_not_taken_for_the_next_one(wait: float) -> None:
    """Fault 24."""
    forged = answer(b"forged" + b" " * 20_000)
    sent = threading.Event()

    def push(server: Server, connection: socket.socket) -> None:
        connection.sendall(forged)
        delivered(server, connection)
        sent.set()

    with Server(read, answer(b"true"), pause(wait), push, read, answer(b"next")) as server:
        assert post(server.url).body == b"true"
        assert sent.wait(hostile.HANG)
        sent.clear()
        assert post(server.url).body == b"true"
        assert server.accepted == 2


@loopback
def test_a_body_longer_than_its_content_length_is_dropped() -> None:
    """Faults 18 and 24: the rest is not the start of the next response."""
    long = OK + b"Content-Length: 2\r\n\r\n{}" + b"x" * 20_000
    with Server(read, long, silence) as server:
        assert [post(server.url).body for _ in range(2)] == [b"{}", b"{}"]
        assert server.accepted == 2


@loopback
def test_cookies_are_not_kept() -> None:
    """Fault 25."""
    with Server(read, answer(b"{}", "200 OK", "Set-Cookie: a=b"), read, answer()) as server:
        post(server.url)
        post(server.url)
        assert not any(b"cookie" in request.lower() for request in server.requests)


@loopback
def test_threads_do_not_share_connections() -> None:
    """L27."""
    with Server(*[read, answer()] * 3) as server:
        post(server.url)
        thread = threading.Thread(target=post, args=[server.url])
        thread.start()
        thread.join()
        post(server.url)
        assert (server.accepted, len(server.requests)) == (2, 3)


@loopback
def test_a_forked_process_does_not_use_its_parents_connection() -> None:
    """L27."""
    with Server(*[read, answer()] * 3) as server:
        post(server.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork in a threaded process
            child = os.fork()
        if not child:  # pragma: no cover
            os._exit(0 if post(server.url).body == b"{}" else 1)
        assert os.waitpid(child, 0)[1] == 0
        post(server.url)
        assert (server.accepted, len(server.requests)) == (2, 3)


@loopback
def test_no_file_descriptor_is_left_open(settings: Any) -> None:
    settings.DCR_TIMEOUT = TIMEOUT

    def count() -> int:
        return len(os.listdir("/dev/fd"))

    before = count()
    for steps in ([reset], [read], [read, CUT], [read, b"RAW\r\n"], [silence]):
        with Server(*steps) as server, pytest.raises(NetworkError):
            post(server.url)
    settings.DCR_TIMEOUT = PATIENCE
    with Server(read, answer(b"", "302 Found"), endless(b"x")) as server:
        post(server.url)
    assert count() <= before


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, settings: Any) -> Authority:
    """Return a trusted authority; its servers are ``https://127.0.0.1``, an internal origin."""
    authority = Authority(tmp_path)
    settings.DCR_CA_BUNDLE = authority.file
    settings.DCR_INTERNAL_ORIGINS = ["https://127.0.0.1", "https://as.example"]
    return authority


@loopback
def test_a_trusted_server_is_reached_over_tls(authority: Authority) -> None:
    context = authority.context("127.0.0.1")
    with Server(read, answer(), read, answer(), tls=context) as server:
        assert [post(server.url).body for _ in range(2)] == [b"{}", b"{}"]
        assert server.accepted == 1


@loopback
@pytest.mark.parametrize(
    ("hosts", "options"),
    [
        pytest.param(["127.0.0.1"], {"expired": True}, id="28: expired"),
        pytest.param(["127.0.0.2", "localhost"], {}, id="28: wrong host"),
        pytest.param(["127.0.0.1"], {"own": True}, id="28: self-signed"),
    ],
)
def test_a_wrong_certificate_is_refused(
    authority: Authority, hosts: list[str], options: dict[str, bool]
) -> None:
    """Fault 28: E, nothing sent, no retry without a check."""
    with Server(read, answer(), tls=authority.context(*hosts, **options)) as server:
        error = fails(server.url, f"{TLS_FAILED}.*DCR_CA_BUNDLE")
        assert not error.sent
        assert (server.accepted, server.requests) == (1, [])


@loopback
@pytest.mark.parametrize("bundle", ["", "other"], ids=["certifi", "another authority"])
def test_an_unknown_authority_is_refused(
    authority: Authority, bundle: str, settings: Any, tmp_path: Path
) -> None:
    """Fault 28; and a changed ``DCR_CA_BUNDLE`` applies to open connections."""
    with Server(*[read, answer()] * 2, tls=authority.context("127.0.0.1")) as server:
        post(server.url)
        settings.DCR_CA_BUNDLE = bundle and Authority(tmp_path, bundle).file
        assert not fails(server.url, TLS_FAILED).sent


@loopback
def test_a_missing_bundle_is_an_error_before_anything_is_sent(settings: Any) -> None:
    settings.DCR_CA_BUNDLE = "/nowhere.pem"
    settings.DCR_INTERNAL_ORIGINS = ["https://127.0.0.1"]
    with Server(silence) as server:
        assert not fails(server.url.replace("http:", "https:"), "DCR_CA_BUNDLE does not").sent


@loopback
def test_a_server_of_tls_1_1_is_refused(authority: Authority) -> None:
    """Fault 29."""
    context = authority.context("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Server(read, answer(), tls=context) as server:
        assert not fails(server.url, TLS_FAILED).sent


@loopback
@pytest.mark.parametrize(
    ("steps", "match"),
    [
        pytest.param([answer(b"", "400 RAW"), silence], TLS_FAILED, id="29: plain HTTP"),
        pytest.param([reset], UNREACHABLE, id="29: RST in the handshake"),
        pytest.param([silence], TIMED_OUT, id="29: silence in the handshake"),
        pytest.param([drip(b"\x16\x03\x03\x40\x00", b"\0")], TIMED_OUT, id="29: a drip"),
        pytest.param([b"\x15\x03\x03\x00\x02\x02\x28", silence], TLS_FAILED, id="29: an alert"),
    ],
)
def test_a_handshake_that_fails_sent_nothing(
    authority: Authority, steps: list[hostile.Step], match: str
) -> None:
    def check(server: Server) -> NetworkError:
        return fails(server.url.replace("http:", "https:"), match)

    assert not breaks(*steps, match=match, check=check).sent


@loopback
@pytest.mark.parametrize(
    ("steps", "match"),
    [
        pytest.param([read, silence], TIMED_OUT, id="4"),
        pytest.param([read], BROKEN_OFF, id="5"),
        pytest.param([read, CUT], BROKEN_OFF, id="8"),
        pytest.param([read, OK + b"\r\n", drip(b"", b"{")], TIMED_OUT, id="11"),
        pytest.param([read, OK + b"\r\n", endless(b"{")], TOO_LARGE, id="13"),
    ],
)
def test_the_limits_hold_under_tls(
    authority: Authority, steps: list[hostile.Step], match: str
) -> None:
    def check(server: Server) -> NetworkError:
        error = fails(server.url, match)
        assert error.sent
        return error

    breaks(*steps, match=match, check=check, tls=authority.context("127.0.0.1"))


@loopback
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_server_that_does_not_read_ends_at_the_deadline(
    tls: bool, authority: Authority, settings: Any
) -> None:
    """Fault 3: the buffers fill up, and sending blocks."""
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]

    def put(url: str) -> Reply:
        body = bytes(20_000_000)
        return send("PUT", url, body=body)

    def check(server: Server) -> None:
        assert fails(server.url, TIMED_OUT, put).sent

    context = authority.context("127.0.0.1") if tls else None
    until_it_stalls(hostile.deaf, check=check, tls=context)


@loopback
def test_unread_bytes_inside_tls_close_a_connection(authority: Authority) -> None:
    """Fault 24: OpenSSL may hold decrypted bytes that the kernel no longer shows."""
    pair = answer(b"true") + answer(b"forged" + b" " * 12_000)
    with Server(read, pair, read, tls=authority.context("127.0.0.1")) as server:
        assert [post(server.url).body for _ in range(2)] == [b"true", b"true"]
        assert server.accepted == 2


# --- names and addresses -----------------------------------------------------------------------

FORBIDDEN = """
    127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255
    192.168.0.1 169.254.169.254 169.254.0.1 100.64.0.1 100.100.100.200 100.127.255.254 192.0.0.1
    192.0.0.170 192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 192.88.99.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255
    :: ::1 fe80::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 100::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8
    ::ffff:0:8.8.8.8 ::127.0.0.1 ::8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1
    2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
    2002:7f00:1:: 2002:808:808:: 3fff::1 4000::1 5f00::1
""".split()  # noqa: SIM905


@loopback
@pytest.mark.parametrize("address", FORBIDDEN)
def test_nothing_is_sent_to_a_name_with_a_forbidden_address(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 30 and 31: also beside a public address; the message is that of an absent server."""
    for addresses in ([address], ["93.184.215.14", address], [address, "2606:2800:21f::1"]):
        monkeypatch.setattr(socket, "getaddrinfo", found(*addresses))
        with hostile.recorded_connects() as connects:
            error = fails("https://as.example/", UNREACHABLE)
        assert connects == []
        assert not error.sent

    monkeypatch.setattr(socket, "getaddrinfo", found())
    assert str(fails("https://as.example/", UNREACHABLE)) == str(error)


PROXY = "http://127.0.0.1:3128"


@loopback
@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        *((address, "") for address in FORBIDDEN),
        ("10.0.0.1", PROXY),
        ("::ffff:127.0.0.1", PROXY),
    ],
)
def test_nothing_is_sent_to_a_forbidden_address_in_the_url(
    address: str, proxy: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 91: also with a proxy, which would connect there."""
    settings.DCR_PROXY = proxy
    settings.DCR_INTERNAL_ORIGINS = []
    monkeypatch.setattr(socket, "getaddrinfo", found("93.184.215.14"))
    host = f"[{address}]" if ":" in address else address
    with hostile.recorded_connects() as connects:
        assert not fails(f"https://{host}/", UNREACHABLE).sent
    assert connects == []


SPELLINGS = """
    2130706433 0x7f000001 017700000001 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 0x7f.1 127.0.0.1.
    127.0.0.01 127.0.0.256 1.2.3.4.5 127.0.0.0x1 %31%32%37.0.0.1 127%2e0.0.1 127.0.0.1%00
    127.0.0.1%23.example [::ffff:127.0.0.1%25lo] [fe80::1%lo] [::1 ::1] [127.0.0.1] [localhost]
    localhost. as.example. as..example .as.example as.example\\@127.0.0.1 user@127.0.0.1
    as.example@127.0.0.1 as.example:@127.0.0.1 as.example:443:80 as.example:99999 as.example:0
    127\u30020\u30020\u30021 \uff11\uff12\uff17.0.0.1 \u2460\u2461\u2466.0.0.1 127.0.0.\u0661
    \uff4c\uff4f\uff43\uff41\uff4c.example as.exampl\u0435 as\u200b.example
""".split()  # noqa: SIM905
SPLIT = ["as.example\t", "as\n.example", " as.example", "as.example\r\nX: y", "as\0.example", ""]


@pytest.mark.parametrize("host", SPELLINGS + SPLIT)
def test_a_host_in_any_other_spelling_is_not_a_url(host: str) -> None:
    """Fault 91: the grammar refuses what resolvers and URL parsers interpret differently."""
    with pytest.raises(NotAllowedError, match=r"^The URL to ask "):
        get(f"https://{host}/")


@loopback
@pytest.mark.parametrize("host", ["db", "localhost", "vault", "kubernetes"])
def test_a_name_without_a_dot_is_never_resolved(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 36."""
    monkeypatch.setattr(socket, "getaddrinfo", lookup := found("93.184.215.14"))
    assert not fails(f"https://{host}/", UNREACHABLE).sent
    assert lookup.names == []  # type: ignore[attr-defined]


@loopback
@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_a_public_address_is_connected_to_as_it_was_checked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 32 and 36: one lookup, of the absolute name, and a connection to what it found."""
    monkeypatch.setattr(socket, "getaddrinfo", lookup := found(address))
    with hostile.recorded_connects() as connects:
        assert not fails("https://as.example:8443/", UNREACHABLE).sent
    assert connects == [(address, 8443)]
    assert lookup.names == ["as.example."]  # type: ignore[attr-defined]


@loopback
def test_a_public_address_in_the_url_is_connected_to() -> None:
    with hostile.recorded_connects() as connects:
        fails("https://93.184.215.14/", UNREACHABLE)
    assert connects == [("93.184.215.14", 443)]


@loopback
def test_tls_and_the_server_get_the_name(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 32: TLS name and Host stay the name; fault 30: an internal origin may be internal."""
    with Server(read, answer(), tls=authority.context("as.example")) as server:
        lookup = found("127.0.0.1", port=server.port)
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        assert post("https://as.example/").body == b"{}"
        assert b"\r\nHost: as.example\r\n" in server.requests[0]
    assert lookup.names == ["as.example"]  # type: ignore[attr-defined]


@loopback
def test_the_certificate_of_another_name_is_refused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28."""
    with Server(read, tls=authority.context("other.example", "127.0.0.1")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.1", port=server.port))
        assert not fails("https://as.example/", TLS_FAILED).sent


@loopback
def test_a_refused_connection_sent_nothing() -> None:
    """Fault 1."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not fails(f"http://127.0.0.1:{port}/", UNREACHABLE).sent


@pytest.fixture
def deaf_port() -> Iterator[int]:
    with hostile.deaf_port() as port:
        yield port


@loopback
def test_dropped_syns_end_at_the_deadline(deaf_port: int, settings: Any) -> None:
    """Fault 2."""
    settings.DCR_TIMEOUT = TIMEOUT
    assert not fails(f"http://127.0.0.1:{deaf_port}/", TIMED_OUT).sent


@loopback
def test_an_address_that_drops_syns_leaves_time_for_the_next(
    deaf_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 2: it may take half of the time, which on a busy machine has to be more."""
    timeouts, bodies = iter(TIMEOUTS), []
    with Server(read, answer()) as server:
        addresses = [*found("127.0.0.1")("", deaf_port), *found("127.0.0.1")("", server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: addresses)
        while not bodies:
            with override_settings(DCR_TIMEOUT=next(timeouts)), contextlib.suppress(NetworkError):
                bodies.append(post(server.url).body)
    assert bodies == [b"{}"]


@loopback
@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "RAW"), UnicodeError("RAW"), OSError("RAW")], ids=repr
)
def test_a_failed_lookup_sent_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 33."""

    def getaddrinfo(*args: Any, **kwargs: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not fails("https://as.example/", UNREACHABLE).sent


@loopback
def test_a_slow_lookup_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Fault 34: getaddrinfo has no timeout."""
    settings.DCR_TIMEOUT = TIMEOUT
    over = threading.Event()

    def getaddrinfo(*args: Any, **kwargs: Any) -> list[Any]:
        if not over.wait(hostile.HANG):  # pragma: no cover - for a client that waits for ever
            hung.append("the lookup")
        return []

    hung: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not fails("https://as.example/", TIMED_OUT).sent
    over.set()
    assert hung == []


@loopback
def test_only_a_few_of_many_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 35."""
    many = [f"93.184.{number // 250}.{number % 250}" for number in range(2000)]
    monkeypatch.setattr(socket, "getaddrinfo", found(*many))
    with hostile.recorded_connects() as connects:
        fails("https://as.example/", UNREACHABLE)
    assert connects == [(address, 443) for address in many[:4]]


@loopback
def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(read, answer()) as server:
        addresses = found("127.0.0.1", "::1", "127.0.0.1")("", server.port)
        addresses[0] = (*addresses[0][:4], ("127.0.0.1", 1))
        addresses[1] = (9999, *addresses[1][1:])  # a family that this machine does not have
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: addresses)
        assert post(server.url).body == b"{}"


# --- the site's policy -------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://as.example/", "http://127.0.0.2/", "http://localhost/"])
def test_plain_http_needs_an_internal_origin(url: str) -> None:
    """Faults 37 and 93."""
    with pytest.raises(NotAllowedError, match=r"Only https .* DCR_INTERNAL_ORIGINS"):
        post(url)


def test_plain_http_is_not_allowed_by_an_https_entry(settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["https://keycloak"]
    with pytest.raises(NotAllowedError, match="Only https"):
        post("http://keycloak/")


@pytest.mark.parametrize("port", [22, 25, 80, 444, 6379, 8080])
def test_an_unusual_port_needs_an_internal_origin(port: int) -> None:
    """Fault 95."""
    with pytest.raises(NotAllowedError, match=f"Port {port} .* DCR_INTERNAL_ORIGINS"):
        post(f"https://as.example:{port}/")


@pytest.mark.parametrize("url", ["ftp://as.example/", "file:///etc/passwd", "as.example", ""])
def test_any_other_scheme_is_not_a_url(url: str) -> None:
    with pytest.raises(NotAllowedError, match=r"^The URL to ask is not a"):
        post(url)


@pytest.mark.parametrize("port", [443, 8443, 9443])
def test_the_usual_ports_need_no_entry(port: int, mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.get(f"https://as.example:{port}/", json={})
    assert get(f"https://as.example:{port}/").body == b"{}"


@loopback
def test_removing_an_origin_from_the_list_closes_its_connection(
    authority: Authority, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(*[read, answer()] * 2, tls=authority.context("as.example")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.1", port=server.port))
        post("https://as.example/")
        settings.DCR_INTERNAL_ORIGINS = []
        fails("https://as.example/", UNREACHABLE)
        assert (server.accepted, len(server.requests)) == (1, 1)


# --- the environment, proxies, logs, stubs -----------------------------------------------------


@loopback
def test_the_environment_is_ignored(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """L22."""
    other = Authority(tmp_path, "other")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(other.file))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with Server(*[read, answer()] * 2, tls=authority.context("127.0.0.1")) as server:
        get(server.url)
        post(server.url)
        assert b"authorization" not in server.requests[0].lower()
        assert TOKEN.encode() in server.requests[1]
    with Server(tls=other.context("127.0.0.1")) as server:
        fails(server.url, TLS_FAILED)
    assert not (tmp_path / "keys").exists()


@loopback
def test_a_proxy_gets_the_url_byte_for_byte(settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://keycloak"]
    with Server(read, answer()) as proxy:
        settings.DCR_PROXY = proxy.url.replace("//", "//user:password@")
        assert get("http://keycloak:8080/a%2fb?c=[]").body == b"{}"

    head = proxy.requests[0]
    assert head.startswith(b"GET http://keycloak:8080/a%2fb?c=[] HTTP/1.1\r\n")
    assert b"\r\nHost: keycloak:8080\r\n" in head
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n" in head


@pytest.mark.parametrize("proxy", ["https://proxy.example", "socks5://proxy.example", "proxy"])
def test_a_proxy_is_reached_over_plain_http_only(proxy: str, settings: Any) -> None:
    settings.DCR_PROXY = proxy
    with pytest.raises(NotAllowedError, match=r"DCR_PROXY must be an http:// URL"):
        post("https://as.example/")


CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"


@loopback
def test_tls_goes_through_a_proxy(authority: Authority, settings: Any) -> None:
    with (
        Server(read, answer(), read, answer(), tls=authority.context("as.example")) as server,
        Server(read, CONNECTED, hostile.tunnel(server.port)) as proxy,
    ):
        settings.DCR_PROXY = proxy.url
        assert [post("https://as.example/").body for _ in range(2)] == [b"{}", b"{}"]

        assert proxy.requests[0].startswith(b"CONNECT as.example:443 HTTP/1.")
        assert TOKEN.encode() not in proxy.requests[0]
        assert (proxy.accepted, len(server.requests)) == (1, 2)


@loopback
@pytest.mark.parametrize(
    ("steps", "match"),
    [
        pytest.param([silence], TIMED_OUT, id="silence"),
        pytest.param([read], UNREACHABLE, id="closed"),
        pytest.param([read, answer(b"", "407 RAW")], UNREACHABLE, id="refused"),
        pytest.param([read, b"RAW\r\n"], UNREACHABLE, id="not HTTP"),
        pytest.param([read, OK, drip(b"", LINE)], TIMED_OUT, id="drip"),
        pytest.param([read, OK, endless(b"RAW: %s\r\n" % (b"x" * 9999))], TOO_LARGE, id="endless"),
        pytest.param([read, pause(0.1), CONNECTED, silence], TIMED_OUT, id="no handshake"),
    ],
)
def test_a_tunnel_that_fails_sent_nothing(
    authority: Authority, settings: Any, steps: list[hostile.Step], match: str
) -> None:
    def check(proxy: Server) -> NetworkError:
        settings.DCR_PROXY = proxy.url
        error = fails("https://as.example/", match)
        assert (error.sent, error.status) == (False, None)
        return error

    breaks(*steps, match=match, check=check)


@loopback
def test_the_handshake_gets_only_the_time_that_a_slow_tunnel_left(
    authority: Authority, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole of DCR_TIMEOUT it would wait until the proxy gives up."""
    clock = Clock(running=True)
    monkeypatch.setattr("django_dcr.transport.exchange.time", clock)
    settings.DCR_TIMEOUT = 2 * hostile.HANG

    def late(proxy: Server, connection: socket.socket) -> None:
        clock.now += settings.DCR_TIMEOUT - TIMEOUT

    with Server(read, late, CONNECTED, silence) as proxy:
        settings.DCR_PROXY = proxy.url
        fails("https://as.example/", TIMED_OUT)


@loopback
def test_a_deadline_holds_through_a_tunnel(authority: Authority, settings: Any) -> None:
    def check(server: Server) -> None:
        with Server(read, CONNECTED, hostile.tunnel(server.port)) as proxy:
            settings.DCR_PROXY = proxy.url
            assert fails("https://as.example/", TIMED_OUT).sent

    drips = [read, OK + b"\r\n", drip(b"", b"{")]
    until_it_stalls(*drips, check=check, tls=authority.context("as.example"))


@loopback
def test_a_test_whose_time_ended_before_its_server_stalled_gets_more() -> None:
    """What was true before does not count."""
    stalled = []

    def check(server: Server) -> None:
        fails(server.url, TIMED_OUT)
        stalled.append(server.stalled.is_set())
        assert len(stalled) != 1

    until_it_stalls(read, pause(2 * TIMEOUT), silence, check=check)
    assert stalled[0] is False
    assert stalled[-1] is True


@loopback
def test_the_log_contains_no_query_headers_or_bodies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A13."""
    with Server(read, answer(b"RAW")) as server, caplog.at_level(logging.DEBUG, "django_dcr"):
        post(f"{server.url}/register?code=hidden")
    with Server(read) as broken, caplog.at_level(logging.DEBUG, "django_dcr"):
        fails(f"{broken.url}/register?code=hidden", BROKEN_OFF)

    done, failed = [
        record.message for record in caplog.records if record.name == "django_dcr.exchanges"
    ]
    assert done.startswith(f"POST {server.url}/register 200 ")
    assert failed.startswith(f"POST {broken.url}/register - ")
    assert done.endswith(" ms")
    for leak in LEAKS[:-1]:
        assert leak not in caplog.text


@loopback
def test_no_raw_head_is_logged_by_the_libraries(caplog: pytest.LogCaptureFixture) -> None:
    """Fault 23: urllib3 would log the lines that it cannot parse."""
    head = answer(b"{}", "200 OK", "RAW no colon")
    with Server(read, head) as server, caplog.at_level(logging.DEBUG):
        fails(server.url, MALFORMED)
    assert "RAW" not in caplog.text


@loopback
def test_an_error_page_shows_no_secret() -> None:
    """A12: Django's report of the error has the variables of every frame."""
    with Server(read) as server, pytest.raises(NetworkError) as caught:
        post(server.url)
    report = ExceptionReporter(None, caught.type, caught.value, caught.tb).get_traceback_html()
    assert "broke off" in report
    for leak in LEAKS[:2]:
        assert leak not in report


def test_the_repr_of_a_reply_shows_only_its_status() -> None:
    assert repr(Reply(200, {"ETag": "RAW"}, b"RAW")) == "Reply(status=200)"


def test_stubs_of_responses_are_read_like_a_servers_responses(
    mocked_responses: responses.RequestsMock,
) -> None:
    mocked_responses.post("https://as.example", json={"a": 1}, status=201, headers={"X-A": "b"})
    reply = post("https://as.example")
    assert (reply.status, reply.body, reply.headers["x-a"]) == (201, b'{"a": 1}', "b")


def test_stubs_get_the_url_unchanged(mocked_responses: responses.RequestsMock) -> None:
    """R-092."""
    mocked_responses.get(url := "https://as.example:443/a%2fb%7e?c=[d]", json={})
    get(url)
    assert mocked_responses.calls[0].request.url == url


@pytest.mark.parametrize(
    "error",
    [requests.ConnectionError("RAW"), requests.Timeout("RAW"), OSError("RAW"), ValueError("RAW")],
    ids=repr,
)
def test_a_stubbed_error_counts_as_sent(
    error: Exception, mocked_responses: responses.RequestsMock
) -> None:
    mocked_responses.post("https://as.example/", body=error)
    assert fails("https://as.example/", BROKEN_OFF).sent


def test_the_limit_holds_for_stubs(settings: Any, mocked_responses: responses.RequestsMock) -> None:
    settings.DCR_MAX_RESPONSE_BYTES = 10
    mocked_responses.post("https://as.example/", body=b"x" * 11)
    assert fails("https://as.example/", TOO_LARGE).status == 200


def test_the_network_libraries_are_imported_when_needed() -> None:
    program = "import sys; from django_dcr import transport; print('requests' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.strip() == b"False"
    with pytest.raises(AttributeError, match="has no attribute 'sent'"):
        transport.sent  # noqa: B018

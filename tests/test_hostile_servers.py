"""Every step of a registration's life against servers that break every rule, socket and all.

What ``http.send()`` makes of such an answer is in ``test_http.py``. Here it is what the row says
afterwards: unknown where nobody can tell, closed where nothing was sent, unchanged where a client
is there already, and in every case with its credentials.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from django.test import override_settings

from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    NetworkError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import discover, read, reconcile, register, revoke, update
from tests import hostile
from tests.factories import (
    GRANTED,
    client_information,
    make_draft,
    make_registration,
    make_server,
    stored,
)
from tests.hostile import Server, Step, answer, drip, endless, pause, reset, silence
from tests.test_protocol_documents import REFUSED

pytestmark = [pytest.mark.network, pytest.mark.django_db]

TIMEOUT = 0.3  # seconds, where the case is that it runs out
PATIENCE = 5.0  # else: a busy machine must not look like a slow server

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: An answer that would do, were it whole.
GOOD = json.dumps(client_information(registration_client_uri=..., client_id="c1")).encode()
BOMB = gzip.compress(bytes(50_000_000))


def last(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    """A well-formed answer of a server that will close the connection, and says so."""
    return answer(body, status, "Connection: close", *fields)


def coded(body: bytes, coding: str, status: str = "200 OK") -> bytes:
    return last(body, status, f"Content-Encoding: {coding}")


class Case(NamedTuple):
    """What a server does with a request, and what has to come of it."""

    steps: list[Step]
    kind: type[DCRError] = NetworkError
    #: The status of a registration afterwards.
    registered: str = "unknown"
    #: The status of a deletion afterwards.
    deleted: str = "revoking"
    timeout: float = PATIENCE


def broken(*steps: Step, **values: Any) -> Case:
    """A request was read, and then this."""
    return Case([hostile.read, *steps], **values)


def slow(*steps: Step) -> Case:
    return Case([*steps], timeout=TIMEOUT)


def refused(*steps: Step, **values: Any) -> Case:
    """The server said no, or at least that it did not do it."""
    return Case([hostile.read, *steps], registered="rejected", deleted="active", **values)


BYTES = {
    "3: accepts, never answers": slow(silence),
    "4: does it, never answers": slow(hostile.read, silence),
    "5: closes before": Case([]),
    "5: closes after": broken(),
    "6: resets before": Case([pause(0.05), reset]),
    "6: resets after": broken(reset),
    "7: resets in the body": broken(
        OK + b"Content-Length: 9999\r\n\r\n" + GOOD, pause(0.05), reset
    ),
    "8: closes in the body": broken(OK + b"Content-Length: 9999\r\n\r\n" + GOOD),
    "9: closes in the head": broken(OK + b"Content-Type: application/json\r\nContent-Le"),
    "10: drips the head": slow(hostile.read, drip(OK + b"A: b\r\n" * 9)),
    "11: drips the body": slow(hostile.read, OK + b"\r\n", drip(b"{" * 99)),
    "12: endless lines": broken(OK, endless(b"A: %s\r\n" % (b"x" * 9999))),
    "12: one endless line": broken(OK, endless(b"A")),
    "13: endless blanks": broken(OK + b"\r\n" + GOOD, endless(b" ")),
    "14: endless chunks": broken(CHUNKED, endless(b"400\r\n%s\r\n" % (b" " * 1024))),
    "15: endless extension": broken(CHUNKED + b"1;", endless(b"e")),
    "15: endless trailer": broken(CHUNKED + b"0\r\n", endless(b"a: %s\r\n" % (b"b" * 999))),
    "16: chunk of no size": broken(CHUNKED + b"x\r\n%s\r\n" % GOOD),
    "16: chunk of 2^64-1": broken(CHUNKED + b"f" * 16 + b"\r\n" + GOOD),
    "16: no last chunk": broken(CHUNKED + b"%x\r\n%s\r\n" % (len(GOOD), GOOD)),
    "17: endless 100": broken(endless(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "18: length negative": broken(OK + b"Content-Length: -1\r\n\r\n" + GOOD),
    "18: length 12abc": broken(OK + b"Content-Length: 12abc\r\n\r\n" + GOOD),
    "18: two lengths": broken(answer(GOOD, "200 OK", "Content-Length: 3")),
    "19: length and chunked": broken(
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "20: a petabyte": broken(OK + b"Content-Length: 1%s\r\n\r\n" % (b"0" * 15) + GOOD),
    "20: 100,000 digits": broken(OK + b"Content-Length: %s\r\n\r\n" % (b"1" * 10**5) + GOOD),
    "21: SSH": Case([b"SSH-2.0-OpenSSH_9.9\r\n", silence]),
    "21: TLS alert": broken(b"\x15\x03\x01\x00\x02\x02\x28"),
    "21: HTTP/0.9": broken(GOOD),
    "22: no number": broken(answer(GOOD, "OK")),
    "22: 999": broken(answer(GOOD, "999")),
    "23: NUL in the head": broken(answer(GOOD, "200 OK", "A: a\0b")),
    "23: no colon": broken(answer(GOOD, "200 OK", "A")),
    "41: elsewhere": refused(last(b"", "307 x", "Location: https://evil.example/")),
    "42: same origin": refused(last(b"", "308 x", "Location: /elsewhere")),
    "43: odd scheme": refused(last(b"", "302 x", "Location: file:///etc/passwd")),
    "44: nowhere": refused(last(b"", "301 x")),
    "45: with a bomb": refused(coded(BOMB, "gzip", "302 x")),
    "45: with an endless body": refused(b"HTTP/1.1 303 x\r\nLocation: /\r\n\r\n", endless(b"x")),
    "46: 300": refused(last(b"", "300 x")),
    "46: 304": refused(b"HTTP/1.1 304 x\r\nConnection: close\r\n\r\n"),
    "46: 305": refused(last(b"", "305 x", "Location: http://127.0.0.1:1/")),
    "50: 429": refused(last(b"", "429 x", "Retry-After: " + "9" * 5000), kind=RequestRejectedError),
    "50: 503": refused(last(b"", "503 x", "Retry-After: -1"), kind=RequestRejectedError),
    "51: 500 and HTML": broken(last(b"<h1>Oops", "500 x"), kind=InvalidResponseError),
    "51: 599": broken(last(b"", "599 x"), kind=InvalidResponseError),
    "52: captive portal": broken(last(b"<h1>Pay", "511 x"), kind=InvalidResponseError),
    "54: bomb": broken(coded(BOMB, "gzip")),
    "54: bomb in a bomb": broken(coded(gzip.compress(BOMB), "gzip, gzip")),
    "54: zlib bomb": broken(coded(zlib.compress(bytes(50_000_000)), "deflate")),
    "54: 100 codings": broken(coded(GOOD, ", ".join(["gzip"] * 100))),
    "55: cut": broken(coded(gzip.compress(GOOD)[:-9], "gzip")),
    "55: wrong CRC": broken(coded(gzip.compress(GOOD)[:-8] + bytes(8), "gzip")),
    "55: not gzip": broken(coded(GOOD, "gzip")),
    "55: unknown": broken(coded(GOOD, "zstd")),
    "139: endless error": refused(b"HTTP/1.1 400 x\r\n\r\n", endless(b'{"error":')),
    "139: bomb of an error": refused(coded(BOMB, "gzip", "400 x")),
    "139: 10 MB of error": refused(last(b"x" * 10_000_000, "400 x")),
}
#: Bodies that are no JSON object.
PAGES = {
    name: broken(last(body), kind=InvalidResponseError)
    for name, body in {**REFUSED, "39: login page": b"<h1>Sign in"}.items()
}
#: What must not be taken for the document, where one has to come; a deletion needs none.
DOCUMENTS = {
    **PAGES,
    "40: 206": broken(last(GOOD, "206 x"), kind=InvalidResponseError),
    "40: 226": broken(last(GOOD, "226 x"), kind=InvalidResponseError),
    "58: wrapped": broken(last(b'{"data": %s}' % GOOD), kind=InvalidResponseError),
}


@contextlib.contextmanager
def bounded(timeout: float) -> Iterator[None]:
    """Check that the block takes a second more than ``timeout`` at most."""
    started = time.monotonic()
    with override_settings(DCR_TIMEOUT=timeout):
        yield
    assert time.monotonic() - started < timeout + 1


def fails(case: Case, service: Callable[..., Any], row: Any) -> DCRError:
    with bounded(case.timeout), pytest.raises(DCRError) as caught:
        service(row)
    error = caught.value
    assert type(error) is case.kind
    assert 0 < len(str(error)) <= 500
    assert str(error).isprintable()
    return error


def at(server: Server, **values: Any) -> AuthorizationServer:
    """The row of a server on a loopback socket."""
    metadata = {"issuer": server.url, "registration_endpoint": f"{server.url}/register"}
    return make_server(**{"issuer": server.url, "metadata": metadata, **values})


def client_at(server: Server) -> ClientRegistration:
    return make_registration(server=at(server), registration_client_uri=f"{server.url}/register/c1")


def credentials(row: ClientRegistration) -> tuple[str, ...]:
    row = stored(row)
    secrets = row.client_secret.reveal(), row.registration_access_token.reveal()
    return (*secrets, row.client_id, row.registration_client_uri)


@pytest.fixture(autouse=True)
def _loopback_is_internal(settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]


def each(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


# --- each step -----------------------------------------------------------------------------------


def discovering(server: Server, case: Case) -> None:
    row = AuthorizationServer.objects.for_issuer(server.url)
    error = fails(case, discover, row)
    row.refresh_from_db()
    assert (row.metadata, row.is_fresh) == ({}, False)
    assert row.last_error == str(error)


def registering(server: Server, case: Case) -> None:
    draft = make_draft(server=at(server))
    error = fails(case, register, draft)
    row = stored(draft)
    assert (row.status, row.last_error, row.lease) == (case.registered, str(error), "")
    assert (row.client_id, row.client_secret, row.registration_access_token) == ("", None, None)
    assert reconcile() == ([row] if case.registered == "unknown" else [])
    assert server.accepted == 1  # no second POST, not even then


def keeps_its_client(server: Server, case: Case, service: Callable[..., Any], status: str) -> None:
    row = client_at(server)
    before = credentials(row)
    error = fails(case, service, row)
    assert credentials(row) == before
    row = stored(row)
    assert (row.status, row.live, row.lease) == (status, True, "")
    assert (row.metadata, row.last_error) == (GRANTED, str(error))


def after_a_read(steps: list[Step]) -> Step:
    """Answer the read that comes before an update, and play the steps to the update itself."""

    def play(server: Server, connection: socket.socket) -> None:
        rest = [hostile.read, answer(GOOD, "200 OK", "Connection: close")]
        for step in steps if server.accepted > 1 else rest:
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                step(server, connection)

    return play


@each(BYTES)
def test_a_discovery_without_a_usable_answer_stores_nothing(case: Case) -> None:
    """Faults 3 to 23, 41 to 46, 50 to 52, 54, 55 and 139, step D."""
    with Server(*case.steps) as server:
        discovering(server, case)


@each(PAGES)
def test_a_page_for_people_is_no_metadata(case: Case) -> None:
    """Faults 39 and 58 to 65, step D: single-page applications answer any path with one."""
    with Server(*case.steps) as server:
        discovering(server, case._replace(kind=UnsupportedError))


@each({**BYTES, **DOCUMENTS})
def test_a_registration_without_a_usable_answer_is_unknown_and_not_sent_again(case: Case) -> None:
    """Faults 3 to 23, 39 to 46, 50 to 52, 54, 55, 58 to 65 and 139, step R."""
    with Server(*case.steps) as server:
        registering(server, case)


@each({**BYTES, **DOCUMENTS})
def test_a_read_without_a_usable_answer_changes_nothing(case: Case) -> None:
    """Faults 3 to 23, 39 to 46, 50 to 52, 54, 55, 58 to 65 and 139, step G."""
    with Server(*case.steps) as server:
        keeps_its_client(server, case, read, "active")


@each({**BYTES, **DOCUMENTS})
def test_an_update_without_a_usable_answer_changes_nothing(case: Case) -> None:
    """The same faults, step P: the result is unknown, and the next read settles it."""
    with Server(after_a_read(case.steps)) as server:
        keeps_its_client(server, case, update, "active")


@each(BYTES)
def test_a_deletion_without_a_usable_answer_is_still_under_way(case: Case) -> None:
    """The same faults, step X: or it was refused, and the client is as it was."""
    with Server(*case.steps) as server:
        keeps_its_client(server, case, revoke, case.deleted)

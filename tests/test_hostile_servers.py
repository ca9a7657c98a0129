"""Every step of a registration's life against servers that break every rule, socket and all.

What ``transport.send()`` makes of such an answer is in ``test_transport.py``. Here it is what the
row says afterwards: unknown where nobody can tell, closed where nothing was sent, unchanged where
a client is there already, and in every case with its credentials.

Every step sends through the same ``send()``. So a registration, whose outcome depends on it most,
meets every broken answer, and the other steps one of each kind; with CASES=all they meet every
answer, and every body that is not a JSON object.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings

from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import (
    discover,
    get_or_register,
    read,
    reconcile,
    register,
    retry,
    revoke,
    update,
)
from tests import hostile
from tests.cases import ALL, all_or
from tests.factories import (
    GRANTED,
    ISSUER,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    make_server,
    stored,
)
from tests.hostile import (
    BOMB,
    PATIENCE,
    TIMEOUTS,
    Server,
    Step,
    answer,
    delivered,
    drip,
    endless,
    first_byte,
    found,
    reset,
    silence,
    until_it_stalls,
)
from tests.test_protocol_json import REFUSED

pytestmark = [pytest.mark.network, pytest.mark.django_db]

TIMEOUT = TIMEOUTS[0]  # where whatever happens in it ends the same

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
#: An answer that would do, were it whole.
GOOD = json.dumps(client_information(registration_client_uri=..., client_id="c1")).encode()


def last(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    """A well-formed answer of a server that will close the connection, and says so."""
    return answer(body, status, "Connection: close", *fields)


def coded(body: bytes, coding: str, status: str = "200 OK") -> bytes:
    return last(body, status, f"Content-Encoding: {coding}")


class Case(NamedTuple):
    """What a server does with a request, and the expected outcome."""

    steps: list[Step]
    kind: type[DCRError] = NetworkError
    #: The status of a registration afterwards.
    registered: str = "unknown"
    #: The status of a deletion afterwards.
    deleted: str = "revoking"
    #: Whether the server stalls, so that DCR_TIMEOUT runs out.
    stalls: bool = False


def broken(*steps: Step, **values: Any) -> Case:
    """A request was read, and then this."""
    return Case([hostile.read, *steps], **values)


def slow(*steps: Step) -> Case:
    return Case([*steps], stalls=True)


def refused(*steps: Step, **values: Any) -> Case:
    """The server said no."""
    return Case([hostile.read, *steps], registered="rejected", deleted="active", **values)


BYTES = {
    "3: accepts, never answers": slow(silence),
    "4: does it, never answers": slow(hostile.read, silence),
    "5: closes before": Case([]),
    "5: closes after": broken(),
    "6: resets before": Case([first_byte, reset]),
    "6: resets after": broken(reset),
    "7: resets in the body": broken(OK + b"Content-Length: 9999\r\n\r\n" + GOOD, delivered, reset),
    "8: closes in the body": broken(OK + b"Content-Length: 9999\r\n\r\n" + GOOD),
    "9: closes in the head": broken(OK + b"Content-Type: application/json\r\nContent-Le"),
    "10: drips the head": slow(hostile.read, OK, drip(b"", b"A: %s\r\n" % (b"b" * 400))),
    "11: drips the body": slow(hostile.read, OK + b"\r\n", drip(b"", b"{")),
    "12: endless lines": broken(OK, endless(b"A: %s\r\n" % (b"x" * 9999))),
    "12: one endless line": broken(OK, endless(b"A")),
    "13: endless spaces": broken(OK + b"\r\n" + GOOD, endless(b" ")),
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
    "41: elsewhere": broken(last(b"", "307 x", "Location: https://evil.example/")),
    "42: same origin": broken(last(b"", "308 x", "Location: /elsewhere")),
    "43: odd scheme": broken(last(b"", "302 x", "Location: file:///etc/passwd")),
    "44: nowhere": broken(last(b"", "301 x")),
    "45: with a bomb": broken(coded(BOMB, "gzip", "302 x")),
    "45: with an endless body": broken(b"HTTP/1.1 303 x\r\nLocation: /\r\n\r\n", endless(b"x")),
    "46: 300": broken(last(b"", "300 x")),
    "46: 304": broken(b"HTTP/1.1 304 x\r\nConnection: close\r\n\r\n"),
    "46: 305": broken(last(b"", "305 x", "Location: http://127.0.0.1:1/")),
    "50: 429": refused(last(b"", "429 x", "Retry-After: " + "9" * 5000), kind=RequestRejectedError),
    "50: 503": broken(last(b"", "503 x", "Retry-After: -1"), kind=RequestRejectedError),
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
#: Bodies that are not JSON objects.
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


#: One response of each kind, the message of transport, and what a service does with it.
KINDS = all_or(
    BYTES,
    "4: does it, never answers",
    "5: closes after",
    "8: closes in the body",
    "11: drips the body",
    "12: endless lines",
    "13: endless spaces",
    "16: chunk of no size",
    "18: length negative",
    "21: SSH",
    "41: elsewhere",
    "50: 429",
    "51: 500 and HTML",
    "54: bomb",
    "55: wrong CRC",
    "139: bomb of an error",
)
#: Bodies that are not strict JSON are in test_protocol_json.py; here is one body of each kind.
KINDS_OF_PAGES = all_or(
    PAGES,
    "39: login page",
    "58-array",
    "60-utf-16",
    "62-twice",
    "64-5000-digits",
    "65-100000-lists",
)
KINDS_OF_DOCUMENTS = all_or(DOCUMENTS, "39: login page", "40: 206", "58: wrapped")


def fails(case: Case, service: Callable[..., Any], row: Any) -> DCRError:
    with pytest.raises(DCRError) as caught:
        service(row)
    error = caught.value
    assert type(error) is case.kind
    assert 0 < len(str(error)) <= 500
    assert str(error).isprintable()
    return error


def play(case: Case, check: Callable[[Server], None], *steps: Step) -> Server:
    """Let ``check`` meet a server that plays the case's steps, or ``steps``; return the server."""
    servers: list[Server] = []

    def meet(server: Server) -> None:
        ClientRegistration.objects.all().delete()  # of an attempt that did not count
        AuthorizationServer.objects.all().delete()
        servers.append(server)
        check(server)

    if case.stalls:
        until_it_stalls(*(steps or case.steps), check=meet)
    else:
        with Server(*(steps or case.steps)) as server:
            meet(server)
    return servers[-1]


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
    settings.DCR_TIMEOUT = PATIENCE


def each(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


# --- each step -----------------------------------------------------------------------------------


def discovering(case: Case, server: Server) -> None:
    row = AuthorizationServer.objects.for_issuer(server.url)
    error = fails(case, discover, row)
    row.refresh_from_db()
    assert (row.metadata, row.is_fresh) == ({}, False)
    assert row.last_error == str(error)


def registering(case: Case, server: Server) -> None:
    draft = make_draft(server=at(server))
    error = fails(case, register, draft)
    row = stored(draft)
    assert (row.status, row.last_error, row.lease) == (case.registered, str(error), "")
    assert (row.client_id, row.client_secret, row.registration_access_token) == ("", None, None)
    assert reconcile() == ([row] if case.registered == "unknown" else [])


def keeps_its_client(case: Case, service: Callable[..., Any], status: str, server: Server) -> None:
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


@each(KINDS)
def test_a_discovery_without_a_usable_response_stores_nothing(case: Case) -> None:
    """Faults 3 to 23, 41 to 46, 50 to 52, 54, 55 and 139, step D."""
    play(case, partial(discovering, case))


@each(KINDS_OF_PAGES)
def test_an_html_page_is_not_metadata(case: Case) -> None:
    """Faults 39 and 58 to 65, step D: single-page applications answer any path with one."""
    page = case._replace(kind=UnsupportedError)
    play(page, partial(discovering, page))


@each({**BYTES, **KINDS_OF_PAGES, **KINDS_OF_DOCUMENTS})
def test_a_registration_without_a_usable_response_is_unknown_and_not_retried(case: Case) -> None:
    """Faults 3 to 23, 39 to 46, 50 to 52, 54, 55, 58 to 65 and 139, step R."""
    server = play(case, partial(registering, case))
    assert server.accepted == 1  # no second POST, not even where ``reconcile`` looks after it


@each({**KINDS, **KINDS_OF_DOCUMENTS})
def test_a_read_without_a_usable_response_changes_nothing(case: Case) -> None:
    """Faults 3 to 23, 39 to 46, 50 to 52, 54, 55, 58 to 65 and 139, step G."""
    play(case, partial(keeps_its_client, case, read, "active"))


@each({**KINDS, **KINDS_OF_DOCUMENTS})
def test_an_update_without_a_usable_response_changes_nothing(case: Case) -> None:
    """The same faults, step P: the result is unknown until the next read."""
    check = partial(keeps_its_client, case, update, "active")
    play(case, check, after_a_read(case.steps))


@each(KINDS)
def test_a_deletion_without_a_usable_response_is_still_pending(case: Case) -> None:
    """The same faults, step X: or it was rejected, and the client is unchanged."""
    play(case, partial(keeps_its_client, case, revoke, case.deleted))


# --- bounds -------------------------------------------------------------------------------------


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_no_case_takes_more_memory_or_leaves_a_file_open() -> None:
    """Promise 5: 16 MB at most for each, and as many descriptors afterwards as before."""
    before = open_files()
    for case in {**KINDS, **KINDS_OF_DOCUMENTS}.values():
        play(case, partial(in_16_mb, case))
    assert open_files() <= before


def in_16_mb(case: Case, server: Server) -> None:
    draft = make_draft(server=at(server))
    tracemalloc.start()
    fails(case, register, draft)
    grown = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grown < 16_000_000


# --- names and addresses ------------------------------------------------------------------------


def resolver_that(error: Exception) -> hostile.Lookup:
    def getaddrinfo(*args: Any, **kwargs: Any) -> list[Any]:
        raise error

    return getaddrinfo


def silent_resolver(*args: Any, **kwargs: Any) -> list[Any]:
    time.sleep(3 * TIMEOUT)  # the caller has no time left for this response
    return []


PUBLIC = "93.184.215.14"
UNREACHABLE = {
    "30: private": (found("10.0.0.1"), 0),
    "30: loopback": (found("127.0.0.1"), 0),
    "30: metadata service": (found("169.254.169.254"), 0),
    "30: mapped": (found("::ffff:127.0.0.1"), 0),
    "31: public and private": (found(PUBLIC, "10.0.0.1"), 0),
    "33: no such name": (resolver_that(socket.gaierror(-2, "RAW")), 0),
    "33: no address": (found(), 0),
    "34: silent": (silent_resolver, 0),
    "35: 2,000 that refuse": (found(*[PUBLIC] * 2000), 4),
}


#: A registration meets every failure, and the other steps one that is found out before and after
#: the resolver has answered.
NEVER_SENT = [
    pytest.param(service, *UNREACHABLE[name], id=f"{service.__name__}-{name}")
    for service in (discover, register, read, update, revoke)
    for name in UNREACHABLE
    if ALL or service is register or name in ("30: private", "33: no such name")
]


@pytest.mark.parametrize(("service", "lookup", "connects"), NEVER_SENT)
def test_a_request_that_was_not_sent_changes_nothing(
    service: Callable[..., Any],
    lookup: hostile.Lookup,
    connects: int,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    """Faults 30 to 35, every step: and a message that does not distinguish them."""
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    if slow := lookup is silent_resolver:
        settings.DCR_TIMEOUT = TIMEOUT
    row = {discover: make_server, register: make_draft}.get(service, make_registration)()
    before = type(row).objects.filter(pk=row.pk).values().get()
    ask = partial(discover, refresh=True) if service is discover else service
    with hostile.recorded_connects() as connected:
        error = fails(Case([]), ask, row)
    assert isinstance(error, NetworkError)
    assert not error.sent
    assert ("DCR_TIMEOUT" if slow else "cannot be reached") in str(error)
    assert connected == [(PUBLIC, 443)] * connects
    after = type(row).objects.filter(pk=row.pk).values().get()
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"last_error", "updated_at", "failure", "retry_at"}


@pytest.mark.parametrize("service", [register, read])
def test_a_name_is_resolved_once(
    service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 32: public at the check, loopback at a second lookup, which does not happen."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    names: list[str] = []

    def getaddrinfo(host: str, port: int, **kwargs: Any) -> list[Any]:
        names.append(host)
        return found(*next(answers))(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with hostile.recorded_connects() as connected:
        fails(Case([]), service, make_draft() if service is register else make_registration())
    assert (names, connected) == (["as.example."], [(PUBLIC, 443)])


@pytest.mark.parametrize("host", ["db", "localhost", "vault"])
def test_an_issuer_without_a_dot_is_not_resolved(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 36, step D: nor is any name completed by search domains (fault 32's final dot)."""
    monkeypatch.setattr(socket, "getaddrinfo", lookup := found(PUBLIC))
    fails(Case([]), discover, AuthorizationServer.objects.for_issuer(f"https://{host}"))
    assert lookup.names == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("service", [discover, register, read, update, revoke])
def test_a_refused_or_dropped_connection_changes_nothing(
    service: Callable[..., Any],
) -> None:
    """Faults 1 and 2, every step."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    with hostile.deaf_port() as swallowing:
        for port, timeout in ((refusing, PATIENCE), (swallowing, TIMEOUT)):
            url = f"http://127.0.0.1:{port}"
            server = make_server(
                issuer=url, metadata={"issuer": url, "registration_endpoint": f"{url}/register"}
            )
            row: Any = server
            if service is not discover:
                make = make_draft if service is register else make_registration
                row = make(server=server, registration_client_uri=f"{url}/register/c1")
            status = getattr(row, "status", None)
            ask = partial(discover, refresh=True) if service is discover else service
            with override_settings(DCR_TIMEOUT=timeout):
                error = fails(Case([]), ask, row)
            assert isinstance(error, NetworkError)
            assert not error.sent
            row.refresh_from_db()
            assert getattr(row, "status", None) == status


# --- answers that come when none is due, and those that do not come ----------------------------


def test_a_forged_response_is_not_used_for_the_next_request() -> None:
    """Fault 24: sent on the open connection, right after the true response."""
    honest = answer(GOOD)
    forged = answer(GOOD.replace(b"s1", b"forged"))
    with Server(*[hostile.read, honest + forged] * 2) as server:
        row = register(make_draft(server=at(server)))
        row.registration_client_uri = f"{server.url}/register/c1"
        row.save()
        read(row)
        assert credentials(row)[:2] == ("s1", "t1")
        assert len(server.requests) == 2


@pytest.mark.parametrize("etag", ["\xa0x", "x" * 60_000], ids=["space of Latin-1", "60 kB"])
def test_an_etag_that_cannot_be_sent_does_not_prevent_later_requests(etag: str) -> None:
    """Faults 23 and 80: the document is requested again without it."""
    with Server() as server:
        document = json.dumps({"issuer": server.url, "registration_endpoint": server.url}).encode()
        server.steps = (hostile.read, last(document, "200 OK", f"ETag: {etag}"))
        row = discover(AuthorizationServer.objects.for_issuer(server.url))
        assert discover(row, refresh=True).has_metadata
        assert len(server.requests) == 2


def test_a_server_that_is_busy_twice_gets_one_client_and_one_post_per_call() -> None:
    """Fault 142: nothing is retried automatically, and a later call may register."""

    def busy_twice(server: Server, connection: socket.socket) -> None:
        hostile.read(server, connection)
        busy = len(server.requests) < 3
        connection.sendall(last(b"", "429 x", "Retry-After: 1") if busy else last(GOOD))

    with Server(busy_twice) as server:
        draft = make_draft(server=at(server))
        for count in (1, 2):
            fails(Case([], kind=RequestRejectedError), register, draft)
            assert (stored(draft).status, len(server.requests)) == ("rejected", count)
        assert register(draft).status == "active"
        assert len(server.requests) == 3
        assert ClientRegistration.objects.count() == 1


def test_a_lost_response_ends_in_one_live_client_and_a_record_of_the_other() -> None:
    """Fault 143: and only after a person's decision."""
    with Server(lambda server, connection: hostile.read(server, connection)) as server:
        lost = make_draft(server=at(server))
        fails(Case([]), register, lost)
        with pytest.raises(DCRError, match="decide with"):
            register(lost)
        assert len(server.requests) == 1
        server.steps = (hostile.read, last(GOOD))
        fresh = retry(lost)
        assert [stored(row).status for row in (lost, fresh)] == ["unknown", "active"]
        assert [stored(row).live for row in (lost, fresh)] == [None, True]
        assert len(server.requests) == 2


def test_the_refusal_of_a_second_deletion_means_that_it_was_done() -> None:
    """Fault 143."""
    with Server(hostile.read) as server:
        row = client_at(server)
        fails(Case([]), revoke, row)
        assert stored(row).status == "revoking"
        server.steps = (hostile.read, last(b"", "401 x"))
        assert revoke(row).status == "revoked"


def test_a_site_that_is_its_own_issuer_waits_for_itself_until_the_deadline(settings: Any) -> None:
    """Fault 94: allowed, for a site may be a server too. Its only worker is busy with asking."""
    settings.DCR_TIMEOUT = TIMEOUT
    with socket.create_server(("127.0.0.1", 0)) as busy:
        server = AuthorizationServer.objects.for_issuer(f"http://127.0.0.1:{busy.getsockname()[1]}")
        assert "DCR_TIMEOUT" in str(fails(Case([]), discover, server))


# --- what people see ----------------------------------------------------------------------------

WORDS = "<script>alert(1)</script>\x1b[2J\u202e%s{0.__class__}\r\nforged"


def test_a_document_cannot_attack_pages_terminals_or_logs(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Faults 97, 140 and 141."""
    caplog.set_level("DEBUG")
    with Server() as server:
        document = {
            "issuer": server.url,
            "registration_endpoint": f"{server.url}/register",
            "scopes_supported": [WORDS],
            "service_documentation": WORDS,
            "op_policy_uri": "javascript:alert(1)",
            WORDS: {WORDS: [WORDS]},
        }
        server.steps = (hostile.read, last(json.dumps(document).encode()))
        call_command("dcr_discover", server.url)
    printed = "".join(capsys.readouterr())
    assert "forged" in printed
    assert all(line.isprintable() for line in printed.splitlines())
    assert not any(line.startswith("forged") for line in printed.splitlines())
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    pk = AuthorizationServer.objects.get().pk
    page = staff.get(f"/admin/django_dcr/authorizationserver/{pk}/change/").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "\x1b" not in page + caplog.text
    assert "\u202e" not in page + caplog.text
    assert 'href="javascript' not in page


# --- what a tenant supplies ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wish",
    [
        {"logo_uri": "javascript:alert(1)"},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": ["http://evil.example/"]},
        {"client_name": "a\0b"},
        {"client_name": "a\ud800"},
        {"client_secret": "mine"},
        {"registration_access_token": "mine"},
        {"x": float("nan")},
        {"": 1},
    ],
    ids=repr,
)
def test_a_tenants_metadata_is_checked_before_anything_is_stored_or_sent(wish: Any) -> None:
    """Fault A14: no connection is attempted, and no row is created."""
    with hostile.recorded_connects() as connected, pytest.raises(NotAllowedError):
        get_or_register(ISSUER, "tenant", metadata={**WISHES, **wish})
    assert connected == []
    assert not ClientRegistration.objects.exists()


def test_an_issuer_that_the_site_does_not_list_is_refused_before_anything_is_stored(
    settings: Any,
) -> None:
    """Fault A14."""
    settings.DCR_ALLOWED_ISSUERS = ["https://as.example"]
    with hostile.recorded_connects() as connected, pytest.raises(NotAllowedError):
        get_or_register(ISSUER, "tenant", metadata=WISHES)
    assert connected == []
    assert not AuthorizationServer.objects.exists()

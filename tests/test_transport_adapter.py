"""Sessions of other libraries, which send through this app's transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from django_dcr import transport
from tests.clocks import Clock
from tests.hostile import (
    HANG,
    PATIENCE,
    Server,
    answer,
    found,
    read,
    recorded_connects,
    silence,
    until_it_stalls,
)

pytestmark = pytest.mark.network

JSON = ["Content-Type: application/json; charset=utf-8", "Set-Cookie: a=b"]


@pytest.fixture(autouse=True)
def _loopback_is_internal(settings: Any) -> None:
    settings.DCR_TIMEOUT = PATIENCE
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]


@pytest.fixture(autouse=True)
def _no_connection_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_dcr.transport.connections.time", Clock())


@pytest.fixture
def session() -> requests.Session:
    return transport.harden_session(requests.Session(), "https://as.example")


def test_a_form_is_sent_unchanged(session: requests.Session) -> None:
    with Server(read, answer(b'{"access_token": "\xc3\xa4"}', "200 OK", *JSON)) as server:
        reply = session.post(
            f"{server.url}/token", data={"code": "c d"}, headers={"Authorization": b"Basic YTpi"}
        )
    head, body = server.requests[0].split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /token HTTP/1.1"
    assert b"Authorization: Basic YTpi" in lines
    assert b"Content-Type: application/x-www-form-urlencoded" in lines
    assert b"Accept-Encoding: identity" in lines
    assert any(line.startswith(b"User-Agent: django-dcr/") for line in lines)
    assert body == b"code=c+d"
    assert (reply.status_code, reply.json()) == (200, {"access_token": "ä"})
    assert reply.url == f"{server.url}/token"
    assert not session.cookies


def test_bytes_and_empty_bodies_are_sent(session: requests.Session) -> None:
    with Server(read, answer(b"[]"), read, answer(b"[]")) as server:
        session.post(server.url, data=b"raw")
        session.get(server.url)
    assert server.requests[0].endswith(b"\r\n\r\nraw")
    assert server.requests[1].startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(session: requests.Session, status: int) -> None:
    """RFC 9700 section 4.12: a 307 would send the secret to somebody else."""
    moved = b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
    with Server(read, moved) as server:
        reply = session.post(f"{server.url}/token", data={"client_secret": "s"})
    assert len(server.requests) == 1
    assert reply.status_code == status
    assert reply.content == b""


def test_nothing_is_sent_to_a_name_with_a_forbidden_address(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", found("10.0.0.1"))
    with recorded_connects() as connects, pytest.raises(requests.ConnectionError) as caught:
        session.get("https://as.example/userinfo")
    assert connects == []
    assert "DCR_INTERNAL_ORIGINS" in str(caught.value)
    assert caught.value.request is None  # which contains the secret


def test_the_deadline_is_dcr_timeout(session: requests.Session) -> None:
    """With the caller's timeout it would wait until the server gives up."""

    def check(server: Server) -> None:
        with pytest.raises(requests.ConnectionError, match="DCR_TIMEOUT"):
            session.get(server.url, timeout=2 * HANG)

    until_it_stalls(read, silence, check=check)


def test_netrc_does_not_replace_the_authorization(
    session: requests.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login root password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Server(read, answer(b"{}")) as server:
        session.get(server.url, headers={"Authorization": "Bearer t"})
    assert b"Authorization: Bearer t" in server.requests[0]


def test_closing_a_session_leaves_the_threads_connection(session: requests.Session) -> None:
    with Server(read, answer(b"{}"), read, answer(b"{}")) as server:
        session.get(server.url)
        session.close()
        transport.harden_session(requests.Session(), "https://as.example").get(server.url)
    assert server.accepted == 1

"""Every error has a next step, and a true one."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from responses import RequestsMock

from django_dcr import uris
from django_dcr.exceptions import DCRError, NetworkError
from django_dcr.services import discover, for_login, get_or_register
from django_dcr.transport import exchange, send
from tests.factories import (
    APPENDED_OPENID,
    ISSUER,
    WELL_KNOWN,
    WELL_KNOWN_OPENID,
    WISHES,
    make_server,
)

if TYPE_CHECKING:
    from pytest_django import Settings


@pytest.fixture
def closed_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def refused(url: str) -> str:
    with pytest.raises(NetworkError) as caught:
        send("GET", url)
    assert caught.value.sent is False
    return str(caught.value)


@pytest.mark.network
def test_a_listed_origin_is_not_told_to_be_listed(settings: Settings, closed_port: int) -> None:
    origin = f"http://127.0.0.1:{closed_port}"
    settings.DCR_INTERNAL_ORIGINS = [origin]
    said = refused(origin)
    assert "although DCR_INTERNAL_ORIGINS lists it: check that it runs" in said
    assert "must be listed" not in said


@pytest.mark.network
def test_a_proxy_that_does_not_run_is_named(settings: Settings, closed_port: int) -> None:
    settings.DCR_PROXY = f"http://127.0.0.1:{closed_port}"
    assert "The proxy of DCR_PROXY, or the server behind it" in refused("https://as.example")


def test_a_timeout_says_after_how_long(settings: Settings) -> None:
    settings.DCR_TIMEOUT = 2.5
    late = exchange.Exchange(uris.parse(ISSUER), internal=False, deadline=time.monotonic())
    assert "within DCR_TIMEOUT (2.5 s). If that repeats, ask its" in late.reason(TimeoutError())


def test_no_text_of_the_transport_leaves_one_alone() -> None:
    steps = ("check ", "ask ", "Ask ", "Report this", "Store ", "Correct ", "are named in")
    for name, text in vars(exchange).items():
        if name.isupper() and isinstance(text, str):
            assert any(step in text for step in steps), name


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statuses", "advice"),
    [
        ((404, 404, 404), "Check that the issuer is spelt as the server does."),
        (
            (500, 500, 500),
            "The server has an internal error: try again later, or ask its operator.",
        ),
        (
            (404, 404, 503),
            "The server has an internal error: try again later, or ask its operator.",
        ),
        ((302, 302, 302), "It redirects to another origin: ask its operator for the issuer"),
        ((403, 404, 404), "It does not let this site read its metadata: ask its operator."),
        ((429, 429, 429), "It was sent too many requests: try again later."),
        ((400, 404, 404), "Check that the issuer is spelt as the server does."),
    ],
    ids=str,
)
def test_where_no_document_is_the_answers_say_what_to_do(
    mocked_responses: RequestsMock, statuses: tuple[int, ...], advice: str
) -> None:
    places = (WELL_KNOWN, WELL_KNOWN_OPENID, APPENDED_OPENID)
    for place, status in zip(places, statuses, strict=True):
        mocked_responses.get(place, status=status)
    with pytest.raises(DCRError) as caught:
        discover(make_server(metadata={}))
    assert str(caught.value).startswith(f"No metadata was found. {advice}")
    assert ("spelt" in str(caught.value)) == ("spelt" in advice)


@pytest.mark.django_db
def test_a_server_without_metadata_is_used_as_the_error_says(
    mocked_responses: RequestsMock, tmp_path: Path
) -> None:
    for place in (WELL_KNOWN, WELL_KNOWN_OPENID, APPENDED_OPENID):
        mocked_responses.get(place, status=404)
    with pytest.raises(DCRError, match="dcr_server --metadata, then dcr_adopt") as caught:
        get_or_register(ISSUER, metadata=WISHES)
    assert APPENDED_OPENID in str(caught.value)

    document, secret = tmp_path / "document.json", tmp_path / "secret.txt"
    endpoints = {
        "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token",
    }
    document.write_text(json.dumps({"issuer": ISSUER, **endpoints}))
    secret.write_text("s1")
    call_command("dcr_server", ISSUER, "--metadata", str(document))
    call_command("dcr_adopt", ISSUER, "--client-id", "c1", "--client-secret-file", str(secret))
    assert for_login(ISSUER).client_id == "c1"
    assert len(mocked_responses.calls) == 3

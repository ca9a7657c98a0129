"""What no library below expects, in the middle of an exchange, and what a page shows of it then.

A signal handler raises it, as Celery's soft time limit does, while a server on loopback keeps
this side waiting at one step or another.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from django_dcr import transport
from django_dcr.protocol import (
    client_authentication,
    client_information,
    encode,
    parse_object,
)
from django_dcr.protocol.errors import rejection
from django_dcr.text import SensitiveBytes, SensitiveText
from django_dcr.transport import Reply
from tests import hostile
from tests.hostile import Authority, Server, answer, deaf_port, read, silence
from tests.interruptions import TimeLimitExceeded, interrupted, shown

pytestmark = pytest.mark.network

ISSUER = "https://as.example"
# Not written out at once: pages show the lines of the source, too.
TOKEN, SECRET, ISSUED, CODE = (f"{word}-{7 * 11 * 13}" for word in ("rat", "own", "new", "code"))


@pytest.fixture(autouse=True)
def _loopback_is_internal(settings: Any) -> None:
    settings.DCR_TIMEOUT = 10
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1", "https://127.0.0.1"]


def has_credentials(text: str) -> list[str]:
    _headers, basic = client_authentication("c1", SECRET, "client_secret_basic")[0].popitem()
    return [each for each in (TOKEN, SECRET, ISSUED, CODE, basic[6:]) if each in text]


def put(url: str, size: int = 1000) -> Callable[[], object]:
    body = SensitiveBytes(f'{{"client_secret": "{SECRET}"}}'.encode() * (size // 25))
    token = SensitiveText(TOKEN)
    return partial(transport.send, "PUT", url, token=token, body=body)


HALF = answer(f'{{"client_secret": "{ISSUED}"}}'.encode().ljust(90_000))[:60_000]
STEPS = {
    "sending": [hostile.deaf],
    "reading the head": [read, silence],
    "within the head": [read, f"HTTP/1.1 200 OK\r\nX-Echo: {TOKEN}\r\n".encode(), silence],
    "reading the body": [read, HALF, silence],
}
#: A request that fills every buffer between here and a server that does not read.
LARGE = 4_000_000


@pytest.mark.parametrize("kind", [TimeLimitExceeded, KeyboardInterrupt, MemoryError, SystemExit])
@pytest.mark.parametrize("step", STEPS)
def test_an_exception_during_an_exchange_contains_no_credentials(
    step: str, kind: type[BaseException]
) -> None:
    with Server(*STEPS[step]) as server:
        call = put(server.url, LARGE if step == "sending" else 1000)
        with pytest.raises(kind) as caught, interrupted(kind):
            call()
    page = shown(caught.value)
    assert has_credentials(page) == []
    # Where it happened is still to be seen.
    assert "http/client.py" in page
    assert "in handler" in page


def test_an_exception_while_connecting_contains_no_credentials() -> None:
    with deaf_port() as port:
        call = put(f"http://127.0.0.1:{port}")
        with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
            call()
    assert has_credentials(shown(caught.value)) == []


def test_an_exception_while_resolving_contains_no_credentials(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DCR_INTERNAL_ORIGINS = []
    # The exception ends the sleep, so that nothing is found.
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_options: hostile.time.sleep(60))
    call = put("https://as.example/")
    with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
        call()
    assert has_credentials(shown(caught.value)) == []


@pytest.mark.parametrize("steps", [[silence], [read, silence]], ids=["handshake", "reading"])
def test_an_exception_under_tls_contains_no_credentials(
    steps: list[hostile.Step], settings: Any, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    settings.DCR_CA_BUNDLE = str(authority.file)
    tls = None if steps == [silence] else authority.context("127.0.0.1")
    with Server(*steps, tls=tls) as server:
        call = put(server.url.replace("http:", "https:"))
        with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
            call()
    assert has_credentials(shown(caught.value)) == []


ANSWER = f'{{"client_id": "c1", "client_secret": "{ISSUED}", "redirect_uris": [1]}}'
REFUSAL = Reply(400, {}, SensitiveBytes(f'{{"error_description": "{SECRET}"}}'.encode()))
PURE: dict[str, Callable[[], object]] = {
    "authentication": partial(
        client_authentication, "c1", SensitiveText(SECRET), "client_secret_basic"
    ),
    "request": partial(encode, {"client_secret": SensitiveText(SECRET)}),
    "answer": lambda: client_information(parse_object(SensitiveBytes(ANSWER.encode()))),
    "refusal": partial(rejection, REFUSAL, step="read", secrets=[SensitiveText(SECRET)]),
}


# What is raised in a destructor goes nowhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("step", PURE)
def test_an_exception_while_making_or_parsing_json_contains_no_credentials(step: str) -> None:
    """At each call, of Python and of C, that is made there."""
    run = PURE[step]
    number = 0
    while (error := stopped_at(number, run)) is not None:
        assert has_credentials(shown(error, brief=True)) == [], number
        number += 1
    assert number > 10


def stopped_at(number: int, run: Callable[[], object]) -> BaseException | None:
    """Run, raise TimeLimitExceeded at the call of that number, and return what comes of it."""
    left = float(number)

    # Coverage does not see what a profiler runs.
    def count(frame: object, event: str, arg: object) -> None:  # pragma: no cover
        nonlocal left
        left -= event in ("call", "c_call")
        if left < 0:
            raise TimeLimitExceeded

    sys.setprofile(count)
    try:
        run()
        left = math.inf
    except TimeLimitExceeded as exc:
        return exc
    finally:
        sys.setprofile(None)
    return None


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("step", STEPS)
def test_an_exception_in_a_librarys_exchange_contains_no_credentials(
    step: str, method: str
) -> None:
    session = transport.harden_session(requests.Session(), ISSUER)
    headers, parameters = client_authentication("c1", SensitiveText(SECRET), method)
    filler = "x" * (LARGE if step == "sending" else 1000)
    with Server(*STEPS[step]) as server:

        def call() -> None:
            form = {"grant_type": "refresh_token", "x": filler, **parameters}
            session.post(server.url, data=form, headers=headers)

        with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
            call()
    page = shown(caught.value)
    assert has_credentials(page) == []
    assert "requests/sessions.py" in page


def test_the_frames_of_a_library_are_not_shown() -> None:
    """They contain the code and the refresh token in plain text."""
    session = transport.harden_session(requests.Session(), ISSUER)
    with Server(read, silence) as server:

        def call() -> None:
            session.request("POST", server.url, data={"code": CODE, "refresh_token": ISSUED})

        with pytest.raises(TimeLimitExceeded) as caught, interrupted(TimeLimitExceeded):
            call()
    page = shown(caught.value)
    assert "requests/sessions.py" in page
    assert has_credentials(page) == []

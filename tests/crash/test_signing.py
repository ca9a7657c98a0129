"""Many processes sign with the site's keys while these are rotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from django_dcr.models import ClientKey
from django_dcr.models.clientkey import DUE_BEFORE, LIFETIME
from tests.contrib.login_server import LoginServer
from tests.contrib.test_rotation import HOUR, METHOD, KeepingServer, pass_time, signed_with
from tests.crash.processes import Site, wait_until
from tests.factories import WISHES

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.network

PROCESSES, REQUESTS = 4, 1000
#: Around the moments at which the next key is due, and at which it takes over.
STEPS = [LIFETIME - DUE_BEFORE - HOUR, HOUR, HOUR, DUE_BEFORE - 2 * HOUR, HOUR, HOUR, 2 * HOUR]


@pytest.fixture
def server() -> Iterator[LoginServer]:
    with LoginServer() as server:
        yield server


def test_no_token_request_of_many_processes_is_refused_while_keys_are_rotated(
    site: Site, server: LoginServer, settings: Settings
) -> None:
    """R-184: 1,000 by 4 processes, at a server that keeps the keys for an hour."""
    settings.DCR_BASE_URL = "https://site.example"
    keeper = KeepingServer()
    server.logins.fetch = keeper.fetch
    crew = site.workers(
        PROCESSES,
        DCR_INTERNAL_ORIGINS=[server.issuer],
        DCR_BASE_URL=settings.DCR_BASE_URL,
        DCR_CLIENT_METADATA={**WISHES, **METHOD},
    )
    *rotating, _ = site.workers(3)
    rotating[0].do("rotate_client_keys")
    first = ClientKey.objects.get()
    for worker in crew:
        worker.start("ask_for_tokens", issuer=server.issuer, times=REQUESTS // PROCESSES)
    for number, step in enumerate(STEPS, start=1):
        asked = number * REQUESTS // (len(STEPS) + 1)
        wait_until(lambda asked=asked: len(server.forms) >= asked)
        let_pass(step, keeper)
        for worker in rotating:
            worker.start("rotate_client_keys")
        for worker in rotating:
            worker.value()
    ended: Counter[str] = sum((worker.value() for worker in crew), Counter())
    assert ended == {"issued": REQUESTS}
    second = ClientKey.objects.get(number=2)
    assert ClientKey.objects.count() == 2
    assert signed_with(server) == {first.kid, second.kid}


def let_pass(time: timedelta, keeper: KeepingServer) -> None:
    pass_time(time)
    keeper.age += time

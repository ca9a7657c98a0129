"""Processes that meet at a key whose registration is refused send one request in each pause."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_dcr.models import ClientRegistration
from tests.crash.processes import Site
from tests.crash.test_registering import released_together

pytestmark = pytest.mark.network

PROCESSES = 4


def test_processes_that_meet_at_a_refused_key_send_one_registration_in_a_pause(site: Site) -> None:
    """4 processes, 50 keys, of each the first pause, the time in it, and the one after it."""
    site.server.configure(refuses=True)
    crew = site.workers(PROCESSES, DCR_BACKOFF=3600, DCR_LEASE=3600)
    for number in range(site.size(short=5, full=50)):
        owner = f"round {number}"
        texts = set()
        for posts, is_over in ((1, False), (1, False), (2, True), (2, False)):
            if is_over:
                end_the_pause(owner)
            outcomes = released_together(crew, owner)
            assert {outcome.get("error") for outcome in outcomes} == {"RequestRejectedError"}
            texts |= {outcome["text"] for outcome in outcomes}
            assert site.server.inspect("posts")[owner] == posts
        assert len(texts) == 1


def end_the_pause(owner: str) -> None:
    row = ClientRegistration.objects.get(owner=owner)
    assert row.retry_at
    ClientRegistration.objects.filter(pk=row.pk).update(retry_at=row.retry_at - timedelta(hours=1))

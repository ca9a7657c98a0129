"""Processes that start in step keep to the rate that their server bears."""

from __future__ import annotations

import time

import pytest

from django_dcr.models import AuthorizationServer
from tests.crash.processes import Site, busiest

pytestmark = pytest.mark.network

BURST = 3


def test_no_server_is_asked_faster_than_its_rate_by_processes_at_once(site: Site) -> None:
    """8 processes; without the compare-and-set the longer windows have far too many."""
    processes, times, rate = 8, site.size(short=10, full=40), 600
    AuthorizationServer.objects.create(issuer=site.server.issuer, requests_per_minute=rate)
    workers = site.workers(processes)
    for worker in workers:
        worker.do("discover", times=0)  # ready to go
    for worker in workers:
        worker.start("discover", at=time.monotonic() + 0.2, times=times)
    for worker in workers:
        assert "error" not in worker.result()
    moments = site.server.inspect("moments")
    assert len(moments) == processes * times
    for seconds in (1, 2, 4, 6):
        most, share = busiest(moments, seconds), seconds * rate // 60
        print(f"{most} requests of {share} in {seconds} s,", end=" ")
        # A busy machine may be late with one request after its turn came.
        assert most <= share + BURST + 1

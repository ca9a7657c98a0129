"""Processes that start in step keep to the rate that their server bears."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from django_dcr.models import AuthorizationServer
from tests.crash.processes import Site, busiest

pytestmark = pytest.mark.network

BURST = 3


def test_no_server_is_asked_faster_than_its_rate_by_processes_at_once(site: Site) -> None:
    """8 processes; without the compare-and-set some moments are reserved twice."""
    processes, times, rate = 8, site.size(short=8, full=60), 1200
    AuthorizationServer.objects.create(issuer=site.server.issuer, requests_per_minute=rate)
    workers = site.workers(processes)
    for worker in workers:
        worker.do("discover", times=0)  # ready to go
    begun, at = timezone.now() + timedelta(seconds=0.2), time.monotonic() + 0.2
    for worker in workers:
        worker.start("discover", at=at, times=times)
    for worker in workers:
        assert "error" not in worker.result()
    moments = site.server.inspect("moments")
    assert len(moments) == processes * times
    paced_until = AuthorizationServer.objects.get().paced_until
    assert paced_until
    interval = timedelta(minutes=1) / (rate - BURST + 1)
    assert paced_until - begun >= len(moments) * interval
    # A busy machine makes a request arrive later than its turn, and none earlier: only that is
    # compared. By 50 ms the date, which turns are computed from, and this clock may differ.
    for number, moment in enumerate(sorted(moments)):
        assert moment - at >= (number - BURST + 1) * interval.total_seconds() - 0.05
    for seconds in (1, 2, 4):
        share = seconds * rate // 60
        print(f"{busiest(moments, seconds)} requests of {share} in {seconds} s,", end=" ")

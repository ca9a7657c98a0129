"""Background work on real workers, one of which is killed."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

import pytest

from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.crash.processes import CALLBACK, Site, busiest, wait_until
from tests.queue.processes import Engine

pytestmark = pytest.mark.network

DAY = 24 * 3600
LATER = int(time.time()) + 90 * DAY
on_celery = pytest.mark.parametrize("engine", ["celery"], indirect=True)
on_the_database = pytest.mark.parametrize("engine", ["django.tasks"], indirect=True)


def make_registrations(site: Site, number: int, *, rate: int | None = None) -> None:
    """Store ``number`` registrations that the server knows; their secrets expire tomorrow."""
    tomorrow = int(time.time()) + DAY
    issuer = site.server.issuer
    server = AuthorizationServer.objects.create(issuer=issuer, requests_per_minute=rate)
    clients = {f"c{n}": client(issuer, f"c{n}", tomorrow) for n in range(number)}
    site.server.configure(clients=clients, rotates_secrets=True, secret_expires_at=LATER)
    ClientRegistration.objects.bulk_create(
        ClientRegistration(
            server=server,
            owner=f"key {client_id}",
            status="active",
            metadata={"redirect_uris": [CALLBACK]},
            **{name: value for name, value in issued.items() if name != "redirect_uris"},
        )
        for client_id, issued in clients.items()
    )


def client(issuer: str, client_id: str, expires_at: int) -> dict[str, Any]:
    """A client in the server's database."""
    return {
        "client_id": client_id,
        "client_secret": f"secret-of-{client_id}",
        "client_secret_expires_at": expires_at,
        "registration_client_uri": f"{issuer}/register/{client_id}",
        "registration_access_token": f"token-of-{client_id}",
        "redirect_uris": [CALLBACK],
    }


def renewed() -> int:
    return ClientRegistration.objects.filter(client_secret_expires_at=LATER).count()


def settled() -> int:
    """Return how many are renewed, or have an error on the row."""
    return renewed() + ClientRegistration.objects.exclude(last_error="").count()


def renewals(site: Site) -> Counter[str]:
    """Return how many new secrets the server issued to each client."""
    journal = "\n".join(site.server.inspect("requests"))
    return Counter(re.findall(r"PUT /register/(\w+) 200", journal))


def check_secrets(site: Site) -> None:
    """Check that each row has its server's secret, or an error."""
    clients = site.server.inspect("clients")
    for row in ClientRegistration.objects.all():
        secret = clients[row.client_id]["client_secret"]
        assert row.client_secret.reveal() == secret or row.last_error


@on_celery
def test_500_renewals_are_each_done_once_at_the_servers_rate_while_a_worker_is_killed(
    site: Site, engine: Engine
) -> None:
    number, rate, workers = 500, 1200, 4
    make_registrations(site, number, rate=rate)
    site.server.configure(latency=[0.01, 0.05])
    for _ in range(workers):
        engine.start_worker()
    started = time.monotonic()
    assert f"{number} of {number} queued." in engine.run("dcr_renew", "--queue")
    wait_until(lambda: renewed() > number // 2, seconds=120, every=0.5)
    engine.kill_working_process()
    wait_until(lambda: settled() >= number, seconds=180, every=0.5)
    took = time.monotonic() - started

    check_secrets(site)
    issued = renewals(site)
    twice = sum(times > 1 for times in issued.values())
    failed = ClientRegistration.objects.exclude(last_error="").count()
    print(f"{number} renewals in {took:.0f} s, {twice} twice, {failed} failed,", end=" ")
    assert issued.keys() == {f"c{n}" for n in range(number)}
    assert twice == 0
    moments = site.server.inspect("moments")
    for seconds in (1, 2, 5, 10, 20, 40):
        most, share = busiest(moments, seconds), seconds * rate // 60
        print(f"{most} requests of {share} in {seconds} s,", end=" ")
        # A burst of three, and requests that a busy machine delayed by half a second.
        assert most <= share + 3 + rate // 120
    wait_until(lambda: engine.is_idle, seconds=40, every=0.5)


@on_celery
def test_the_job_of_a_machine_that_lost_power_is_done_by_another_worker(
    site: Site, engine: Engine
) -> None:
    """The secret is not renewed twice: the server has issued it, and it is only read.

    Redis delivers the job again after the visibility timeout, which Celery checks every 100 s.
    """
    make_registrations(site, 1)
    site.server.configure(latency=[2, 2])
    engine.start_worker()
    engine.run("dcr_renew", "--queue")
    wait_until(lambda: site.server.count("PUT"))
    engine.kill_worker()
    assert renewed() == 0
    site.server.configure(latency=[0, 0])
    engine.start_worker()
    wait_until(renewed, seconds=180, every=0.5)
    check_secrets(site)
    assert set(renewals(site).values()) == {1}


@on_the_database
def test_renewals_by_workers_on_the_database(site: Site, engine: Engine) -> None:
    make_registrations(site, 30, rate=1200)
    assert "30 of 30 queued." in engine.run("dcr_renew", "--queue")
    assert "30 of 30 queued." in engine.run("dcr_renew", "--queue"), "while they wait"
    for _ in range(2):
        engine.start_worker()
    wait_until(lambda: renewed() == 30, seconds=60, every=0.1)
    check_secrets(site)
    assert set(renewals(site).values()) == {1}


def test_a_job_without_a_response_is_retried_by_the_queue(site: Site, engine: Engine) -> None:
    make_registrations(site, 1)
    site.server.configure(faults=["hang up"], fault_rate=1)
    engine.run("dcr_read", "--all", "--queue")
    engine.start_worker()
    wait_until(lambda: ClientRegistration.objects.get().last_error)
    failed = time.monotonic()
    site.server.configure(fault_rate=0)
    wait_until(lambda: not ClientRegistration.objects.get().last_error)
    assert time.monotonic() - failed > 2, "there was no pause"
    events = ClientRegistration.objects.get().events.order_by("pk")
    told = list(events.values_list("outcome", "error"))
    assert told == [("active", "NetworkError"), ("active", "")]

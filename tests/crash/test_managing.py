"""Many processes manage the same clients, at a server that errs or turns its tokens."""

# ruff: noqa: S311
from __future__ import annotations

import random
import time
from collections import Counter
from signal import SIGCONT, SIGSTOP

import pytest

from django_dcr.models import ClientRegistration
from tests.crash.processes import Site, Worker, wait_until
from tests.crash.test_registering import assert_everything_is_known

pytestmark = pytest.mark.network


def total(outcomes: list[dict[str, int]]) -> Counter[str]:
    return sum(map(Counter, outcomes), Counter())


def assert_every_active_token_is_the_servers(site: Site) -> None:
    clients = site.server.inspect("clients")
    for row in ClientRegistration.objects.active():
        assert row.registration_access_token
        held = clients[row.client_id]["registration_access_token"]
        assert row.registration_access_token.reveal() == held, row.pk


def test_no_update_fails_where_every_answer_turns_the_token(site: Site) -> None:
    """L11: 8 processes x 100 updates of one registration."""
    updates = site.size(short=10, full=100)
    site.server.configure(rotates_tokens=True)
    crew = site.workers(8)
    crew[0].do("get_or_register", owner="key")
    for worker in crew:
        worker.start("update_many", owner="key", times=updates)
    outcomes = [worker.result() for worker in crew]
    assert total([outcome["value"] for outcome in outcomes]) == {"done": 8 * updates}
    assert site.server.count("PUT") == 8 * updates
    assert_every_active_token_is_the_servers(site)
    print(f"{8 * updates} updates in {max(outcome['took'] for outcome in outcomes):.1f} s")


def have_gone_on(site: Site, person: Worker, updates: int) -> bool:
    """Whether there were so many updates; without a person's decision there may be no more."""
    person.do("decide")
    return site.server.count("PUT") >= updates


def expire_what_nobody_holds(site: Site) -> int:
    """Let the lease of a process that was killed run out, where it had one; return how many.

    That is one which does not change. Where it only takes a process that lives very long to get
    on, the lease runs out while it works, and the token is lost as after a kill.
    """
    held = ClientRegistration.objects.exclude(lease="").values_list("lease", flat=True)
    before = set(held)
    patience = time.monotonic() + 0.5
    while before & set(held) and time.monotonic() < patience:
        time.sleep(0.01)
    return site.expire_leases(lease__in=before)


def test_a_token_lost_by_a_kill_is_flagged(site: Site) -> None:
    """L11, L6: the same with a SIGKILL now and then; a person decides on each one lost."""
    kills, expired = site.size(short=4, full=60), 0
    site.server.configure(rotates_tokens=True, latency=[0.0, 0.05])
    person, *crew = site.workers(9)
    person.do("get_or_register", owner="key")
    for worker in crew:
        worker.start("update_many", owner="key", times=100_000)
    for _kill in range(kills):
        updates = site.server.count("PUT") + random.randrange(2, 8)
        wait_until(lambda updates=updates: have_gone_on(site, person, updates), every=0.05)
        # Who was last to update is about to get the answer, or has just got it.
        (client, *_others) = reversed(site.server.inspect("clients").values())
        pids = [str(worker.pid) for worker in crew]
        last = client.get("software_version", "").partition("-")[0]
        place = pids.index(last) if last in pids else random.randrange(8)
        assert crew[place].is_working
        crew[place].kill()
        expired += expire_what_nobody_holds(site)
        crew[place] = site.worker()
        crew[place].start("update_many", owner="key", times=100_000)
    for worker in crew:
        worker.kill()
    site.expire_leases()
    person.do("decide")
    ended = Counter(person.do("update_many", owner="key", times=1))
    lost = ClientRegistration.objects.exclude(status="active")
    if ended != {"done": 1}:  # the last kill lost a token
        assert ended == {"RegistrationGoneError": 1}
        assert person.do("decide") == 1
        assert person.do("update_many", owner="key", times=1) == {"done": 1}
    assert {row.status for row in lost} <= {"gone"}
    assert all("token" in row.last_error for row in lost)
    assert lost.count() <= kills + expired + 8
    assert ClientRegistration.objects.active().count() == 1
    assert_everything_is_known(site)
    assert_every_active_token_is_the_servers(site)
    print(f"{kills} kills, {lost.count()} lost, {site.server.count('PUT')} updates")


def test_an_update_that_sleeps_beyond_its_lease_saves_the_token_it_wakes_with(site: Site) -> None:
    """L10: meanwhile another process met the old token's refusal, and said so."""
    site.server.configure(rotates_tokens=True)
    sleeper, other = site.workers(2)
    other.do("get_or_register", owner="key")
    gate = site.server.hold("PUT")
    sleeper.start("update_many", owner="key", times=1)
    wait_until(lambda: site.server.count("PUT") == 1)
    sleeper.signal(SIGSTOP)
    site.server.hold_no_more()
    other.start("update_many", owner="key", times=1)
    site.expire_leases()
    assert other.value() == {"RegistrationGoneError": 1}
    site.server.open(gate)
    sleeper.signal(SIGCONT)
    assert sleeper.value() == {"ConflictError": 1}
    row = ClientRegistration.objects.get()
    (client,) = site.server.inspect("clients").values()
    assert (row.status, row.live) == ("gone", None)
    assert row.registration_access_token
    assert row.registration_access_token.reveal() == client["registration_access_token"]


def test_a_server_that_errs_in_a_third_of_its_answers_loses_nothing(site: Site) -> None:
    """Fault 144: 8 processes, 300 keys, 6,000 acts."""
    acts, keys = site.size(short=40, full=750), site.size(short=30, full=300)
    site.server.configure(fault_rate=1 / 3, rotates_secrets=True)
    crew = site.workers(8)
    for worker in crew:
        worker.start("churn", acts=acts, keys=keys)
    reports = [worker.value() for worker in crew]
    site.server.configure(fault_rate=0)
    person = crew[0]
    person.do("reconcile")
    assert_everything_is_known(site)
    assert_every_active_token_is_the_servers(site)
    assert set(person.do("read_all")) <= {"done"}
    clients = site.server.inspect("clients")
    for row in ClientRegistration.objects.active():
        assert row.client_secret
        assert row.client_secret.reveal() == clients[row.client_id]["client_secret"]
    before = list(ClientRegistration.objects.order_by("pk").values())
    person.do("reconcile")
    assert list(ClientRegistration.objects.order_by("pk").values()) == before
    grown = max(report["grown"] for report in reports)
    assert grown < 32 * 1024 * 1024
    ended = total([report["ended"] for report in reports])
    done = sum(times for how, times in ended.items() if how.endswith("done"))
    print(f"{ended.total()} acts, {done} done, memory grown by {grown / 1024:.0f} KiB; {ended}")

"""Many processes register, and are killed or stopped while they do."""

# ruff: noqa: S311
from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from django_dcr.models import ClientRegistration, Status
from tests.crash.processes import HANG, Site, Worker, moments, wait_until

pytestmark = pytest.mark.network


def test_bulk_registration_that_is_killed_again_and_again_loses_no_client(site: Site) -> None:
    """L6, promise 1: 1,000 keys, 4 workers, SIGKILL at 50 random moments, or until all are done."""
    keys, kills = site.size(short=40, full=1000), site.size(short=4, full=50)
    site.server.configure(latency=[0.0, 0.1])
    shares = [[f"key {n}" for n in range(first, keys, 4)] for first in range(4)]
    crew = site.workers(4)
    for worker, share in zip(crew, shares, strict=True):
        worker.start("get_or_register_many", owners=share)
    killed = 0
    for moment in moments(kills, keys // 2):
        wait_until(lambda moment=moment: site.server.count("POST") > moment)
        time.sleep(random.uniform(0, 0.1))
        places = [n for n, worker in enumerate(crew) if worker.is_working]
        if not places:  # on a busy machine the workers may have been faster than this process
            break
        place = random.choice(places)
        crew[place].kill()
        site.expire_leases(owner__in=shares[place])
        killed += 1
        crew[place] = site.worker()
        crew[place].start("get_or_register_many", owners=shares[place])
    failed = sum((Counter(worker.value()) for worker in crew), Counter())
    assert killed > 0
    assert set(failed) <= {"ConflictError"}  # what a killed process left in doubt
    person = crew[0]
    site.expire_leases()
    person.do("reconcile")
    unknown = ClientRegistration.objects.filter(status=Status.UNKNOWN).count()
    decisions = person.do("decide")
    assert decisions == unknown <= kills
    assert_everything_is_known(site)
    live = ClientRegistration.objects.live()
    assert live.active().count() == live.count() == keys
    before = list(ClientRegistration.objects.order_by("pk").values())
    assert person.do("reconcile") == []
    assert list(ClientRegistration.objects.order_by("pk").values()) == before
    print(f"{keys} keys, {killed} kills, {unknown} unknown, {site.server.count('POST')} POSTs")


def assert_everything_is_known(site: Site) -> None:
    """Every client has a row, by its client_id or as an attempt that was never answered.

    And no client is active that nothing names: a renewal that was interrupted is settled.
    """
    assert not ClientRegistration.objects.active().filter(live=None).exists()
    clients: dict[str, Any] = site.server.inspect("clients")
    rows = ClientRegistration.objects.all()
    active = dict(rows.active().values_list("client_id", "owner"))
    journal = site.server.inspect("requests")
    for missing in set(active) - set(clients):
        pytest.fail(f"{missing}: {[line for line in journal if f'/{missing} ' in line]}")
    named = set(rows.exclude(client_id="").values_list("client_id", flat=True))
    nameless = Counter(
        client["client_name"] for name, client in clients.items() if name not in named
    )
    doubtful = rows.filter(client_id="").exclude(status__in=[Status.DRAFT, Status.REJECTED])
    assert nameless <= Counter(doubtful.values_list("owner", flat=True))


def released_together(
    crew: list[Worker], owner: str, meanwhile: Callable[[], object] = lambda: None
) -> list[dict[str, Any]]:
    at = time.monotonic() + 0.05
    for worker in crew:
        worker.start("get_or_register", at=at, owner=owner)
    meanwhile()
    return [worker.result() for worker in crew]


def test_processes_that_meet_at_one_key_make_one_client(site: Site) -> None:
    """L8: 16 processes, 200 rounds."""
    latency = 0.05
    site.server.configure(latency=[latency, latency])
    crew = site.workers(site.size(short=8, full=16))
    longest = 0.0
    for number in range(site.size(short=10, full=200)):
        outcomes = released_together(crew, f"round {number}")
        assert len({outcome.get("value") for outcome in outcomes}) == 1, [
            o for o in outcomes if "error" in o
        ]
        assert "value" in outcomes[0], outcomes
        longest = max(longest, *(outcome["took"] for outcome in outcomes))
        # Once one has the client, each other finds it when it next looks, at the latest: this is
        # the order of events by one clock, however long each takes.
        found = min(outcome["ended"] for outcome in outcomes)
        late = [sum(look > found for look in outcome["looks"]) for outcome in outcomes]
        assert max(late) <= 1, late
    assert set(site.server.inspect("posts").values()) == {1}
    print(f"longest wait {longest:.2f} s")


def start_holder(site: Site, owner: str, **settings: Any) -> Worker:
    """Start a process that has posted and waits for the answer, if its time was not up before."""
    holder = site.worker(**settings)
    posts = site.server.count("POST")
    holder.start("get_or_register", owner=owner)
    wait_until(lambda: site.server.count("POST") > posts or not holder.is_working)
    return holder


def test_a_killed_holder_costs_one_decision_and_one_more_client(site: Site) -> None:
    """L9: the lease runs out, the attempt is recorded, and only a person repeats it."""
    crew = site.workers(site.size(short=4, full=15))
    for number in range(site.size(short=1, full=5)):
        owner = f"round {number}"
        site.server.hold("POST")
        start_holder(site, owner).kill()
        site.server.hold_no_more()
        outcomes = released_together(crew, owner, site.expire_leases)
        assert {outcome.get("error") for outcome in outcomes} == {"ConflictError"}, outcomes
        assert site.server.inspect("posts")[owner] == 1
        assert crew[0].do("decide") == 1
        assert len({outcome["value"] for outcome in released_together(crew, owner)}) == 1
        assert site.server.inspect("posts")[owner] == 2
        rows = ClientRegistration.objects.filter(owner=owner)
        assert sorted(rows.values_list("status", "live")) == [("active", True), ("unknown", None)]
    assert_everything_is_known(site)


def start_sleeper(site: Site, name: str, *timeouts: float) -> tuple[str, Worker, float]:
    """Start a holder and stop it, within the first timeout that is long enough for that."""
    for timeout in timeouts:
        owner = f"{name}, {timeout} s"
        holder = start_holder(site, owner, DCR_TIMEOUT=timeout)
        holder.signal(SIGSTOP)
        if holder.is_working:
            return owner, holder, timeout
        holder.kill()
    pytest.fail("No process got as far as its request.")


@pytest.mark.parametrize(
    ("timeouts", "error"),
    [
        pytest.param([HANG], None, id="it reads the answer"),
        pytest.param([2, 8, 32, 128], "NetworkError", id="its time is up"),
    ],
)
def test_a_holder_that_sleeps_beyond_its_lease_overwrites_nothing(
    site: Site, timeouts: list[float], error: str | None
) -> None:
    """L10: fencing."""
    crew = site.workers(site.size(short=4, full=15))
    for number in range(site.size(short=1, full=3)):
        gate = site.server.hold("POST")
        owner, holder, timeout = start_sleeper(site, f"round {number}", *timeouts)
        site.server.hold_no_more()
        outcomes = released_together(crew, owner, site.expire_leases)
        assert {outcome.get("error") for outcome in outcomes} == {"ConflictError"}, outcomes
        assert crew[0].do("decide") >= 1
        before = list(ClientRegistration.objects.filter(owner=owner, live=True).values())
        if error:
            time.sleep(timeout)
        else:
            site.server.open(gate)
        holder.signal(SIGCONT)
        outcome = holder.result()
        site.server.open(gate)
        assert outcome.get("error") == error
        assert outcome.get("value", before[0]["client_id"]) == before[0]["client_id"]
        assert list(ClientRegistration.objects.filter(owner=owner, live=True).values()) == before
        assert site.server.inspect("posts")[owner] == 2
    assert_everything_is_known(site)
    if error is None:  # the spare clients were deleted
        assert len(site.server.inspect("clients")) == ClientRegistration.objects.live().count()


def test_rows_of_one_key_change_places_and_no_process_is_given_up(site: Site) -> None:
    """MariaDB ends one of two that wait for each other; that one tries again."""
    crew = site.workers(8)
    for worker in crew:
        worker.start("jostle", acts=site.size(short=25, full=300), keys=1)
    ended = sum((worker.value() for worker in crew), Counter())
    assert {how.partition(":")[0] for how in ended if not how.endswith("Error")} == {
        "_insert",
        "_clear",
        "_succeed",
        "_replace",
    }
    assert ClientRegistration.objects.live().count() <= 1
    print(ended)

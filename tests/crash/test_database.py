"""The site's own database fails after the server has issued a client."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from typing import Any

import pytest
from django.db import connection

from django_dcr.models import ClientRegistration
from tests.crash.processes import Site, Worker, wait_until
from tests.crash.proxy import Proxy
from tests.crash.test_registering import assert_everything_is_known

pytestmark = pytest.mark.network

TABLE = "django_dcr_clientregistration"
# An UPDATE fails at once, or on PostgreSQL at its COMMIT.
REFUSE = {
    "sqlite": [
        f"CREATE TRIGGER refuse BEFORE UPDATE ON {TABLE} WHEN {{}}"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
        f"CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON {TABLE} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()",
    ],
    "mysql": [
        f"CREATE TRIGGER refuse BEFORE UPDATE ON {TABLE} FOR EACH ROW"  # noqa: S608
        " IF {} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'; END IF"
    ],
}
REFUSE_NO_MORE = {
    "sqlite": "DROP TRIGGER refuse",
    "postgresql": f"DROP TRIGGER refuse ON {TABLE}",
    "mysql": "DROP TRIGGER refuse",
}
DISCONNECT = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "mysql": "SELECT CONCAT('KILL ', id) FROM information_schema.processlist"
    " WHERE id <> CONNECTION_ID() AND user = 'dcr'",
}
# What is issued is written again and again until the lease runs out.
IMPATIENT = {"DCR_LEASE": 2}
# How long the database is away, in seconds.
OUTAGES = [0.003, 0.010, 0.050, 0.300] if os.environ.get("CRASH") == "full" else [0.003, 0.300]

# Only SQLite locks the whole database, and its connections do not break.
needs_sqlite = pytest.mark.only_on("sqlite")
needs_connections = pytest.mark.only_on("postgres", "mysql")


def sql(statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def refusing(condition: str) -> Iterator[None]:
    for statement in REFUSE[connection.vendor]:
        sql(statement.format(condition))
    try:
        yield
    finally:
        sql(REFUSE_NO_MORE[connection.vendor])


def disconnect_all() -> None:
    for (answer,) in sql(DISCONNECT[connection.vendor]):
        if connection.vendor == "mysql":
            sql(answer)


def only_row() -> ClientRegistration:
    return ClientRegistration.objects.get()


def settle(site: Site, worker: Worker) -> None:
    """Let the lease run out, reconcile, and hold the rows against the server."""
    site.expire_leases()
    worker.do("reconcile")
    assert_everything_is_known(site)
    if only_row().status == "active":
        assert list(site.server.inspect("clients")) == [only_row().client_id]
        assert site.server.count("DELETE") == 0


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        pytest.param("NEW.status = 'active'", "rejected", id="the client is not stored"),
        pytest.param("OLD.status = 'registering'", "unknown", id="nor is that failure"),
    ],
)
def test_a_client_that_the_database_refuses_is_deleted(
    site: Site, condition: str, status: str
) -> None:
    """L1: the n-th write after the 201 fails."""
    worker = site.worker(**IMPATIENT)
    with refusing(condition):
        worker.start("get_or_register", owner="key")
        outcome = worker.result()
    assert outcome["error"] == "NotStoredError"
    assert "refused" in outcome["text"]
    settle(site, worker)
    assert (only_row().status, site.server.inspect("clients")) == (status, {})
    assert site.server.count("DELETE") == 1


def start_and_wait_for_post(site: Site, worker: Worker) -> str:
    """Start a registration that waits for its answer; return the gate behind which that is."""
    gate = site.server.hold("POST")
    worker.start("get_or_register", owner="key")
    wait_until(lambda: site.server.count("POST") == 1)
    site.server.hold_no_more()
    return gate


@needs_connections
def test_a_database_connection_that_dies_during_the_call_loses_nothing(site: Site) -> None:
    """L4: for a POST and for a PUT that turns the token."""
    site.server.configure(rotates_tokens=True)
    worker = site.worker()
    gate = start_and_wait_for_post(site, worker)
    disconnect_all()
    site.server.open(gate)
    assert "value" in worker.result()
    gate = site.server.hold("PUT")
    worker.start("update_many", owner="key", times=1)
    wait_until(lambda: site.server.count("PUT") == 1)
    disconnect_all()
    site.server.open(gate)
    assert worker.value() == {"done": 1}
    settle(site, worker)
    token = only_row().registration_access_token
    (client,) = site.server.inspect("clients").values()
    assert token
    assert token.reveal() == client["registration_access_token"]


@needs_connections
@pytest.mark.parametrize("then_down", [False, True], ids=["", "then no connection"])
@pytest.mark.parametrize("lost", [1, 2, 3, 4])
@pytest.mark.parametrize("after_the_fact", [True, False], ids=["reply", "COMMIT"])
def test_a_commit_without_reply_is_looked_after_before_any_deletion(
    site: Site, after_the_fact: bool, lost: int, then_down: bool
) -> None:
    """L2: of the n commits after the 201 the connection dies, before or after the fact."""
    proxy = Proxy(site.database)
    worker = site.worker(proxy.url, **(IMPATIENT if then_down else {}))
    gate = start_and_wait_for_post(site, worker)
    proxy.lose(lost, after_the_fact=after_the_fact, then_down=then_down)
    site.server.open(gate)
    worker.result()
    proxy.restore()
    settle(site, worker)
    committed = only_row().status == "active"
    assert committed == (after_the_fact or not then_down)
    # Where a COMMIT has failed and no connection can be had, nothing is certain.
    assert site.server.count("DELETE") == 0
    proxy.close()


@needs_sqlite
def test_a_locked_database_is_waited_for(site: Site) -> None:
    """L24: SQLite, which another process has locked."""
    worker = site.worker()
    gate = start_and_wait_for_post(site, worker)
    with locked():
        site.server.open(gate)
        time.sleep(0.5)
    assert "value" in worker.result()
    settle(site, worker)


@needs_sqlite
def test_a_client_that_a_locked_database_does_not_take_is_deleted(site: Site) -> None:
    """L24: the same for longer than the database's timeout."""
    worker = site.worker(site.database.replace("timeout=300", "timeout=0"), **IMPATIENT)
    gate = start_and_wait_for_post(site, worker)
    with locked():
        site.server.open(gate)
        assert worker.result()["error"] == "NotStoredError"
    settle(site, worker)
    assert (only_row().status, site.server.inspect("clients")) == ("unknown", {})
    assert site.server.count("DELETE") == 1


@contextmanager
def locked() -> Iterator[None]:
    sql("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        sql("ROLLBACK")


@pytest.mark.parametrize("kind", ["register", "read", "update", "renew", "revoke"])
@pytest.mark.parametrize("seconds", OUTAGES, ids="{} s".format)
def test_a_short_outage_at_any_statement_loses_nothing_without_a_mark(
    site: Site, kind: str, seconds: float
) -> None:
    """Each answer issues a new token and a new secret, and the database goes away."""
    site.server.configure(rotates_tokens=True, rotates_secrets=True)
    through = Outages(site, seconds)
    numbers = count(1) if site.full else count(2, 3)
    for number in takewhile(lambda number: through.act(kind, f"{kind} {number}", number), numbers):
        for row in ClientRegistration.objects.active().live():
            assert is_marked(row) or has_the_servers_credentials(site, row), (number, row.pk)
    # A mark is gone when its lease is, and what could be stored in time was.
    site.expire_leases()
    through.worker.do("reconcile")
    assert_everything_is_known(site)
    assert not ClientRegistration.objects.filter(status="gone").exists()
    assert not ClientRegistration.objects.active().filter(live=None).exists()
    assert all(
        has_the_servers_credentials(site, row) for row in ClientRegistration.objects.active()
    )


class Outages:
    """A worker whose database goes away: by a proxy, or on SQLite within the worker."""

    def __init__(self, site: Site, seconds: float) -> None:
        self.seconds = seconds
        self.proxy = None if connection.vendor == "sqlite" else Proxy(site.database)
        self.worker = site.worker(self.proxy.url if self.proxy else "")

    def act(self, kind: str, owner: str, statement: int) -> bool:
        """Act on a key with an outage at the n-th statement; False where there are fewer."""
        if kind != "register":
            self.worker.do("act", kind="register", owner=owner)
        if self.proxy is None:
            values = {"statement": statement, "seconds": self.seconds}
            return bool(
                self.worker.do("act_through_outage", kind=kind, owner=owner, **values)["reached"]
            )
        self.proxy.cut(statement, self.seconds)
        self.worker.start("act", kind=kind, owner=owner)
        self.worker.result()
        reached, self.proxy.messages_left = not self.proxy.messages_left, 0
        time.sleep(self.seconds)  # the next act is to begin with a database
        return reached


def is_marked(row: ClientRegistration) -> bool:
    return row.lease_until is not None


def has_the_servers_credentials(site: Site, row: ClientRegistration) -> bool:
    client = site.server.inspect("clients")[row.client_id]
    assert row.client_secret
    assert row.registration_access_token
    ours = (row.client_secret.reveal(), row.registration_access_token.reveal())
    return ours == (client["client_secret"], client["registration_access_token"])


def test_inside_a_callers_transaction_nothing_is_sent(site: Site) -> None:
    """L5: Django has no on_rollback."""
    worker = site.worker()
    worker.start("register_inside_atomic", owner="key")
    outcome = worker.result()
    assert outcome["error"] == "ConflictError"
    assert "cannot run inside a transaction" in outcome["text"]
    assert site.server.count("POST") == 0
    assert not ClientRegistration.objects.exists()

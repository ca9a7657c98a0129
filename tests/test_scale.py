"""What a site with very many registrations asks its database goes by an index."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, RequestFactory
from health_check.exceptions import ServiceUnavailable

from django_dcr import services
from django_dcr.contrib.health_check import Registrations
from django_dcr.exceptions import ConflictError
from django_dcr.fields import digest
from django_dcr.management import work
from django_dcr.management.work import WorkCommand
from django_dcr.models import AuthorizationServer, ClientRegistration, owner_or_client_id_is
from tests.factories import (
    ENDPOINT,
    URI,
    client_information,
    make_draft,
    make_registration,
    make_server,
)
from tests.many import DAY, fill, multiply

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

pytestmark = pytest.mark.django_db

TABLE = ClientRegistration._meta.db_table
LIST = "/admin/django_dcr/clientregistration/"
ISSUER, OWNER, CLIENT = "https://as34.example", "owner 1034", "client-1034"

#: What the databases call looking at every row, or at every entry of an index.
_SCANS = {
    "sqlite": f"SCAN {TABLE}",
    "postgresql": f"Seq Scan on {TABLE}",
    "mysql": f"{TABLE} ALL",
}


@pytest.fixture(scope="module")
def many(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """More registrations than the admin counts; what a test adds to them is gone afterwards."""
    with django_db_blocker.unblock():
        fill(3000)
        multiply(5)
        _execute(
            {
                "sqlite": "ANALYZE",
                # Without it PostgreSQL looks into the rows even for what an index has.
                "postgresql": "VACUUM ANALYZE",
                "mysql": f"ANALYZE TABLE {TABLE}",
            }[connection.vendor]
        )
        User.objects.create_superuser("staff")
        yield
        for model in (ClientRegistration, AuthorizationServer):
            _execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608
        User.objects.all().delete()


def _execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _plans(act: Callable[[], object], part: str = "WHERE") -> list[str]:
    """How the database finds the registrations that ``act`` asks for, a text for each query."""
    asked: list[tuple[str, Any]] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # Without a condition it is the first rows that are asked for, or counted.
        if TABLE in sql and sql.startswith("SELECT") and part in sql:
            asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        act()
    return [_explained(sql, params) for sql, params in asked]


def _explained(sql: str, params: Any) -> str:
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}", params)
        rows = cursor.fetchall()
    if connection.vendor == "mysql":  # pragma: no cover - coverage is measured on SQLite
        # Which table, how it is searched, and by which index.
        return "\n".join(f"{row[2]} {row[3]} {row[5]}" for row in rows)
    return "\n".join(str(row[-1]) for row in rows)


def _page(query: str = "") -> Callable[[], None]:
    def show() -> None:
        staff = Client()
        staff.force_login(User.objects.get())
        assert staff.get(f"{LIST}?{query}").status_code == 200

    return show


def _command(*arguments: str) -> Callable[[], None]:
    return lambda: call_command(*arguments, stdout=io.StringIO(), stderr=io.StringIO())


def _check_health() -> None:
    with suppress(ServiceUnavailable):
        async_to_sync(Registrations().run)()


def _reconcile() -> None:
    list(ClientRegistration.objects.needs_reconciliation())
    assert ClientRegistration.objects.leases() == []


QUERIES = {
    "hit": (lambda: services.get_or_register(ISSUER, OWNER), ""),
    "a page of one state": (_page("status__exact=gone"), "dcr_status|dcr_expiry"),
    "a page of a mechanism": (_page("mechanism__exact=metadata_document"), ""),
    "a page of what differs": (_page("has_drift__exact=1"), "dcr_drift"),
    "a page of a server": (_page("server=4"), ""),
    "a page of expired secrets": (_page("expires=0"), "dcr_expiry"),
    "a page of what is to be renewed": (_page("expires=soon"), "dcr_expiry"),
    "a page of secrets with 30 days": (_page("expires=30"), "dcr_expiry"),
    "a search for an owner": (_page(f"q={OWNER}"), "dcr_owner"),
    "a search for a client ID": (_page(f"q={CLIENT}"), "dcr_client_id"),
    "a search for a server": (_page("q=as34.ex"), ""),
    "dcr_list --expiring": (_command("dcr_list", "--expiring", "7"), "dcr_expiry"),
    "dcr_list --owner": (_command("dcr_list", "--owner", OWNER), "dcr_owner"),
    "dcr_renew": (_command("dcr_renew", "--dry-run"), "dcr_expiry"),
    "dcr_reconcile": (_reconcile, "dcr_status"),
    "health check": (_check_health, "dcr_expiry"),
}
if django.VERSION < (6, 1):  # pragma: no cover - WHERE has_drift, for which SQLite takes no index
    del QUERIES["a page of what differs"]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(("act", "index"), QUERIES.values(), ids=QUERIES)
def test_rows_are_found_by_an_index(act: Callable[[], object], index: str) -> None:
    plans = _plans(act)
    assert plans
    for plan in plans:
        assert _SCANS[connection.vendor] not in plan, plan
    assert any(re.search(index, plan) for plan in plans), plans


@pytest.mark.only_on("sqlite", "postgres")
@pytest.mark.usefixtures("many")
def test_the_first_page_is_read_in_the_order_of_the_primary_key() -> None:
    ordered = {"sqlite": f"SCAN {TABLE}", "postgresql": "Index Scan Backward"}
    (plan,) = _plans(_page(), f"ORDER BY {connection.ops.quote_name(TABLE)}")
    # What follows are the subqueries, for the other rows of the same key.
    first = re.split("CORRELATED|SubPlan", plan)[0]
    assert ordered[connection.vendor] in first
    assert not re.search("TEMP B-TREE|Sort", first)


@pytest.mark.usefixtures("many")
def test_a_scrape_counts_the_entries_of_an_index_and_reads_no_row() -> None:
    alone = {
        "sqlite": "COVERING INDEX dcr_metrics",
        "postgresql": "Index Only Scan using dcr_metrics",
        "mysql": "index dcr_metrics",
    }
    metrics = pytest.importorskip("django_dcr.contrib.prometheus.metrics")
    plan, *others = _plans(lambda: list(metrics.Registrations().collect()))
    assert alone[connection.vendor] in plan
    assert not others


@pytest.mark.usefixtures("many")
def test_a_large_site_is_searched_for_whole_owners_and_client_ids_and_parts_of_servers() -> None:
    one = ClientRegistration.objects.get(owner_digest=digest(OWNER), owner=OWNER)
    assert _found(OWNER) == _found(CLIENT) == [one.pk]
    assert _found(OWNER[:-1]) != _found(OWNER)
    assert _found("ner 1034") == []
    assert set(_found("as34.ex")) == set(
        ClientRegistration.objects.filter(server__issuer=ISSUER).values_list("pk", flat=True)
    )


@pytest.mark.usefixtures("many")
def test_a_large_list_is_sorted_by_its_primary_key_alone() -> None:
    staff = Client()
    staff.force_login(User.objects.get(username="staff"))
    assert list(staff.get(LIST).context["cl"].sortable_by) == ["number"]


def _found(term: str) -> list[int]:
    rows = ClientRegistration.objects.order_by("pk")
    model_admin = admin.site.get_model_admin(ClientRegistration)
    found, _duplicates = model_admin.get_search_results(RequestFactory().get("/"), rows, term)
    return list(found.values_list("pk", flat=True))


def test_secrets_that_expire_are_listed_by_urgency() -> None:
    server = make_server()
    for name, days in (("late", 20), ("soon", 1), ("expired", -1)):
        expires_at = int(time.time()) + days * DAY
        make_registration(
            server=server, owner=name, client_id=name, client_secret_expires_at=expires_at
        )
    staff = Client()
    staff.force_login(User.objects.create_superuser("clerk"))

    def listed(query: str) -> list[str]:
        page = staff.get(f"{LIST}?server={server.pk}&{query}")
        return [row.owner for row in page.context["cl"].result_list]

    ClientRegistration.objects.filter(owner="late").update(client_secret_expires_at=1)
    assert listed("") == ["expired", "soon", "late"]
    assert listed("expires=30") == ["late", "expired", "soon"]


def test_a_row_that_an_earlier_release_inserts_is_found_by_its_owner() -> None:
    row = make_registration(owner="acme")
    other = make_registration(server=row.server, owner="b", client_id="c2")
    ClientRegistration.objects.update(owner_digest=None)
    ClientRegistration.objects.filter(pk=other.pk).update(owner_digest=digest("b"))
    assert ClientRegistration.objects.owned_by("acme").get() == row
    assert ClientRegistration.objects.owned_by("b").get() == other


def test_a_client_id_that_the_server_issues_can_be_searched_for(mocked_responses: Any) -> None:
    draft = make_draft()
    mocked_responses.post(ENDPOINT, json=client_information(client_id="issued"), status=201)
    services.register(draft)
    assert ClientRegistration.objects.get(owner_or_client_id_is("issued")) == draft
    mocked_responses.delete(URI, status=204)
    services.revoke(draft)
    assert ClientRegistration.objects.get(owner_or_client_id_is("issued")).status == "revoked"


@pytest.mark.usefixtures("many")
def test_rows_come_in_pages_each_of_them_once() -> None:
    rows = ClientRegistration.objects.filter(status="active", mechanism="dynamic")
    found = [row.pk for row in rows.only("pk").in_pages()]
    assert found == list(rows.order_by("pk").values_list("pk", flat=True))
    assert len(found) > 10_000


def test_what_a_command_inserts_it_does_not_work_on() -> None:
    server = make_server()
    for number in range(3):
        make_draft(server=server, owner=str(number))

    class Copying(WorkCommand):
        def copy(self, row: ClientRegistration) -> ClientRegistration:
            return make_draft(server=server, owner=f"copy of {row.owner}")

    command, rows = Copying(io.StringIO(), io.StringIO()), server.registrations.all()
    command.work(rows, command.copy, done="copied")
    assert rows.count() == 6
    assert command.stderr.getvalue().endswith("\n3 of 3 copied.\n")


def test_a_summary_tells_some_failures_once_more_and_counts_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "_MAX_NAMED", 5)  # not 2,000 rows for a test
    server = make_server()
    for number in range(8):
        make_draft(server=server, owner=str(number))

    def fail(row: ClientRegistration) -> ClientRegistration:
        raise ConflictError("It is busy")

    command = WorkCommand(io.StringIO(), io.StringIO())
    with pytest.raises(CommandError) as caught:
        command.work(server.registrations.all(), fail, done="done")
    first, *lines = str(caught.value).splitlines()
    assert first == "0 of 8 done. Failed:"
    assert (len(lines), lines[-1]) == (6, "  And 3 more, named above.")

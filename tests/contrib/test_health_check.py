"""The check for django-health-check, on the page and on the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client

from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.contrib.documentation import documented
from tests.factories import make_registration, make_server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

DAY = 24 * 60 * 60

urlpatterns = documented("monitoring.md", "health").urlpatterns


@pytest.fixture(autouse=True)
def _site(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


def health() -> tuple[int, str]:
    """The status of the page, and what it says of the registrations."""
    answer = Client().get("/health/", {"format": "json"})
    return answer.status_code, answer.json()["Registrations()"]


def expiring(days: float, **values: Any) -> ClientRegistration:
    return make_registration(client_secret_expires_at=int(time.time() + days * DAY), **values)


def test_a_site_without_registrations_is_well() -> None:
    assert health() == (200, "OK")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"client_secret_expires_at": 0}, id="never expires"),
        pytest.param({"client_secret_expires_at": None}, id="unknown expiry"),
        pytest.param({"last_error": "No answer."}, id="another failure than of a renewal due"),
        pytest.param({"status": "draft"}, id="draft"),
        pytest.param({"status": "rejected"}, id="rejected"),
        pytest.param({"status": "revoked", "live": None}, id="revoked"),
        pytest.param({"status": "unknown", "live": None}, id="a record of a lost answer"),
    ],
)
def test_what_needs_nobody_is_well(values: dict[str, Any]) -> None:
    make_registration(**values)
    assert health() == (200, "OK")


def test_a_secret_that_is_renewed_in_time_is_well() -> None:
    expiring(days=1)
    assert health() == (200, "OK")


def test_a_failure_before_renewal_is_due_is_well() -> None:
    expiring(days=8, last_error="No answer.")
    assert health() == (200, "OK")


def test_a_secret_that_could_not_be_renewed_is_not_well(settings: Settings) -> None:
    registration = expiring(days=6, last_error="No answer.")
    assert health() == (
        500,
        f"Unavailable: Client registrations {registration.pk} need attention. "
        "Each says why with: manage.py dcr_show ID",
    )
    settings.DCR_RENEW_BEFORE = 5 * DAY
    assert health() == (200, "OK")


def test_an_expired_secret_is_not_well() -> None:
    assert str(expiring(days=-1).pk) in health()[1]


def test_a_client_that_the_server_lost_is_not_well_until_a_person_decides() -> None:
    registration = make_registration(status="gone", live=None)
    assert str(registration.pk) in health()[1]
    registration.successor()
    assert health() == (200, "OK")


def test_a_client_that_was_lost_twice_is_named_once() -> None:
    first = make_registration(status="gone", live=None)
    second = make_registration(status="gone", live=None, server=first.server)
    assert f" {second.pk} need attention" in health()[1]


def test_a_lost_answer_is_not_well() -> None:
    assert str(make_registration(status="unknown").pk) in health()[1]


def test_a_server_that_is_disabled_worries_nobody() -> None:
    expiring(days=-1)
    AuthorizationServer.objects.update(enabled=False)
    assert health() == (200, "OK")


def test_an_open_page_shows_a_few_numbers_and_no_customer() -> None:
    server = make_server()
    rows = [
        expiring(days=-1, server=server, owner=f"customer-{number}", client_id=f"c{number}")
        for number in range(11)
    ]
    named = ", ".join(str(row.pk) for row in rows[:10])
    status, text = health()
    assert status == 500
    assert f"registrations {named} and more need" in text
    assert "customer" not in text


def test_it_takes_one_query(django_assert_num_queries: Any) -> None:
    expiring(days=-1)
    with django_assert_num_queries(1):
        health()


@pytest.mark.only_on("sqlite")  # every database explains otherwise
def test_its_query_reads_no_whole_table(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1) as queries:
        health()
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + queries.captured_queries[0]["sql"])
        plan = [detail for *_, detail in cursor.fetchall()]
    assert "SCAN" not in " ".join(plan)

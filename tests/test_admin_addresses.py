"""Numbers in addresses and forms that are those of no row: never a fault of the server's."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_dcr.admin.forms import primary_key
from django_dcr.models import ClientRegistration
from tests.cases import ALL, all_or
from tests.factories import make_registration, stored
from tests.test_admin import REGISTRATIONS, SERVERS, browser, notices
from tests.test_admin_form import grants

pytestmark = pytest.mark.django_db

NUMBERS = {
    "huge": "99999999999999999999999",
    "beyond 64 bits": str(2**63),
    "longer than int() reads": "9" * 5000,
    "negative": "-1",
    "zero": "0",
    "of another script": "٣",
    "superscript": "³",
    "a fraction": "1.5",
    "with an exponent": "1e3",
    "a word": "x",
    "NUL": "\0",
    "nothing": "",
}
ACTIONS = ("register", "read", "update", "renew", "retry", "revoke", "forget")


@pytest.fixture
def staff() -> Client:
    return browser()


# One for each way in which a number fails: int() refuses it, the database does, it is none.
SOME = all_or(NUMBERS, "longer than int() reads", "beyond 64 bits", "NUL", "of another script")


@pytest.fixture(params=SOME.values(), ids=SOME)
def number(request: pytest.FixtureRequest) -> str:
    """A number that no row has, although there are enough rows."""
    row = make_registration()
    for count in range(3):
        make_registration(server=row.server, owner=str(count), client_id=str(count))
    wanted: str = request.param
    return wanted


def test_a_primary_key_is_read_only_from_ascii_digits_that_fit_a_column() -> None:
    largest = "9" * 18
    assert [primary_key(text) for text in ("1", 7, largest)] == [1, 7, int(largest)]
    assert {primary_key(text) for text in (*NUMBERS.values(), None, " 1", "1\n", "+1", "1_0")} == {
        0
    }


def test_a_filter_by_an_invalid_server_is_no_error(staff: Client, number: str) -> None:
    response = staff.get(REGISTRATIONS, {"server": number})
    found = len(response.context["cl"].result_list)
    assert (response.status_code, found) == (200, 0 if number.isdecimal() else 4)
    assert staff.get(REGISTRATIONS, {"server": number, "_facets": "True"}).status_code == 200


def test_a_form_with_an_invalid_server_in_its_url_is_no_error(staff: Client, number: str) -> None:
    response = staff.get(f"{REGISTRATIONS}add/", {"server": number})
    assert response.status_code == 200
    assert "refresh_token" in grants(response.content.decode())  # the usual choices


def test_a_form_posted_with_an_invalid_server_is_refused(staff: Client, number: str) -> None:
    before = ClientRegistration.objects.count()
    response = staff.post(f"{REGISTRATIONS}add/", {"server": number, "grant_types": ["a", "b"]})
    assert response.status_code == 200
    assert "server" in response.context["adminform"].form.errors
    assert ClientRegistration.objects.count() == before


@pytest.mark.parametrize("name", ["expires", "q", "p"])
def test_malformed_parameters_of_a_list_are_no_error(staff: Client, number: str, name: str) -> None:
    for folder in (REGISTRATIONS, SERVERS):
        assert staff.get(folder, {name: number}).status_code in (200, 302)  # without it


@pytest.mark.parametrize("view", ["change", "history", "delete"])
def test_the_page_of_an_invalid_key_is_no_error(staff: Client, number: str, view: str) -> None:
    for folder in (REGISTRATIONS, SERVERS):
        answer = staff.get(f"{folder}{quote(number)}/{view}/")
        assert answer.status_code in (200, 302)  # 200, for Django takes "٣" for a 3


def test_an_invalid_primary_key_reveals_no_secret(staff: Client, number: str) -> None:
    answer = staff.post(f"{REGISTRATIONS}{quote(number)}/reveal/")
    assert answer.status_code in (200, 302, 404)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["read", "revoke", "delete_selected"])
@pytest.mark.parametrize("confirmed", [{}, {"_confirmed": "1"}], ids=["asked", "confirmed"])
def test_an_action_on_an_invalid_primary_key_does_nothing(
    staff: Client, number: str, action: str, confirmed: dict[str, str]
) -> None:
    fields = {"action": action, ACTION_CHECKBOX_NAME: [number, number], **confirmed}
    answer = staff.post(REGISTRATIONS, fields)
    assert action == "delete_selected" or notices(answer) == []
    assert not LogEntry.objects.exists()


def test_discovering_an_invalid_primary_key_does_nothing(staff: Client, number: str) -> None:
    fields = {"action": "discover", ACTION_CHECKBOX_NAME: [number]}
    assert notices(staff.post(SERVERS, fields)) == []


# -- reading never acts ----------------------------------------------------------------------------


@pytest.mark.parametrize("action", [*ACTIONS, "reveal", "discover", "delete_selected"])
def test_reading_any_page_writes_nothing_and_sends_nothing(staff: Client, action: str) -> None:
    """Fault A1: ``responses`` refuses what would be sent."""
    row = make_registration()
    folder, pk = (SERVERS, row.server_id) if action == "discover" else (REGISTRATIONS, row.pk)
    query = {
        "action": action,
        ACTION_CHECKBOX_NAME: [str(pk)],
        **dict.fromkeys(("_confirmed", "_then_delete", "_from_page", "post", "_save"), "1"),
    }
    paths = ["", f"{pk}/change/"]
    if ALL or action in ("revoke", "discover"):
        paths += ["add/", *(f"{pk}/{view}/" for view in ("history", "delete", "reveal"))]
    with CaptureQueriesContext(connection) as queries:
        for path in paths:
            for method in (staff.get, staff.head):
                assert method(folder + path, query).status_code in (200, 302, 405)
    assert {query["sql"].split()[0] for query in queries.captured_queries} == {"SELECT"}
    assert not stored(row).events.exists()

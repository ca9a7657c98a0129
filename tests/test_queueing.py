"""Handing work to the background, from commands and from the admin's list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import responses
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_dcr.admin import ClientRegistrationAdmin
from django_dcr.exceptions import NetworkError
from django_dcr.tasks import perform
from tests.factories import URI, client_information, make_registration, make_server, stored
from tests.test_commands import fail, fail_json, make_registrations, run, run_json

if TYPE_CHECKING:
    from django.http import HttpResponse
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 24 * 3600

#: What ``carry`` was given.
jobs: list[tuple[str, int]] = []


def carry(action: str, pk: int) -> None:
    """A runner that breaks down at the third job."""
    if len(jobs) == 2:
        raise NetworkError("The queue is down.")
    jobs.append((action, pk))


@pytest.fixture(autouse=True)
def _carried(settings: Settings) -> Any:
    settings.DCR_TASK_RUNNER = f"{__name__}.carry"
    yield
    jobs.clear()


# -- commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        (["dcr_read", "--all"], "read"),
        (["dcr_update", "--all"], "update"),
        (["dcr_renew", "--all"], "renew"),
        (["dcr_renew"], "renew_if_due"),
        (["dcr_renew", "--within", "3"], "renew"),
        (["dcr_revoke", "--all"], "revoke"),
        (["dcr_revoke", "--all", "--forget"], "forget"),
    ],
    ids=" ".join,
)
def test_a_command_hands_over_one_job_a_registration(arguments: list[str], action: str) -> None:
    expiry = int(timezone.now().timestamp()) + DAY
    rows = make_registrations(2, client_secret_expires_at=expiry)
    out, err = run(*arguments, "--queue")
    assert jobs == [(action, row.pk) for row in rows]
    assert err == "2 of 2 queued.\n"
    assert len(out.splitlines()) == 3, "a heading and the rows as they are"


def test_what_is_not_due_is_not_queued_unless_it_is_named() -> None:
    row = make_registration(client_secret_expires_at=int(timezone.now().timestamp()) + 90 * DAY)
    assert run_json("dcr_renew", "--queue") == []
    run("dcr_renew", row.pk, "--queue")
    assert jobs == [("renew", row.pk)]


def test_a_queued_update_asks_for_what_the_command_was_told(
    mocked_responses: responses.RequestsMock,
) -> None:
    """The wishes are on the row, since nothing but its key travels."""
    row = make_registration()
    run("dcr_update", row.pk, "--set", "client_name=Renamed", "--queue")
    assert stored(row).requested_metadata["client_name"] == "Renamed"
    assert stored(row).has_drift
    mocked_responses.get(URI, json=client_information())
    sent = responses.matchers.json_params_matcher({"client_name": "Renamed"}, strict_match=False)
    mocked_responses.put(URI, json=client_information(client_name="Renamed"), match=[sent])
    assert perform(*jobs[0]) is None
    assert not stored(row).has_drift


def test_a_wish_that_may_not_be_sent_is_not_queued() -> None:
    row = make_registration()
    sentence, (shown,) = fail_json("dcr_update", row.pk, "--set", "contacts=", "--set", "x=1")
    assert sentence
    sentence, _out = fail("dcr_update", row.pk, "--set", 'redirect_uris=["x"]', "--queue")
    assert f"  {row.pk}: " in sentence
    assert shown["id"] == row.pk
    assert jobs == []


def test_a_queue_that_breaks_down_ends_the_command() -> None:
    make_registrations(5)
    sentence, shown = fail_json("dcr_read", "--all", "--queue")
    assert sentence == "The queue is down. What was queued before stays queued."
    assert len(shown) == len(jobs) == 2


@pytest.mark.parametrize("command", ["dcr_read", "dcr_update", "dcr_renew", "dcr_revoke"])
def test_without_an_engine_a_command_says_what_to_set(settings: Settings, command: str) -> None:
    settings.DCR_TASK_RUNNER = "inline"
    make_registration()
    sentence, out = fail(command, "--all", "--queue")
    assert sentence.startswith('There is no queue: DCR_TASK_RUNNER is "inline".')
    assert '"celery", or leave out --queue' in sentence
    assert out == ""


# -- the admin ---------------------------------------------------------------------------------

CHANGELIST = "admin:django_dcr_clientregistration_changelist"


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


def act(browser: Client, action: str, *pks: int, **marks: str) -> HttpResponse:
    form = {"action": action, "_selected_action": list(pks), **marks}
    return browser.post(reverse(CHANGELIST), form)


def told(response: HttpResponse) -> list[tuple[str, str]]:
    found = get_messages(response.wsgi_request)
    return [(message.level_tag, str(message)) for message in found]


def test_the_list_hands_over_one_job_a_row(browser: Client) -> None:
    rows = make_registrations(2)
    response = act(browser, "renew", *[row.pk for row in rows], _confirmed="1")
    assert sorted(jobs) == [("renew", row.pk) for row in rows]
    assert told(response) == [
        ("info", "Renew the secret: 2 queued. The outcome of each is in its history.")
    ]
    entries = LogEntry.objects.values_list("object_id", "change_message", "user__username")
    assert sorted(entries) == [(str(row.pk), "Renew the secret: queued.", "ann") for row in rows]


def test_the_list_asks_before_it_hands_over(browser: Client) -> None:
    row = make_registration()
    assert b"This is what will happen" in act(browser, "renew", row.pk).content
    assert jobs == []


def test_a_queue_that_breaks_down_is_told_with_what_was_queued(browser: Client) -> None:
    rows = make_registrations(3)
    response = act(browser, "read", *[row.pk for row in rows], _confirmed="1")
    assert told(response) == [
        ("error", "The queue is down."),
        ("info", "Read from the server: 2 queued. The outcome of each is in its history."),
    ]


def test_a_queue_that_is_down_from_the_start_is_told_alone(browser: Client) -> None:
    row = make_registration()
    jobs.extend([("read", 1), ("read", 2)])
    assert told(act(browser, "read", row.pk, _confirmed="1")) == [("error", "The queue is down.")]
    assert not LogEntry.objects.exists()


def test_a_rows_own_page_waits_for_the_outcome(
    browser: Client, mocked_responses: responses.RequestsMock
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    response = act(browser, "read", row.pk, _from_page="1")
    assert [level for level, _text in told(response)] == ["success"]
    assert jobs == []


def test_more_rows_may_be_queued_than_a_request_works_on(
    browser: Client, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """A8: bounded all the same."""
    monkeypatch.setattr(ClientRegistrationAdmin, "action_max_rows", 1)
    monkeypatch.setattr(ClientRegistrationAdmin, "action_max_queued", 2)
    pks = [row.pk for row in make_registrations(3)]
    assert "at most 2 rows" in told(act(browser, "read", *pks, _confirmed="1"))[0][1]
    assert jobs == []
    act(browser, "read", *pks[:2], _confirmed="1")
    assert len(jobs) == 2
    settings.DCR_TASK_RUNNER = "inline"
    assert "at most 1 rows" in told(act(browser, "read", *pks[:2], _confirmed="1"))[-1][1]


def test_who_may_not_renew_may_not_queue_it(browser: Client) -> None:
    row = make_registration(server=make_server())
    browser.force_login(User.objects.create_user("bob", is_staff=True))
    act(browser, "renew", row.pk, _confirmed="1")
    assert jobs == []

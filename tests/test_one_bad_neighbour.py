"""A server that does not answer costs a run two requests, and the rows of others nothing."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
import responses
from django.contrib.auth.models import User
from django.test import Client

from django_dcr import services
from django_dcr.exceptions import NetworkError
from django_dcr.management.work import Keys, Schedule
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.runs import Run, current_run, one_run
from django_dcr.transport import is_silence
from django_dcr.transport.exchange import BROKEN_OFF, MALFORMED, TIMED_OUT, TLS_FAILED, UNSENDABLE
from tests.factories import client_information, make_registration, make_server, stored
from tests.test_admin import act, notices
from tests.test_commands import fail, fail_json, run

Stubs = responses.RequestsMock

GOOD, BAD = "https://good.example", "https://bad.example"


def make_rows(*issuers: str, **values: Any) -> list[ClientRegistration]:
    """A registration at each of the servers, in this order; a server may come again."""
    return [
        make_registration(
            server=AuthorizationServer.objects.filter(issuer=issuer).first()
            or make_server(issuer=issuer, metadata={"issuer": issuer}),
            owner=f"o{number}",
            client_id=f"c{number}",
            registration_client_uri=f"{issuer}/register/c{number}",
            **values,
        )
        for number, issuer in enumerate(issuers)
    ]


def serve(stubs: Stubs, rows: list[ClientRegistration], *methods: str) -> Counter[str]:
    """Let the good server answer and the bad one hang up; count what they are asked."""
    asked: Counter[str] = Counter()

    def answer(request: Any) -> Any:
        issuer, _, client_id = str(request.url).partition("/register/")
        asked[issuer] += 1
        if issuer == BAD:
            raise requests.ReadTimeout
        uri = f"{issuer}/register/{client_id}"
        named = client_information(client_id=client_id, registration_client_uri=uri)
        return 200, {}, json.dumps(named)

    stubs.assert_all_requests_are_fired = False
    for row in rows:
        for method in methods or ("GET",):
            stubs.add_callback(method, row.registration_client_uri, answer)
    return asked


ORDERS = {
    "first": [BAD] * 5 + [GOOD] * 5,
    "last": [GOOD] * 5 + [BAD] * 5,
    "mixed": [BAD, GOOD] * 5,
}


@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("order", ORDERS)
def test_the_rows_of_other_servers_are_worked_on_meanwhile(
    order: str, workers: int, mocked_responses: Stubs
) -> None:
    """At most two requests of a server that does not answer; the rest of its rows is named."""
    rows = make_rows(*ORDERS[order])
    asked = serve(mocked_responses, rows)
    sentence, shown = fail_json("dcr_read", "--all", "--workers", workers)
    assert asked == {GOOD: 5, BAD: 2}
    first, *lines = sentence.splitlines()
    assert first == "5 of 10 read. Failed:"
    failed = {line.partition(":")[0].strip() for line in lines[:2]}
    left = lines[2].strip().removesuffix(f": left for later, since {BAD} did not answer.")
    bad = {str(row.pk) for row in rows if row.server.issuer == BAD}
    assert failed | set(left.split(", ")) == bad
    assert len(lines) == 3
    errors = {row["id"]: row["error"] for row in shown}
    assert errors.keys() == {row.pk for row in rows}
    assert Counter(str(error) for error in errors.values()) == {
        "None": 5,
        BROKEN_OFF: 2,
        "Left for later, since the server did not answer.": 3,
    }


@pytest.mark.django_db
def test_skipped_rows_keep_their_status_for_the_next_run(mocked_responses: Stubs) -> None:
    """An old failure is no reason to leave rows out: who runs a command asks at once."""
    rows = make_rows(*[BAD] * 4)
    asked = serve(mocked_responses, rows)
    for times in (2, 4):
        fail("dcr_read", *(row.pk for row in rows))
        assert asked[BAD] == times
    assert [bool(stored(row).last_error) for row in rows] == [True, True, False, False]
    assert not any(stored(row).lease for row in rows)
    for row in rows:
        about = {
            "client_id": row.client_id,
            "registration_client_uri": row.registration_client_uri,
        }
        uri = row.registration_client_uri
        mocked_responses.replace("GET", uri, json=client_information(**about))
    assert run("dcr_read", "--all")[1] == "4 of 4 read.\n"
    assert AuthorizationServer.objects.get().failure is None


@pytest.mark.django_db
def test_an_answer_with_an_error_is_an_answer(mocked_responses: Stubs) -> None:
    rows = make_rows(*[BAD] * 4)
    for row in rows:
        mocked_responses.get(row.registration_client_uri, status=500)
    sentence, _ = fail("dcr_read", "--all")
    assert len(mocked_responses.calls) == 4
    assert "left for later" not in sentence


@pytest.mark.django_db
def test_forgetting_needs_no_answer(mocked_responses: Stubs) -> None:
    rows = make_rows(*[BAD] * 4)
    asked = serve(mocked_responses, rows, "DELETE")
    assert run("dcr_revoke", "--all", "--forget")[1] == "4 of 4 revoked.\n"
    assert asked[BAD] == 2
    assert {stored(row).status for row in rows} == {"revoked"}
    assert "failed to answer 2 times, so nothing more was sent to it" in stored(rows[3]).last_error


@pytest.mark.django_db
def test_settling_asks_a_server_that_does_not_answer_twice(mocked_responses: Stubs) -> None:
    rows = make_rows(*[BAD] * 4, status="revoking")
    asked = serve(mocked_responses, rows, "DELETE")
    sentence, _ = fail("dcr_reconcile")
    assert asked[BAD] == 2
    assert sentence.startswith("0 of 4 settled. Not settled:")
    assert {stored(row).status for row in rows} == {"revoking"}
    assert current_run() is None


@pytest.mark.django_db
def test_decisions_are_carried_out_although_a_server_does_not_answer(
    mocked_responses: Stubs,
) -> None:
    rows = make_rows(*[BAD] * 4, status="unknown")
    serve(mocked_responses, rows, "DELETE")
    flags = [flag for row in rows for flag in ("--forget", row.pk)]
    assert run("dcr_reconcile", *flags)[1] == "4 of 4 decided.\n"


@pytest.mark.django_db
def test_a_row_that_was_removed_is_not_left_for_later(mocked_responses: Stubs) -> None:
    rows = make_rows(*[BAD] * 3)
    mocked_responses.get(rows[0].registration_client_uri, body=requests.ReadTimeout())

    def remove(_request: Any) -> Any:
        ClientRegistration.objects.filter(pk=rows[2].pk).delete()
        raise requests.ReadTimeout

    mocked_responses.add_callback("GET", rows[1].registration_client_uri, remove)
    sentence, _ = fail("dcr_read", "--all")
    assert sentence.endswith(f"  {rows[2].pk}: Left for later, since the server did not answer.")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("action", "method", "left"), [("read", "GET", True), ("forget", "DELETE", False)]
)
def test_the_admins_list_leaves_them_for_later_too(
    action: str, method: str, left: bool, mocked_responses: Stubs
) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    rows = make_rows(BAD, BAD, BAD, GOOD, BAD)
    asked = serve(mocked_responses, rows, method)
    messages = notices(act(staff, action, *rows, _confirmed="1"))
    assert asked[BAD] == 2
    assert asked[GOOD] == 1
    text = "Skipped, because their server did not respond: "
    found = [message.removeprefix(text) for message in messages if message.startswith(text)]
    named = {str(rows[0].pk), str(rows[1].pk)}  # the newest come first
    assert [set(each.rstrip(".").split(", ")) for each in found] == [named] * left
    assert (stored(rows[0]).status == "active") is left


# -- what is counted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NetworkError(TIMED_OUT), True),
        (NetworkError(TIMED_OUT, status=200), True),
        (NetworkError(TLS_FAILED), True),
        (NetworkError(TLS_FAILED, status=200), False),
        (NetworkError(MALFORMED), False),
        (NetworkError(UNSENDABLE), False),
    ],
)
def test_only_time_outs_and_failed_connections_count(error: NetworkError, expected: bool) -> None:
    """Not what concerns one row alone, such as a token that no header may hold."""
    assert is_silence(error) is expected


def test_a_server_is_silent_after_two_requests_without_an_answer() -> None:
    run = Run()
    run.note_silence(7)
    assert not run.is_silent(7)
    run.note_silence(7)
    assert run.is_silent(7)
    assert not run.is_silent(8)


def test_a_run_inside_of_another_is_part_of_it() -> None:
    with one_run() as outer:
        with one_run() as inner:
            assert inner is outer
        assert current_run() is outer
    assert current_run() is None


@pytest.mark.django_db
def test_in_a_run_no_more_is_sent_to_a_server_that_did_not_answer_twice(
    mocked_responses: Stubs,
) -> None:
    rows = make_rows(BAD, BAD, BAD, GOOD)
    asked = serve(mocked_responses, rows)
    with one_run():
        for row in rows[:3]:
            with pytest.raises(NetworkError) as caught:
                services.read(row)
        assert services.read(rows[3]).status == "active"
    assert str(caught.value).startswith(
        f"{BAD} failed to answer 2 times, so nothing more was sent to"
    )
    assert (caught.value.sent, caught.value.issuer, caught.value.step) == (False, BAD, "read")
    assert asked == {GOOD: 1, BAD: 2}
    with suppress(NetworkError):
        services.read(stored(rows[0]))
    assert asked[BAD] == 3, "outside of a run who asks by name asks"


# -- the order of rows ---------------------------------------------------------------------------


@pytest.fixture
def run_() -> Iterator[Run]:
    with one_run() as run:
        yield run


def start(schedule: Schedule, number: int) -> list[Keys | None]:
    return [schedule.next_row() for _ in range(number)]


def test_before_its_first_answer_a_server_gets_two_rows_at_most(run_: Run) -> None:
    schedule = Schedule([*((number, 1) for number in range(5)), (9, 2)], run_)
    assert start(schedule, 4) == [(0, 1), (1, 1), (9, 2), None]
    run_.note_answer(1)
    schedule.finish((0, 1))
    assert start(schedule, 4) == [(2, 1), (3, 1), (4, 1), None]


def test_a_row_that_sends_nothing_lets_one_other_begin(run_: Run) -> None:
    schedule = Schedule([(number, 1) for number in range(4)], run_)
    assert start(schedule, 3) == [(0, 1), (1, 1), None]
    schedule.finish((0, 1))
    assert start(schedule, 2) == [(2, 1), None]
    schedule.finish((1, 1))
    assert start(schedule, 2) == [(3, 1), None]


def test_after_one_request_without_an_answer_one_row_may_try(run_: Run) -> None:
    schedule = Schedule([(number, 1) for number in range(4)], run_)
    for keys in start(schedule, 2):
        assert keys is not None
        assert schedule.next_row() is None
        run_.note_silence(1)
        schedule.finish(keys)
    assert {*start(schedule, 2)} == {(2, 1), (3, 1)}, "to be listed as left"
    assert schedule.next_row() is None


def test_each_row_is_returned_once_and_no_server_gets_more_than_two_at_a_time(run_: Run) -> None:
    rows = [(number, number % 7) for number in range(300)]
    schedule = Schedule(rows, run_)
    returned: list[Keys] = []
    running: deque[Keys] = deque()
    while len(returned) < len(rows):
        keys = schedule.next_row() if len(running) < 8 else None
        if keys is None:
            schedule.finish(running.popleft())
        else:
            returned.append(keys)
            running.append(keys)
        assert max(Counter(server for _pk, server in running).values(), default=0) <= 2
    assert sorted(returned) == rows
    assert schedule.next_row() is None


def test_no_more_than_some_rows_are_passed_over_for_those_of_other_servers(run_: Run) -> None:
    rows = ((number, 1) for number in range(20_000))
    schedule = Schedule(rows, run_)
    assert start(schedule, 3) == [(0, 1), (1, 1), None]
    assert next(rows) == (2 + 10_000, 1)
    run_.note_answer(1)
    schedule.finish((0, 1))
    assert schedule.next_row() == (2, 1)

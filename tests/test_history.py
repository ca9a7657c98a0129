"""The history that a registration's row keeps of itself."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from responses import RequestsMock

from django_dcr.exceptions import DCRError
from django_dcr.models import ClientRegistration, Status, acting
from django_dcr.models.history import MAX_EVENTS, extended
from django_dcr.services import read, reconcile, register, renew, retry, revoke, update
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db


def events(row: ClientRegistration) -> list[tuple[str, str]]:
    """The steps and outcomes that the stored row tells of."""
    return [(event["step"], event["outcome"]) for event in stored(row).history]


def test_an_event_says_when_who_what_and_how_it_ended() -> None:
    with acting("ann"):
        [event] = extended([], "register", "active")
    at = datetime.fromisoformat(event.pop("at"))
    assert timedelta() <= datetime.now(tz=timezone.utc) - at < timedelta(minutes=1)
    assert event == {"who": "ann", "step": "register", "outcome": "active"}


def test_only_the_last_events_are_kept_with_the_newest_at_the_end() -> None:
    history: list[dict[str, str]] = []
    for number in range(MAX_EVENTS + 2):
        history = extended(history, str(number), "active")
    assert [event["step"] for event in history] == [str(n) for n in range(2, MAX_EVENTS + 2)]


def test_a_name_holds_inside_its_block_only_and_is_cleaned() -> None:
    with acting("outer"):
        with suppress(ZeroDivisionError), acting("in\u202e\x00ner\n" + 200 * "x"):
            assert extended([], "read", "active")[0]["who"] == "inner " + 143 * "x" + "…"
            raise ZeroDivisionError
        assert extended([], "read", "active")[0]["who"] == "outer"
    assert extended([], "read", "active")[0]["who"] == ""


def test_each_step_of_a_life_is_one_event(mocked_responses: RequestsMock) -> None:
    row = make_draft()
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    register(row)
    mocked_responses.get(URI, json=client_information())
    read(row)
    mocked_responses.put(URI, json=client_information())
    update(row)
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    renew(row)
    mocked_responses.delete(URI, status=204)
    revoke(row)
    told = [
        ("register", "active"),
        ("read", "active"),
        ("update", "active"),
        ("renew", "active: new secret"),
        ("revoke", "revoked"),
    ]
    assert events(row) == told
    assert row.history == stored(row).history


def test_a_refusal_is_told_by_our_own_words(mocked_responses: RequestsMock) -> None:
    row = make_draft()
    refusal = {"error": "invalid_redirect_uri", "error_description": "the server's words"}
    mocked_responses.post(ENDPOINT, json=refusal, status=400)
    with suppress(DCRError):
        register(row)
    assert events(row) == [("register", "rejected: RequestRejectedError")]
    assert "words" not in json.dumps(stored(row).history)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "active: RequestRejectedError"), (404, "gone: RegistrationGoneError")],
)
def test_a_failure_tells_the_state_it_leaves(
    mocked_responses: RequestsMock, status: int, outcome: str
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json={"error": "invalid_request"}, status=status)
    with suppress(DCRError):
        read(row)
    assert events(row) == [("read", outcome)]


def test_a_replaced_client_and_its_successor_tell_of_the_renewal(
    mocked_responses: RequestsMock,
) -> None:
    row = make_registration(client_secret_expires_at=1)
    again = client_information(client_secret_expires_at=1)
    mocked_responses.get(URI, json=again)
    mocked_responses.put(URI, json=again)
    new = client_information(client_id="c2", registration_client_uri=f"{ENDPOINT}/c2")
    mocked_responses.post(ENDPOINT, json=new, status=201)
    mocked_responses.delete(URI, status=204)
    successor = renew(row)
    assert events(successor) == [("register", "active")]
    assert events(row) == [
        ("renew", "active: no new secret"),
        ("renew", "revoking"),
        ("revoke", "revoked"),
    ]


def test_forgetting_and_trying_again_are_told_apart(mocked_responses: RequestsMock) -> None:
    row = make_registration(status="gone", live=None, client_digest=None)
    mocked_responses.post(ENDPOINT, json=client_information(client_id="c2"), status=201)
    mocked_responses.delete(URI, status=405)
    successor = retry(row)
    revoke(row, forget=True)
    asked = ("revoke", "gone: UnsupportedError")
    assert events(row) == [("retry", "gone"), asked, ("forget", "revoked")]
    assert events(successor) == [("register", "active")]


def test_an_intent_that_was_left_behind_is_settled_by_name() -> None:
    row = make_draft(status=Status.REGISTERING)
    with acting("cron"):
        reconcile()
    assert events(row) == [("reconcile", "unknown")]
    assert stored(row).history[0]["who"] == "cron"


def test_a_command_signs_with_its_name(mocked_responses: RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    call_command("dcr_read", str(row.pk), stdout=StringIO(), stderr=StringIO())
    assert stored(row).history[0]["who"] == "manage.py dcr_read"


def test_a_note_is_an_event_that_changes_nothing() -> None:
    row = make_registration(status="gone")
    assert row.note("reveal")
    assert events(row) == [("reveal", "gone")]
    assert stored(row).lease == ""


def test_no_note_is_written_on_a_row_that_another_process_holds() -> None:
    row = make_registration()
    assert stored(row).claim(Status.ACTIVE)
    assert not row.note("reveal")
    assert events(row) == []


def test_the_history_costs_no_query(mocked_responses: RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    with CaptureQueriesContext(connection) as queries:
        read(row)
    writes = [q["sql"] for q in queries if q["sql"].startswith("UPDATE")]
    assert len(writes) == 2
    assert "history" in writes[1]


@pytest.mark.parametrize(
    ("granted", "drifts"),
    [({"client_name": "Other"}, True), ({}, False)],
    ids=["another name", "as asked"],
)
def test_an_answer_says_whether_the_client_drifts(
    mocked_responses: RequestsMock, granted: dict[str, str], drifts: bool
) -> None:
    row = make_registration(has_drift=not drifts)
    mocked_responses.get(URI, json=client_information(**granted))
    read(row)
    assert stored(row).has_drift is drifts


@pytest.mark.parametrize(
    ("wishes", "defaults"),
    [(["no object"], {}), (WISHES, "no object")],
    ids=["of the row", "of the settings"],
)
def test_an_answer_is_stored_although_what_is_asked_cannot_be_told(
    mocked_responses: RequestsMock, settings: Settings, wishes: object, defaults: object
) -> None:
    """Promise 2: a new token is committed before anything else is judged."""
    row = make_registration(requested_metadata=wishes)
    settings.DCR_CLIENT_METADATA = defaults
    mocked_responses.get(URI, json=client_information(registration_access_token="t2"))
    read(row)
    assert stored(row).holds("registration_access_token", "t2")
    assert ISSUER in str(row)

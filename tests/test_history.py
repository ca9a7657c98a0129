"""The events of a registration."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone
from responses import RequestsMock

from django_dcr import models
from django_dcr.exceptions import DCRError
from django_dcr.models import ClientRegistration, RegistrationEvent, Status, actor
from django_dcr.models.registrationevent import MAX_EVENTS, record
from django_dcr.services import read, reconcile, register, renew, retry, revoke, update
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WISHES,
    client_information,
    events_of,
    make_draft,
    make_registration,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db


def events(row: ClientRegistration) -> list[tuple[str, str]]:
    """The actions of the stored events, and how each ended."""
    return [
        (event.action, f"{event.outcome}: {event.error}" if event.error else event.outcome)
        for event in events_of(row)
    ]


def test_an_event_says_when_who_what_and_how_it_ended() -> None:
    row = make_registration()
    with actor("ann"):
        record(row, "register", "active")
    [event] = events_of(row)
    assert timedelta() <= timezone.now() - event.at < timedelta(minutes=1)
    assert (event.actor, event.action, event.outcome) == ("ann", "register", "active")
    assert (event.error, event.new_secret, str(event)) == ("", None, "register: active")


def test_only_the_last_events_of_each_registration_are_kept() -> None:
    row = make_registration()
    other = make_registration(server=row.server, owner="b", client_id="c2")
    record(other, "read", "active")
    for number in range(MAX_EVENTS + 2):
        record(row, str(number), "active")
    assert [event.action for event in events_of(row)] == [str(n) for n in range(2, MAX_EVENTS + 2)]
    assert len(events_of(other)) == 1


def test_a_name_holds_inside_its_block_only_and_is_cleaned() -> None:
    row = make_registration()
    with actor("outer"):
        with suppress(ZeroDivisionError), actor("in\u202e\x00ner\n" + 200 * "x"):
            record(row, "read", "active")
            raise ZeroDivisionError
        record(row, "read", "active")
    record(row, "read", "active")
    names = [event.actor for event in events_of(row)]
    assert names == ["inner " + 143 * "x" + "…", "outer", ""]


def test_an_event_that_cannot_be_written_undoes_nothing(
    mocked_responses: RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information(client_secret="s2"))

    def refuse(execute: Any, sql: str, *arguments: Any) -> Any:
        if "registrationevent" in sql:
            raise OperationalError("no room")
        return execute(sql, *arguments)

    with connection.execute_wrapper(refuse):
        read(row)
    assert stored(row).secret_equals("client_secret", "s2")
    assert f"No event was written for registration {row.pk}: no room" in caplog.text
    assert events(row) == []


def test_the_old_name_of_actor_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="is called actor"):
        assert models.acting is actor
    with pytest.raises(AttributeError, match="no attribute 'another'"):
        models.another  # noqa: B018


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
        ("renew", "active"),
        ("revoke", "revoked"),
    ]
    assert events(row) == told
    assert [event.new_secret for event in events_of(row)] == [None, None, None, True, None]


def test_a_refusal_is_told_by_our_own_words(mocked_responses: RequestsMock) -> None:
    row = make_draft()
    refusal = {"error": "invalid_redirect_uri", "error_description": "the server's words"}
    mocked_responses.post(ENDPOINT, json=refusal, status=400)
    with suppress(DCRError):
        register(row)
    assert events(row) == [("register", "rejected: RequestRejectedError")]
    assert "words" not in json.dumps(list(RegistrationEvent.objects.values()), default=str)


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
        ("renew", "active"),
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
    with actor("cron"):
        reconcile()
    assert events(row) == [("reconcile", "unknown")]
    assert events_of(row)[0].actor == "cron"


def test_a_command_signs_with_its_name(mocked_responses: RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    call_command("dcr_read", str(row.pk), stdout=StringIO(), stderr=StringIO())
    assert events_of(row)[0].actor == "manage.py dcr_read"


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
    assert stored(row).secret_equals("registration_access_token", "t2")
    assert ISSUER in str(row)


def shown(*arguments: str, **streams: Any) -> str:
    out = streams.get("out") or StringIO()
    call_command("dcr_show", *arguments, stdout=out, stderr=StringIO())
    return str(out.getvalue())


def test_the_history_is_shown_with_the_oldest_first() -> None:
    row = make_registration()
    with actor("ann"):
        record(row, "register", "active", note="metadata_document: not offered")
    record(row, "renew", "active", error="NetworkError", new_secret=False)
    names, first, second = shown(str(row.pk), "--history").splitlines()
    assert names.split("\t") == [
        *("at", "actor", "action", "outcome", "error", "new_secret", "note")
    ]
    assert first.split("\t")[1:4] == ["ann", "register", "active"]
    assert second.split("\t")[2:6] == ["renew", "active", "NetworkError", "False"]
    told = json.loads(shown(str(row.pk), "--history", "--format", "json"))
    assert [event["action"] for event in told] == ["register", "renew"]
    assert told[0]["note"] == "metadata_document: not offered"
    assert told[1]["new_secret"] is False


def test_a_history_without_events_says_so_to_a_person() -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    assert shown(str(make_registration().pk), "--history", out=Terminal()) == "No events.\n"

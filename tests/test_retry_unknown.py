"""``AuthorizationServer.retry_unknown``: what was not answered is registered again by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import responses
from django.db import connection
from django.utils import timezone

from django_dcr.exceptions import ConflictError, InvalidResponseError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import get_or_register
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.factories import (
    ENDPOINT,
    ISSUER,
    WISHES,
    client_information,
    in_threads,
    make_draft,
    make_server,
    stored,
)

pytestmark = pytest.mark.django_db


def lost(age: float = 0, **values: Any) -> ClientRegistration:
    """A registration whose answer was lost ``age`` seconds ago."""
    row = make_draft(status="unknown", requested_metadata=WISHES, **values)
    moment = timezone.now() - timedelta(seconds=age)
    ClientRegistration.objects.filter(pk=row.pk).update(updated_at=moment)
    return row


def test_without_the_operators_word_a_person_decides() -> None:
    lost(age=100_000)
    with pytest.raises(ConflictError, match="dcr_reconcile --retry") as caught:
        get_or_register(ISSUER)
    assert caught.value.retry_after is None


def test_during_the_pause_nothing_is_sent_and_the_error_says_until_when(settings: Any) -> None:
    settings.DCR_BACKOFF = 3000
    row = lost(age=1000, server=make_server(retry_unknown=True))
    with pytest.raises(ConflictError) as caught:
        get_or_register(ISSUER)
    seconds = caught.value.retry_after
    assert f"registered again automatically in {seconds} seconds" in str(caught.value)
    assert (1000 < (seconds or 0) <= 2000, caught.value.step) == (True, "register")
    assert f"--retry {row.pk}" in str(caught.value)


def test_after_the_pause_a_new_client_is_registered_and_the_lost_one_stays_on_record(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = lost(age=31, server=make_server(retry_unknown=True))
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    registration = get_or_register(ISSUER)
    assert (registration.status, registration.requested_metadata) == ("active", WISHES)
    row = stored(row)
    assert (row.status, row.live) == ("unknown", None)


def test_each_lost_answer_doubles_the_pause(mocked_responses: responses.RequestsMock) -> None:
    server = make_server(retry_unknown=True)
    lost(age=31, server=server)
    mocked_responses.post(ENDPOINT, json={"oops": True}, status=201)
    with pytest.raises(InvalidResponseError):
        get_or_register(ISSUER)
    with pytest.raises(ConflictError) as caught:
        get_or_register(ISSUER)
    assert 30 < (caught.value.retry_after or 0) <= 60


def test_no_number_of_lost_answers_makes_it_longer_than_an_hour() -> None:
    server = make_server(retry_unknown=True)
    for _ in range(30):
        lost(server=server, live=None)
    lost(server=server)
    with pytest.raises(ConflictError) as caught:
        get_or_register(ISSUER)
    assert 3000 < (caught.value.retry_after or 0) <= 3600


def test_a_clock_that_was_set_back_does_not_prolong_the_pause(
    mocked_responses: responses.RequestsMock,
) -> None:
    lost(age=-3600, server=make_server(retry_unknown=True))
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    assert get_or_register(ISSUER).status == "active"


@pytest.mark.parametrize("draft", [True, False], ids=["another has begun", "another has revoked"])
def test_what_another_process_has_done_meanwhile_counts(draft: bool, settings: Any) -> None:
    settings.DCR_TIMEOUT = -1.9  # waiting is for 2 s longer
    server = make_server(retry_unknown=True)
    row = lost(age=31, server=server)
    changes = iter([row])

    def meanwhile(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if "COUNT(" in sql and next(changes, None):
            ClientRegistration.objects.update(live=None, status="revoked")
            if draft:
                make_draft(server=server)
        return result

    with connection.execute_wrapper(meanwhile), pytest.raises(ConflictError, match="is closed"):
        get_or_register(ISSUER)


@pytest.mark.network
@pytest.mark.django_db(transaction=True)
def test_of_several_processes_one_registers_again(
    authorization_server: FakeServer, settings: Any, database_file: Any
) -> None:
    settings.DCR_BACKOFF = 0
    server = AuthorizationServer.objects.for_issuer(authorization_server.issuer)
    server.retry_unknown = True
    server.save()
    lost(server=server)

    def ask() -> str:
        return get_or_register(authorization_server.issuer).client_id

    outcomes = in_threads(*[ask] * 4)
    assert len({*outcomes}) == 1
    assert authorization_server.asked("POST") == 1
    assert ClientRegistration.objects.filter(live=True).count() == 1

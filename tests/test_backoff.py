"""Failures are remembered on their rows, and not retried until a pause has passed."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
import responses
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from django_dcr import services
from django_dcr.admin import ClientRegistrationAdmin
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import discover, for_login, get_or_register, register
from django_dcr.tasks import MAX_TRIES, perform
from tests.factories import (
    APPENDED_OPENID,
    ENDPOINT,
    ISSUER,
    URI,
    WELL_KNOWN,
    WELL_KNOWN_OPENID,
    WISHES,
    client_information,
    in_threads,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries, Settings

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock

REFUSAL = {"error": "invalid_redirect_uri", "error_description": "not on the list"}
LOGIN = {
    "authorization_endpoint": "https://as.example/authorize",
    "token_endpoint": "https://as.example/token",
}


def let_pass(seconds: float) -> None:
    """Move what the rows remember into the past, as if so much time had gone by."""
    for model in (AuthorizationServer, ClientRegistration):
        for row in model.objects.exclude(retry_at=None):
            earlier = row.retry_at - timedelta(seconds=seconds)
            model.objects.filter(pk=row.pk).update(retry_at=earlier)


@contextmanager
def claimed_first(rival: ClientRegistration | AuthorizationServer) -> Iterator[None]:
    """Let ``rival``, another process's copy of a row, claim its retry before the first UPDATE."""
    rivals = iter([rival])

    def meanwhile(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE"):
            for each in rivals:
                assert each.claim_retry()
        return execute(sql, *rest)

    with connection.execute_wrapper(meanwhile):
        yield


def ask(**options: Any) -> DCRError:
    """Return what ``get_or_register`` raises."""
    with pytest.raises(DCRError) as caught:
        get_or_register(ISSUER, **{"metadata": WISHES, **options})
    return caught.value


def refused(stubs: Stubs, **answer: Any) -> DCRError:
    """Let the server refuse the registration of a new key."""
    if not AuthorizationServer.objects.exists():
        make_server()
    stubs.post(ENDPOINT, **{"status": 400, "json": REFUSAL, **answer})
    return ask()


def assert_is_remembered(again: DCRError, first: DCRError, *, most: float) -> None:
    assert type(again) is type(first)
    assert str(again) == str(first)
    for name in ("issuer", "step", "status", "error", "error_description", "sent", "attempts"):
        assert getattr(again, name, None) == getattr(first, name, None)
    assert again.retry_after is not None
    assert most - 5 < again.retry_after <= most


# -- a refused registration ----------------------------------------------------------------------


def test_five_page_views_send_one_registration_that_is_refused(mocked_responses: Stubs) -> None:
    first = refused(mocked_responses)
    assert isinstance(first, RequestRejectedError)
    for _ in range(4):
        assert_is_remembered(ask(), first, most=30)
    assert len(mocked_responses.calls) == 1


def test_a_remembered_refusal_costs_one_query(
    mocked_responses: Stubs, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    refused(mocked_responses)
    with django_assert_num_queries(1):
        ask()


def test_after_the_pause_it_is_sent_again_and_each_pause_is_twice_the_last(
    mocked_responses: Stubs,
) -> None:
    first = refused(mocked_responses)
    for number, pause in enumerate([30, 60, 120, 240, 480, 960, 1920, 3600, 3600], 1):
        assert len(mocked_responses.calls) == number
        assert_is_remembered(ask(), first, most=pause)
        let_pass(pause)
        ask()


def test_the_first_pause_is_a_setting(mocked_responses: Stubs, settings: Settings) -> None:
    settings.DCR_BACKOFF = 7
    first = refused(mocked_responses)
    assert_is_remembered(ask(), first, most=7)


def test_without_a_pause_nothing_is_held_back(mocked_responses: Stubs, settings: Settings) -> None:
    settings.DCR_BACKOFF = 0
    refused(mocked_responses)
    ask()
    assert len(mocked_responses.calls) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [("120", 120), ("31536000", 3600), ("0", 30), ("-1", 30), ("soon", 30)],
    ids=["2 min", "a year", "at once", "negative", "words"],
)
def test_a_server_that_asks_to_wait_is_left_alone_for_as_long(
    status: int, retry_after: str, pause: int, mocked_responses: Stubs
) -> None:
    """By all owners, for an hour at most, and never for less than the site's own pause."""
    make_server(rejects_with_503=True)
    first = refused(
        mocked_responses, status=status, json=None, headers={"Retry-After": retry_after}
    )
    for owner in ("", "bob", "eve"):
        assert_is_remembered(ask(owner=owner), first, most=pause)
    assert len(mocked_responses.calls) == 1


def test_a_refusal_holds_back_no_other_owner(mocked_responses: Stubs) -> None:
    refused(mocked_responses)
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    assert get_or_register(ISSUER, "bob", metadata=WISHES).status == "active"


def other_wishes(_server: AuthorizationServer, _settings: Settings) -> dict[str, Any]:
    return {"metadata": {**WISHES, "client_name": "New"}}


def another_token(server: AuthorizationServer, _settings: Settings) -> dict[str, Any]:
    server.initial_access_token = "t0"
    server.save()
    return {}


def other_defaults_there(server: AuthorizationServer, _settings: Settings) -> dict[str, Any]:
    server.client_metadata = {"contacts": ["ops@site.example"]}
    server.save()
    return {}


def trusted_origin(server: AuthorizationServer, _settings: Settings) -> dict[str, Any]:
    AuthorizationServer.objects.update(trusted_origins=["https://other.example"])
    return {}


def other_defaults(_server: AuthorizationServer, settings: Settings) -> dict[str, Any]:
    settings.DCR_CLIENT_METADATA = {"contacts": ["ops@site.example"]}
    return {}


def internal_origin(_server: AuthorizationServer, settings: Settings) -> dict[str, Any]:
    settings.DCR_INTERNAL_ORIGINS = {"https://as.internal"}
    return {}


@pytest.mark.parametrize(
    "change",
    [
        other_wishes,
        another_token,
        other_defaults_there,
        trusted_origin,
        other_defaults,
        internal_origin,
    ],
)
def test_a_changed_request_is_sent_at_once(
    change: Callable[[AuthorizationServer, Settings], dict[str, Any]],
    mocked_responses: Stubs,
    settings: Settings,
) -> None:
    refused(mocked_responses)
    server = AuthorizationServer.objects.get()
    ask(**change(server, settings))
    assert len(mocked_responses.calls) == 2


def test_a_request_corrected_on_the_row_is_sent_at_once(mocked_responses: Stubs) -> None:
    make_draft(requested_metadata={"redirect_uris": ["https://wrong.example/"]})
    mocked_responses.post(ENDPOINT, status=400, json=REFUSAL)
    ask(metadata=None)
    ClientRegistration.objects.update(requested_metadata=WISHES)
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    assert get_or_register(ISSUER).status == "active"


def test_an_explicit_registration_never_backs_off(mocked_responses: Stubs) -> None:
    first = refused(mocked_responses)
    row = ClientRegistration.objects.get()
    for _ in range(4):
        with pytest.raises(RequestRejectedError):
            register(row)
    assert len(mocked_responses.calls) == 5
    assert_is_remembered(ask(), first, most=30)  # and nobody has to wait longer for that
    mocked_responses.replace(responses.POST, ENDPOINT, status=201, json=client_information())
    register(row)
    row = stored(row)
    assert (row.failure, row.retry_at, row.last_error) == (None, None, "")
    assert get_or_register(ISSUER, metadata=WISHES) == row


def test_a_refusal_that_is_remembered_gives_way_to_the_policy_of_the_site(
    mocked_responses: Stubs, settings: Settings
) -> None:
    refused(mocked_responses)
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    assert isinstance(ask(), NotAllowedError)
    settings.DCR_ALLOWED_ISSUERS = []
    AuthorizationServer.objects.update(enabled=False)
    assert isinstance(ask(), NotAllowedError)


def test_errors_of_the_sites_own_policy_are_not_remembered(mocked_responses: Stubs) -> None:
    make_draft(server=make_server(metadata=server_metadata(registration_endpoint=ENDPOINT)))
    for _ in range(2):
        assert isinstance(ask(metadata={}), NotAllowedError)
    row = ClientRegistration.objects.get()
    assert row.failure is None
    assert len(mocked_responses.calls) == 0


def test_a_clock_that_is_set_back_does_not_prolong_the_pause(mocked_responses: Stubs) -> None:
    refused(mocked_responses)
    let_pass(-3600)  # as it looks after the clock was set back by an hour
    ask()
    assert len(mocked_responses.calls) == 2


def test_a_clock_that_jumps_ahead_does_no_harm(mocked_responses: Stubs) -> None:
    first = refused(mocked_responses)
    let_pass(10**8)
    assert str(ask()) == str(first)
    assert len(mocked_responses.calls) == 2


def test_a_remembered_error_has_no_secret_in_it(mocked_responses: Stubs) -> None:
    make_server(initial_access_token="very secret")
    refused(mocked_responses, json={"error": "x", "error_description": "very secret is wrong"})
    text = json.dumps(ClientRegistration.objects.values_list("failure", flat=True)[0])
    text += str(AuthorizationServer.objects.values_list("failure", flat=True)[0])
    assert "very secret" not in text
    assert "is wrong" in text


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_a_refusal_is_remembered_and_nothing_is_tried(
    mocked_responses: Stubs,
) -> None:
    first = refused(mocked_responses)
    with transaction.atomic():
        assert_is_remembered(ask(), first, most=30)
    let_pass(30)
    with transaction.atomic():
        assert isinstance(ask(), ConflictError)
    assert not ClientRegistration.objects.get().seconds_until_retry


# -- who comes at the same moment ----------------------------------------------------------------


def during_the_post(stubs: Stubs, act: Callable[[], Any]) -> list[Any]:
    """Refuse a registration, and let ``act`` run while the server is at it."""
    seen: list[Any] = []

    def answer(_request: Any) -> Any:
        seen.append(act())
        return 400, {}, json.dumps(REFUSAL)

    stubs.add_callback(responses.POST, ENDPOINT, answer)
    return seen


def test_no_caller_waits_for_the_one_that_retries(mocked_responses: Stubs) -> None:
    """The others get the error of the last time, at once."""
    first = refused(mocked_responses)
    mocked_responses.remove(responses.POST, ENDPOINT)
    let_pass(30)
    seen = during_the_post(mocked_responses, ask)
    ask()
    assert len(mocked_responses.calls) == 2
    assert_is_remembered(seen[0], first, most=60)  # until that one knows, or its lease ends


def test_after_the_pause_one_caller_retries(mocked_responses: Stubs) -> None:
    first = refused(mocked_responses)
    let_pass(30)
    row = ClientRegistration.objects.get()
    rival = ClientRegistration.objects.get()
    assert rival.claim_retry()
    assert not row.claim_retry()
    assert_is_remembered(ask(), first, most=60)
    assert len(mocked_responses.calls) == 1


def test_the_losers_of_the_race_after_the_pause_raise_the_remembered_error(
    mocked_responses: Stubs,
) -> None:
    first = refused(mocked_responses)
    let_pass(30)
    with claimed_first(ClientRegistration.objects.get()):
        again = ask()
    assert (type(again), str(again), again.retry_after) == (type(first), str(first), 1)
    assert len(mocked_responses.calls) == 1


def test_a_caller_that_waited_for_the_first_attempt_raises_its_error(
    mocked_responses: Stubs,
) -> None:
    """A row that another process registers, and is refused while this one waits."""
    first = refused(mocked_responses)
    row = ClientRegistration.objects.get()
    before = {"failure": row.failure, "retry_at": row.retry_at, "status": "rejected", "lease": ""}
    until = timezone.now().replace(year=9999)
    values = {"lease": "of another", "lease_until": until, "failure": None, "retry_at": None}
    ClientRegistration.objects.update(status="registering", **values)
    rows = ClientRegistration.objects.filter(pk=row.pk)
    looks = iter(range(3))

    def meanwhile(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("SELECT") and next(looks, None) == 2:
            rows.update(**before, lease_until=None)
        return execute(sql, *rest)

    with connection.execute_wrapper(meanwhile):
        assert_is_remembered(ask(), first, most=30)
    assert len(mocked_responses.calls) == 1


@pytest.mark.parametrize("meanwhile", ["rejected", "draft"])
def test_the_second_caller_for_a_new_owner_raises_the_error_of_the_first(
    meanwhile: str, mocked_responses: Stubs
) -> None:
    """Both found no row, and the first has been refused before the second could insert one."""
    server = make_server(fresh_until=None)

    def overtake(_: Any) -> Any:
        make_server_fresh()
        ask()
        ClientRegistration.objects.update(status=meanwhile)
        return 200, {}, json.dumps(server_metadata())

    def make_server_fresh() -> None:
        later = timezone.now() + timedelta(hours=1)
        AuthorizationServer.objects.filter(pk=server.pk).update(fresh_until=later)

    mocked_responses.add_callback(responses.GET, WELL_KNOWN, overtake)
    mocked_responses.post(ENDPOINT, status=400, json=REFUSAL)
    error = ask()
    assert isinstance(error, RequestRejectedError)
    assert {call.request.method for call in mocked_responses.calls} == {"GET", "POST"}
    assert len(mocked_responses.calls) == 2


@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("status", ["", "draft", "rejected"])
def test_many_at_once_send_one_request_in_a_pause(status: str, mocked_responses: Stubs) -> None:
    server = make_server()
    if status:
        make_draft(server=server, status="draft")
    mocked_responses.post(ENDPOINT, status=400, json=REFUSAL)
    if status == "rejected":
        ask()
        let_pass(30)
    errors = in_threads(*[lambda: get_or_register(ISSUER, metadata=WISHES)] * 6)
    assert {type(error) for error in errors} == {RequestRejectedError}
    assert len({str(error) for error in errors}) == 1
    assert len(mocked_responses.calls) == (2 if status == "rejected" else 1)


# -- what else get_or_register does --------------------------------------------------------------


def test_an_update_that_failed_is_not_tried_with_each_page_view(mocked_responses: Stubs) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, status=400, json=REFUSAL)
    wishes = {**WISHES, "client_name": "New"}
    first = ask(metadata=wishes)
    assert_is_remembered(ask(metadata=wishes), first, most=30)
    assert len(mocked_responses.calls) == 2
    assert get_or_register(ISSUER, metadata=WISHES) == row, "which it has"
    ask(metadata={**WISHES, "client_name": "Newer"})
    assert len(mocked_responses.calls) == 4


def test_a_renewal_that_failed_is_not_tried_with_each_page_view(mocked_responses: Stubs) -> None:
    row = make_registration(client_secret_expires_at=1)
    mocked_responses.get(URI, json=client_information(client_secret_expires_at=1))
    mocked_responses.put(URI, status=400, json=REFUSAL)
    first = ask(metadata=None)
    assert_is_remembered(ask(metadata=None), first, most=30)
    assert len(mocked_responses.calls) == 2
    with pytest.raises(RequestRejectedError):
        services.renew(stored(row))
    assert len(mocked_responses.calls) == 4


def test_a_failure_of_another_process_is_not_retried(
    mocked_responses: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this one waits for it to be done with the row."""
    row = make_registration()
    wishes = {**WISHES, "client_name": "New"}
    rival = stored(row)
    rival.requested_metadata = wishes
    assert rival.claim("active", task="update")
    error = RequestRejectedError("no", issuer=ISSUER, step="update", status=400)
    monkeypatch.setattr("django_dcr.services.operation.time", Sleeper(lambda: rival.fail(error)))
    assert_is_remembered(ask(metadata=wishes), error, most=30)
    assert len(mocked_responses.calls) == 0
    assert stored(row).lease == ""


def test_a_failure_of_another_process_at_another_task_does_not_count(
    mocked_responses: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make_registration()
    rival = stored(row)
    assert rival.claim("active", task="read")
    error = RequestRejectedError("no", issuer=ISSUER, step="update", status=400)
    monkeypatch.setattr("django_dcr.services.operation.time", Sleeper(lambda: rival.fail(error)))
    for method in (responses.GET, responses.PUT):
        mocked_responses.add(method, URI, json=client_information(client_name="New"))
    assert get_or_register(ISSUER, metadata={**WISHES, "client_name": "New"}) == row


class Sleeper:
    """In place of the module ``time``: who sleeps lets something happen."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, _seconds: float) -> None:
        self.act()


# -- a server without metadata, or without an answer ---------------------------------------------

ABSENT = {WELL_KNOWN: {"status": 404}, WELL_KNOWN_OPENID: {"status": 404}}


def stub_all(stubs: Stubs, answers: dict[str, dict[str, Any]]) -> None:
    for url, answer in answers.items():
        stubs.get(url, **answer)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({**ABSENT, APPENDED_OPENID: {"status": 404}}, UnsupportedError),
        ({**ABSENT, APPENDED_OPENID: {"status": 403}}, RequestRejectedError),
        ({**ABSENT, APPENDED_OPENID: {"status": 500}}, InvalidResponseError),
        ({WELL_KNOWN: {"body": requests.ReadTimeout()}}, NetworkError),
        ({WELL_KNOWN: {"json": {"issuer": "https://evil.example"}}}, InvalidResponseError),
    ],
    ids=["absent", "forbidden", "failing", "silent", "impostor"],
)
def test_where_no_metadata_was_found_nothing_is_sent_for_a_while(
    answers: dict[str, dict[str, Any]], kind: type[DCRError], mocked_responses: Stubs
) -> None:
    stub_all(mocked_responses, answers)
    server = AuthorizationServer.objects.for_issuer(ISSUER)
    first = ask()
    assert type(first) is kind
    for owner in ("", "bob"):
        assert_is_remembered(ask(owner=owner), first, most=30)
    with pytest.raises(kind) as caught:
        discover(server)
    assert_is_remembered(caught.value, first, most=30)
    assert len(mocked_responses.calls) == len(answers)
    assert not ClientRegistration.objects.exists()
    let_pass(30)
    assert str(ask()) == str(first)
    assert len(mocked_responses.calls) == 2 * len(answers)
    assert_is_remembered(ask(), first, most=60)


def test_after_the_pause_one_caller_fetches_the_metadata(
    mocked_responses: Stubs,
) -> None:
    """And the others get the error of the last time at once, while that one is at it."""
    stub_all(mocked_responses, {**ABSENT, APPENDED_OPENID: {"status": 404}})
    first = ask()
    let_pass(30)
    loaded = AuthorizationServer.objects.get()
    seen: list[DCRError] = []

    def answer(_request: Any) -> Any:
        seen.append(ask(owner="bob"))
        for server in (loaded, AuthorizationServer.objects.get()):
            with pytest.raises(UnsupportedError) as caught:
                discover(server)
            seen.append(caught.value)
        return 404, {}, ""

    mocked_responses.remove(responses.GET, WELL_KNOWN)
    mocked_responses.add_callback(responses.GET, WELL_KNOWN, answer)
    with pytest.raises(UnsupportedError, match="No metadata was found"):
        discover(AuthorizationServer.objects.get())
    assert len(mocked_responses.calls) == 6
    for error in seen:
        assert_is_remembered(error, first, most=60)


def test_an_explicit_discovery_never_backs_off(mocked_responses: Stubs) -> None:
    stub_all(mocked_responses, {**ABSENT, APPENDED_OPENID: {"status": 404}})
    ask()
    server = AuthorizationServer.objects.get()
    with pytest.raises(UnsupportedError):
        discover(server, refresh=True)
    with pytest.raises(UnsupportedError):
        register(ClientRegistration(server=server, requested_metadata=WISHES))
    assert len(mocked_responses.calls) == 9
    mocked_responses.replace(responses.GET, WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    register(ClientRegistration(server=server, requested_metadata=WISHES))
    server.refresh_from_db()
    assert (server.failure, server.retry_at) == (None, None)


def test_a_setting_that_lets_a_server_be_reached_counts_at_once(
    mocked_responses: Stubs, settings: Settings
) -> None:
    mocked_responses.get(WELL_KNOWN, body=requests.ConnectionError())
    ask()
    settings.DCR_INTERNAL_ORIGINS = ["https://as.example"]
    mocked_responses.replace(responses.GET, WELL_KNOWN, json=server_metadata())
    assert discover(AuthorizationServer.objects.get()).is_fresh


def test_a_server_that_hangs_holds_up_one_call(mocked_responses: Stubs) -> None:
    """At its registration endpoint: each owner's row would be in doubt after a time-out."""
    first = refused(mocked_responses, body=requests.ReadTimeout(), json=None)
    assert isinstance(first, NetworkError)
    assert ClientRegistration.objects.get().status == "unknown"
    for owner in ("bob", "eve"):
        assert_is_remembered(ask(owner=owner), first, most=30)
    assert len(mocked_responses.calls) == 1
    let_pass(30)
    mocked_responses.replace(responses.POST, ENDPOINT, status=201, json=client_information())
    assert get_or_register(ISSUER, "bob", metadata=WISHES).status == "active"
    assert AuthorizationServer.objects.get().failure is None


@pytest.mark.parametrize(
    ("answer", "forgets"),
    [
        ({"status": 400, "json": REFUSAL}, True),
        ({"json": []}, True),
        ({"body": requests.ReadTimeout()}, False),
        ({"status": 503}, False),
    ],
    ids=["refused", "garbage", "silent", "busy"],
)
def test_any_answer_ends_the_memory_of_silence(
    answer: dict[str, Any], forgets: bool, mocked_responses: Stubs
) -> None:
    row = make_registration()
    AuthorizationServer.objects.update(**remembered_silence())
    mocked_responses.get(URI, **answer)
    with pytest.raises(DCRError):
        services.read(stored(row))
    assert (AuthorizationServer.objects.get().failure is None) is forgets


def test_a_row_that_another_process_holds_says_nothing_of_the_server(settings: Settings) -> None:
    settings.DCR_TIMEOUT = -1.9
    row = make_registration()
    AuthorizationServer.objects.update(**remembered_silence())
    assert stored(row).claim("active")
    with pytest.raises(ConflictError):
        services.read(stored(row))
    assert AuthorizationServer.objects.get().failure


def test_a_server_that_hangs_holds_up_no_hit(mocked_responses: Stubs) -> None:
    row = make_registration(owner="bob")
    refused(mocked_responses, body=requests.ReadTimeout(), json=None)
    assert get_or_register(ISSUER, "bob", metadata=WISHES) == row


def test_a_hostile_server_causes_no_pause_at_other_servers(mocked_responses: Stubs) -> None:
    """It may name endpoints of others, and an operator may even trust them."""
    elsewhere = "https://other.example"
    evil = make_server(
        issuer="https://evil.example",
        metadata=server_metadata(
            issuer="https://evil.example", registration_endpoint=f"{elsewhere}/register"
        ),
        trusted_origins=[elsewhere],
    )
    make_server(
        issuer=elsewhere,
        metadata={"issuer": elsewhere, "registration_endpoint": f"{elsewhere}/register"},
    )
    answer = {"status": 429, "headers": {"Retry-After": "3600"}}
    mocked_responses.post(f"{elsewhere}/register", **answer)
    with pytest.raises(RequestRejectedError):
        get_or_register(evil.issuer, metadata=WISHES)
    mocked_responses.post(f"{elsewhere}/register", status=201, json=client_information())
    assert get_or_register(elsewhere, metadata=WISHES).status == "active"


def test_an_interrupted_row_is_not_read_at_a_server_that_does_not_answer(
    mocked_responses: Stubs,
) -> None:
    refused(mocked_responses, body=requests.ReadTimeout(), json=None)
    past = timezone.now() - timedelta(days=1)
    row = make_registration(
        server=AuthorizationServer.objects.get(), owner="bob", lease="x", lease_until=past
    )
    ClientRegistration.objects.filter(pk=row.pk).update(updated_at=past)
    assert get_or_register(ISSUER, "bob") == row
    assert len(mocked_responses.calls) == 1


@pytest.mark.parametrize(
    ("age", "requests"),
    [(timedelta(seconds=30), 0), (timedelta(hours=1), 1), (-timedelta(hours=1), 1)],
    ids=["a moment ago", "long ago", "the clock was set back"],
)
def test_an_interrupted_row_is_read_now_and_then(
    age: timedelta, requests: int, mocked_responses: Stubs, settings: Settings
) -> None:
    settings.DCR_LEASE = 60
    past = timezone.now() - timedelta(days=1)
    row = make_registration(lease="of the dead", lease_until=past)
    ClientRegistration.objects.update(updated_at=timezone.now() - age)
    mocked_responses.assert_all_requests_are_fired = False
    mocked_responses.get(URI, json=client_information())
    assert get_or_register(ISSUER) == row
    assert len(mocked_responses.calls) == requests


@pytest.mark.django_db(transaction=True)
def test_a_timeout_is_raised_although_it_cannot_be_recorded(
    mocked_responses: Stubs, caplog: pytest.LogCaptureFixture
) -> None:
    row = make_registration()
    mocked_responses.get(URI, body=requests.ReadTimeout())

    def refuse(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE") and "django_dcr_authorizationserver" in sql:
            raise DatabaseError("read-only")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse), pytest.raises(NetworkError):
        services.read(row)
    assert f"Not recorded on the row of {ISSUER}: read-only" in caplog.text
    AuthorizationServer.objects.update(**remembered_silence())
    row = ClientRegistration.objects.select_related("server").get()
    mocked_responses.replace(responses.GET, URI, json=client_information())
    with connection.execute_wrapper(refuse):
        assert services.read(row).status == "active"
    assert caplog.text.count("Not recorded") == 2


def remembered_silence() -> dict[str, Any]:
    server = AuthorizationServer.objects.get()
    return server.failure_columns(NetworkError("no answer"), "read", silent=True)


# -- a stale document ----------------------------------------------------------------------------


def stale(**values: Any) -> AuthorizationServer:
    past = timezone.now() - timedelta(seconds=1)
    return make_server(metadata=server_metadata(**LOGIN), fresh_until=past, **values)


def test_a_login_at_a_server_that_forbids_caches_costs_no_request(
    mocked_responses: Stubs, settings: Settings
) -> None:
    """What Keycloak sends with its metadata."""
    header = "no-cache, must-revalidate, no-transform, no-store"
    document = server_metadata(**LOGIN)
    mocked_responses.get(WELL_KNOWN, json=document, headers={"Cache-Control": header})
    make_registration(server=stale())
    for _ in range(6):
        for_login(ISSUER)
    assert len(mocked_responses.calls) == 1
    server = AuthorizationServer.objects.get()
    assert server.fresh_until - server.fetched_at == timedelta(seconds=300)


@pytest.mark.parametrize(
    ("header", "least", "longest", "lifetime"),
    [
        ("max-age=60", 300, 3600, 300),
        ("max-age=600", 300, 3600, 600),
        ("max-age=60", 30, 3600, 60),
        ("no-store", 300, 120, 120),
        ("no-store", 300, 0, 0),
    ],
)
def test_a_document_is_fresh_for_a_while_at_least(
    header: str, least: int, longest: int, lifetime: int, mocked_responses: Stubs, settings: Any
) -> None:
    settings.DCR_METADATA_MIN_TTL, settings.DCR_METADATA_TTL = least, longest
    mocked_responses.get(WELL_KNOWN, json=server_metadata(), headers={"Cache-Control": header})
    server = discover(make_server(fresh_until=None))
    assert server.fresh_until - server.fetched_at == timedelta(seconds=lifetime)


def test_a_stale_document_serves_while_one_caller_refreshes_it(mocked_responses: Stubs) -> None:
    server = stale()
    seen = []

    def answer(_request: Any) -> Any:
        other = discover(AuthorizationServer.objects.get())
        seen.append((other.is_fresh, other.metadata))
        return 200, {}, json.dumps(server_metadata(found=True))

    mocked_responses.add_callback(responses.GET, WELL_KNOWN, answer)
    assert discover(server).metadata == server_metadata(found=True)
    assert seen == [(False, server_metadata(**LOGIN))]
    assert len(mocked_responses.calls) == 1


def test_a_refresh_whose_process_was_killed_is_made_up_for(
    mocked_responses: Stubs, settings: Settings
) -> None:
    server = stale()
    assert AuthorizationServer.objects.get().claim_retry()
    assert not discover(server).is_fresh
    settings.DCR_LEASE = 60
    let_pass(60)
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    assert discover(AuthorizationServer.objects.get()).is_fresh


def test_during_an_outage_a_login_costs_one_query(
    mocked_responses: Stubs, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    row = make_registration(server=stale())
    mocked_responses.get(WELL_KNOWN, body=requests.ConnectionError())
    assert for_login(ISSUER) == row
    with django_assert_num_queries(1):
        assert for_login(ISSUER) == row
    assert len(mocked_responses.calls) == 1
    let_pass(30)
    assert for_login(ISSUER) == row
    assert len(mocked_responses.calls) == 2


def test_nothing_is_served_on_after_an_impostor_however_it_fails_next(
    mocked_responses: Stubs,
) -> None:
    row = make_registration(server=stale())
    mocked_responses.get(WELL_KNOWN, json={"issuer": "https://evil.example"})
    mocked_responses.get(URI, body=requests.ReadTimeout())
    for _ in range(2):
        with pytest.raises(InvalidResponseError, match="is of another issuer"):
            for_login(ISSUER)
    with pytest.raises(NetworkError):
        services.read(ClientRegistration.objects.select_related("server").get(pk=row.pk))
    with pytest.raises(InvalidResponseError, match="is of another issuer"):
        for_login(ISSUER)
    assert len(mocked_responses.calls) == 2


def test_the_losers_of_the_race_for_a_refresh_use_the_stored_metadata(
    mocked_responses: Stubs,
) -> None:
    server = stale()
    with claimed_first(AuthorizationServer.objects.get()):
        assert not discover(server).is_fresh
    assert len(mocked_responses.calls) == 0


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_no_row_is_locked_during_a_request(
    mocked_responses: Stubs,
) -> None:
    stale()
    written: list[str] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        written.append(sql.split()[0])
        return execute(sql, *rest)

    def answer(_request: Any) -> Any:
        assert "UPDATE" not in written
        return 200, {}, json.dumps(server_metadata())

    mocked_responses.add_callback(responses.GET, WELL_KNOWN, answer)
    with transaction.atomic(), connection.execute_wrapper(note):
        assert discover(AuthorizationServer.objects.get()).is_fresh


# -- what people see -----------------------------------------------------------------------------


def test_the_pages_and_commands_say_when_it_is_tried_again(mocked_responses: Stubs) -> None:
    refused(mocked_responses)
    row = ClientRegistration.objects.get()
    AuthorizationServer.objects.update(**remembered_silence())
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    folders = {"clientregistration": row.pk, "authorizationserver": row.server_id}
    pages = [f"/admin/django_dcr/{name}/{pk}/change/" for name, pk in folders.items()]
    for page in pages:
        assert "Next attempt:" in staff.get(page).content.decode()
    assert row.retry_at
    assert shown(row)["retry_at"] == row.retry_at.isoformat(timespec="seconds")
    AuthorizationServer.objects.update(name="Bank")
    for page in pages:
        assert "Next attempt" not in staff.get(page).content.decode(), "it may be sent at once"
    AuthorizationServer.objects.update(name="")
    let_pass(30)
    for page in pages:
        assert "Next attempt" not in staff.get(page).content.decode()
    assert shown(row)["retry_at"] is None
    assert ClientRegistrationAdmin(ClientRegistration, site).next_attempt(stored(row)) == "-"


def shown(row: ClientRegistration) -> Any:
    out = io.StringIO()
    call_command("dcr_show", str(row.pk), "--format", "json", stdout=out)
    return json.loads(out.getvalue())


# -- jobs ----------------------------------------------------------------------------------------


def test_a_job_at_a_server_that_does_not_answer_comes_back_when_it_is_time(
    mocked_responses: Stubs,
) -> None:
    """And so do all others at that server, with nothing sent."""
    first, second = (
        make_registration(server=server, owner=owner, client_id=owner)
        for server in [make_server()]
        for owner in ("a", "b")
    )
    mocked_responses.get(URI, body=requests.ReadTimeout())
    assert perform("read", first.pk) is not None
    for row in (first, second):
        pause = perform("read", row.pk)
        assert pause is not None
        assert 25 < pause <= 35
    assert len(mocked_responses.calls) == 1
    assert stored(second).last_error == ""


def test_a_refused_job_is_not_sent_again_during_the_pause(mocked_responses: Stubs) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, status=400, json=REFUSAL)
    with pytest.raises(RequestRejectedError):
        perform("update", row.pk)
    pause = perform("update", row.pk)
    assert pause is not None
    assert 25 < pause <= 35
    with pytest.raises(RequestRejectedError) as caught:
        perform("update", row.pk, MAX_TRIES)
    assert caught.value.retry_after
    assert len(mocked_responses.calls) == 2
    assert perform("read", row.pk) is None, "which has not failed"


@pytest.mark.parametrize(("action", "task"), [("renew_if_due", "renew"), ("forget", "revoke")])
def test_a_job_is_remembered_under_the_task_that_it_performs(
    action: str, task: str, mocked_responses: Stubs
) -> None:
    row = make_registration(client_secret_expires_at=1)
    error = RequestRejectedError("no", status=400)
    assert row.claim("active", task=task)
    assert row.fail(error)
    pause = perform(action, row.pk)
    assert pause is not None
    assert 25 < pause <= 35
    assert len(mocked_responses.calls) == 0


def test_metadata_that_cannot_be_read_is_no_reason_not_to_remember(mocked_responses: Stubs) -> None:
    row = make_registration(requested_metadata=["no object"])
    mocked_responses.get(URI, body=requests.ReadTimeout())
    with pytest.raises(NetworkError):
        services.read(row)
    assert stored(row).failed_at("read")

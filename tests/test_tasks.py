"""Jobs: what they do, when they are tried again, and the engines that carry them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import django
import pytest
import responses
from celery import current_app
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from django_dcr import services
from django_dcr.contrib import celery as on_celery
from django_dcr.contrib import django_tasks as on_django
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    RequestRejectedError,
)
from django_dcr.models import ClientRegistration
from django_dcr.tasks import MAX_TRIES, enqueue, perform, service
from tests.factories import (
    ENDPOINT,
    GRANTED,
    URI,
    client_information,
    events_of,
    make_draft,
    make_registration,
    make_server,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

#: What ``carry`` was given.
carried: list[tuple[str, int]] = []


def carry(action: str, pk: int) -> None:
    """A runner of a site's own."""
    carried.append((action, pk))


@pytest.fixture(autouse=True)
def _nothing_carried() -> Iterator[None]:
    yield
    carried.clear()


def soon() -> int:
    return int(timezone.now().timestamp()) + 3600


def later() -> int:
    return int(timezone.now().timestamp()) + 90 * 24 * 3600


def stub_renewal(stubs: responses.RequestsMock) -> None:
    stubs.get(URI, json=client_information(client_secret_expires_at=soon()))
    issued = client_information(client_secret="s2", client_secret_expires_at=later())
    stubs.put(URI, json=issued)


# -- what a job does ---------------------------------------------------------------------------


def test_a_job_does_its_action_on_the_row(mocked_responses: responses.RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information(client_name="Renamed"))
    assert perform("read", row.pk) is None
    row = stored(row)
    assert row.metadata["client_name"] == "Renamed"
    assert [events_of(row)[-1].actor, events_of(row)[-1].action] == ["background", "read"]


def test_a_job_of_a_removed_row_is_done() -> None:
    assert perform("read", 4711) is None


def test_every_action_is_one_of_the_services() -> None:
    assert getattr(service("register"), "func", None) is services.register_by_choice
    for name in ("read", "update", "renew", "renew_if_due", "retry", "revoke"):
        found = service(name)
        assert getattr(found, "func", found) is getattr(services, name)
    assert service("forget").keywords == {"forget": True}  # type: ignore[attr-defined]


def test_a_secret_is_renewed_once_however_often_the_job_is_delivered(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration(client_secret_expires_at=soon())
    stub_renewal(mocked_responses)
    for _ in range(3):
        assert perform("renew_if_due", row.pk) is None
    assert len(mocked_responses.calls) == 2
    assert stored(row).client_secret.reveal() == "s2"


def test_a_new_secret_that_a_killed_worker_left_at_the_server_is_only_read(
    mocked_responses: responses.RequestsMock,
) -> None:
    """No stub answers an update."""
    long_ago = timezone.now() - timedelta(days=1)
    row = make_registration(
        client_secret_expires_at=soon(), lease="of the dead", lease_until=long_ago
    )
    issued = client_information(client_secret="s2", client_secret_expires_at=later())
    mocked_responses.get(URI, json=issued)
    assert perform("renew_if_due", row.pk) is None
    assert stored(row).client_secret.reveal() == "s2"


def test_where_a_killed_worker_left_nothing_the_secret_is_renewed(
    mocked_responses: responses.RequestsMock,
) -> None:
    long_ago = timezone.now() - timedelta(days=1)
    row = make_registration(
        client_secret_expires_at=soon(), lease="of the dead", lease_until=long_ago
    )
    stub_renewal(mocked_responses)
    assert perform("renew_if_due", row.pk) is None
    assert [call.request.method for call in mocked_responses.calls] == ["GET", "GET", "PUT"]


def test_an_explicit_renewal_does_not_depend_on_the_date(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration(client_secret_expires_at=later())
    stub_renewal(mocked_responses)
    assert perform("renew", row.pk) is None
    assert stored(row).client_secret.reveal() == "s2"


@pytest.mark.parametrize(
    ("action", "status", "live"),
    [
        ("register", "active", True),
        ("renew", "revoking", None),
        ("renew", "revoked", None),
        ("renew_if_due", "revoked", None),
        ("renew_if_due", "gone", None),
        ("revoke", "revoked", None),
        ("forget", "revoked", None),
    ],
)
def test_a_job_whose_work_is_done_does_nothing(action: str, status: str, live: bool | None) -> None:
    row = make_registration(status=status, live=live, client_secret_expires_at=soon())
    assert perform(action, row.pk) is None
    assert events_of(row) == []


def test_a_registration_that_was_interrupted_is_not_sent_again() -> None:
    """No stub answers. A worker that was killed may have sent it."""
    row = make_draft(status="registering")
    with pytest.raises(ConflictError):
        perform("register", row.pk)


# -- trying again ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "least"),
    [
        ({"status": 429, "headers": {"Retry-After": "120"}}, 120),
        ({"status": 429}, 0),
        ({"status": 503, "headers": {"Retry-After": "7"}}, 7),
        ({"body": ConnectionError()}, 0),
    ],
    ids=["429 with time", "429", "503 with time", "no answer"],
)
def test_transient_errors_are_retried_no_earlier_than_the_server_asked(
    mocked_responses: responses.RequestsMock,
    answer: dict[str, Any],
    least: int,
    settings: Settings,
) -> None:
    settings.DCR_BACKOFF = 0
    row = make_registration()
    mocked_responses.get(URI, **answer)
    pauses = [perform("read", row.pk) or 0 for _ in range(20)]
    assert all(least + 2.5 <= pause <= least + 5 for pause in pauses)
    assert len(set(pauses)) > 1, "all jobs would come back at the same moment"
    assert stored(row).last_error


@pytest.mark.parametrize(
    ("tries", "longest"), [(1, 10), (5, 160), (9, 1800), (MAX_TRIES - 1, 1800)]
)
def test_pauses_double_up_to_half_an_hour(
    mocked_responses: responses.RequestsMock, tries: int, longest: int
) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=503)
    pause = perform("read", row.pk, tries)
    assert pause is not None
    assert longest / 2 <= pause <= longest


def test_a_job_is_given_up_after_the_last_try(mocked_responses: responses.RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=503)
    with pytest.raises(RequestRejectedError) as info:
        perform("read", row.pk, MAX_TRIES)
    assert stored(row).last_error == str(info.value)
    assert len(events_of(row)) == 1, "it is recorded once"


def test_a_row_that_another_process_holds_is_tried_again(settings: Settings) -> None:
    settings.DCR_TIMEOUT = -1.9  # waiting is for 2 s longer
    row = make_registration()
    assert stored(row).claim("active")
    pause = perform("read", row.pk)
    assert pause is not None
    assert pause >= 1


def test_a_server_whose_turn_is_far_away_is_tried_again_with_nothing_written() -> None:
    row = make_registration(server=make_server(requests_per_minute=1))
    for _ in range(2):
        row.server.reserve(within=1000)
    pause = perform("read", row.pk)
    assert pause is not None
    assert 60 < pause <= 126
    assert (stored(row).last_error, events_of(row)) == ("", [])


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        ({"status": 400, "json": {"error": "invalid_request"}}, RequestRejectedError, "active"),
        ({"status": 401}, RegistrationGoneError, "gone"),
        ({"json": []}, InvalidResponseError, "active"),
    ],
    ids=["refused", "gone", "no object"],
)
def test_any_other_refusal_is_final_and_on_the_row(
    mocked_responses: responses.RequestsMock,
    answer: dict[str, Any],
    error: type[DCRError],
    status: str,
) -> None:
    row = make_registration()
    mocked_responses.get(URI, **answer)
    with pytest.raises(error) as info:
        perform("read", row.pk)
    row = stored(row)
    assert (row.status, row.last_error) == (status, str(info.value))
    assert (events_of(row)[-1].outcome, events_of(row)[-1].error) == (status, error.__name__)


def test_errors_that_no_service_records_are_recorded_by_the_job() -> None:
    """Nobody sees the error of a job; its server, here, was disabled."""
    row = make_registration(server=make_server(enabled=False))
    with pytest.raises(DCRError, match="is disabled") as info:
        perform("read", row.pk)
    row = stored(row)
    assert row.last_error == str(info.value)
    last = events_of(row)[-1]
    assert (last.action, last.outcome, last.error) == ("read", "active", "NotAllowedError")
    assert row.lease == ""


def test_a_row_that_is_held_to_the_end_is_in_the_log(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DCR_TIMEOUT = -1.9  # waiting is for 2 s longer
    row = make_registration()
    assert stored(row).claim("active")
    with pytest.raises(ConflictError):
        perform("read", row.pk, MAX_TRIES)
    assert f"Not recorded on registration {row.pk}: " in caplog.text


# -- handing a job over ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_custom_runner_receives_the_action_and_the_primary_key(settings: Settings) -> None:
    settings.DCR_TASK_RUNNER = "tests.test_tasks.carry"
    enqueue("read", 7)
    assert carried == [("read", 7)]


@pytest.mark.django_db(transaction=True)
def test_a_job_is_handed_over_after_the_commit(settings: Settings) -> None:
    """Else a worker might look for a row that is not there yet."""
    settings.DCR_TASK_RUNNER = "tests.test_tasks.carry"
    with transaction.atomic():
        enqueue("read", 7)
        assert carried == []
    assert carried == [("read", 7)]


def test_without_an_engine_there_is_no_queue() -> None:
    with pytest.raises(ImproperlyConfigured, match=r'There is no queue: .* is "inline"'):
        enqueue("read", 1)


def test_an_action_that_is_none_is_not_handed_over(settings: Settings) -> None:
    settings.DCR_TASK_RUNNER = "tests.test_tasks.carry"
    with pytest.raises(KeyError):
        enqueue("dance", 1)
    assert carried == []


# -- Celery ------------------------------------------------------------------------------------


@pytest.fixture
def eager(settings: Settings) -> Iterator[None]:
    """Celery that does each task at once, and its retries as well."""
    settings.DCR_TASK_RUNNER, settings.DCR_BACKOFF = "celery", 0
    current_app.conf.task_always_eager = True
    yield
    current_app.conf.task_always_eager = False


@pytest.mark.usefixtures("eager")
@pytest.mark.django_db(transaction=True)
def test_celery_does_a_job_and_tries_it_again(mocked_responses: responses.RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=503)
    mocked_responses.get(URI, json=client_information())
    enqueue("read", row.pk)
    assert [(event.outcome, event.error) for event in events_of(row)] == [
        ("active", "RequestRejectedError"),
        ("active", ""),
    ]


@pytest.mark.usefixtures("eager")
def test_celery_gives_up_in_the_end(mocked_responses: responses.RequestsMock) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=503)
    result = on_celery.run.apply((("read"), row.pk))
    assert len(mocked_responses.calls) == MAX_TRIES + 1
    assert not result.successful()


def test_celery_delivers_a_killed_workers_job_again() -> None:
    assert on_celery.run.acks_late
    assert on_celery.run.reject_on_worker_lost


@pytest.mark.network
@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_is_an_error_of_this_app(settings: Settings) -> None:
    settings.DCR_TASK_RUNNER = "celery"
    before = current_app.conf.broker_url
    current_app.conf.broker_url = "amqp://127.0.0.1:9"  # the discard port: nobody is there
    try:
        with pytest.raises(NetworkError, match="broker cannot be reached"):
            enqueue("read", 1)
    finally:
        current_app.conf.broker_url = before


# -- django.tasks ------------------------------------------------------------------------------

PACKAGE = "django.tasks" if django.VERSION >= (6,) else "django_tasks"


@pytest.fixture
def backend(request: pytest.FixtureRequest, settings: Settings) -> Any:
    """A backend of the framework by its name, and without its own checks."""
    settings.DCR_TASK_RUNNER = "django.tasks"
    settings.TASKS = {"default": {"BACKEND": f"{PACKAGE}.backends.{request.param}"}}
    return import_string(f"{PACKAGE}.task_backends")["default"]


@pytest.mark.parametrize("backend", ["dummy.DummyBackend"], indirect=True)
@pytest.mark.django_db(transaction=True)
def test_django_tasks_gets_the_name_and_the_number(backend: Any) -> None:
    enqueue("read", 7)
    (result,) = backend.results
    assert (result.task.func, result.args, result.kwargs) == (on_django.run.func, ["read", 7], {})


@pytest.mark.parametrize("backend", ["dummy.DummyBackend"], indirect=True)
def test_django_tasks_tries_again_later_where_its_backend_can_wait(
    backend: Any, mocked_responses: responses.RequestsMock
) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=503, headers={"Retry-After": "60"})
    before = timezone.now()
    on_django.run.call("read", row.pk, 3)
    (result,) = backend.results
    assert result.args == ["read", row.pk, 4]
    assert result.task.run_after - before > timedelta(seconds=60)
    assert result.task.run_after - timezone.now() < timedelta(seconds=101)


@pytest.mark.parametrize("backend", ["immediate.ImmediateBackend"], indirect=True)
@pytest.mark.usefixtures("backend")
def test_django_tasks_gives_up_at_once_where_its_backend_cannot_wait(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=503)
    result = on_django.run.enqueue("read", row.pk)
    assert result.errors[0].exception_class is RequestRejectedError
    assert len(mocked_responses.calls) == 1
    assert stored(row).last_error


@pytest.mark.parametrize("backend", ["immediate.ImmediateBackend"], indirect=True)
@pytest.mark.usefixtures("backend")
@pytest.mark.django_db(transaction=True)
def test_django_tasks_does_a_job(mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.post(ENDPOINT, json=client_information(**GRANTED), status=201)
    row = make_draft()
    enqueue("register", row.pk)
    assert ClientRegistration.objects.get().status == "active"
    assert row.pk == stored(row).pk

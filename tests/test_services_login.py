from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import requests
import responses
from django.db import DatabaseError, connection

from django_dcr import services
from django_dcr.exceptions import (
    ConflictError,
    InvalidResponseError,
    NotAllowedError,
    UnsupportedError,
)
from django_dcr.models import ClientRegistration
from tests.factories import (
    GRANTED,
    ISSUER,
    URI,
    client_information,
    events_of,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db

ENDPOINTS = {
    "authorization_endpoint": "https://as.example/authorize",
    "token_endpoint": "https://as.example/token",
}
REFUSED = {"error": "invalid_client"}


def with_endpoints(**changes: Any) -> ClientRegistration:
    metadata = server_metadata(**{**ENDPOINTS, **changes})
    return make_registration(server=make_server(metadata=metadata))


def test_a_login_with_fresh_metadata_costs_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    row = with_endpoints()
    with django_assert_num_queries(1):
        assert services.for_login(ISSUER) == row


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_server_without_an_endpoint_of_the_flow_is_no_place_to_log_in(name: str) -> None:
    row = with_endpoints()
    del row.server.metadata[name]
    row.server.save()
    with pytest.raises(UnsupportedError, match=f"has no {name}"):
        services.for_login(ISSUER)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_on_a_foreign_origin_is_refused_until_it_is_trusted(
    name: str,
) -> None:
    """RFC 9700 section 4.4: an attacker's metadata may point to the honest server's endpoints."""
    row = with_endpoints(**{name: "https://honest.example/x"})
    with pytest.raises(NotAllowedError, match="not the issuer's origin"):
        services.for_login(ISSUER)
    row.server.trusted_origins = ["https://honest.example"]
    row.server.save()
    assert services.for_login(ISSUER) == row


def test_a_login_attempt_names_its_issuer_and_owner_and_no_secret() -> None:
    row = make_registration(owner="acme")
    attempt = {"issuer": ISSUER, "owner": "acme", "client_id": "c1"}
    assert services.login_attempt(row) == attempt
    services.check_login(row, attempt, ISSUER)
    services.check_login(row, attempt, None)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"issuer": "https://other.example"}, id="issuer"),
        pytest.param({"owner": "other"}, id="owner"),
    ],
)
def test_the_answer_to_another_registrations_login_is_refused(change: dict[str, str]) -> None:
    row = make_registration()
    with pytest.raises(InvalidResponseError, match="Begin the login again"):
        services.check_login(row, {**services.login_attempt(row), **change}, ISSUER)


def test_nothing_kept_is_no_login() -> None:
    with pytest.raises(InvalidResponseError, match="began with another registration"):
        services.check_login(make_registration(), {}, ISSUER)


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param({}, id="empty"),
        pytest.param({"issuer": ISSUER}, id="no owner"),
        pytest.param({"issuer": None, "owner": 7}, id="no texts"),
        pytest.param({"issuer": "https://other.example", "owner": ""}, id="another server"),
    ],
)
def test_an_unknown_login_attempt_is_not_resumed(attempt: dict[str, Any]) -> None:
    make_registration(server=with_endpoints().server, owner="7", client_id="c7")
    with pytest.raises(ConflictError, match="Begin the login"):
        services.resume_login({"owner": "customer-42", **attempt})


def test_coming_back_asks_nothing_even_if_the_metadata_is_stale(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """``responses`` refuses every request."""
    row = with_endpoints()
    row.server.fresh_until = None
    row.server.save()
    attempt = services.login_attempt(row)
    with django_assert_num_queries(1):
        assert services.resume_login(attempt) == row


def test_the_answer_for_a_replaced_client_asks_to_begin_again() -> None:
    row = make_registration()
    attempt = services.login_attempt(row)
    row.client_id = "c2"
    with pytest.raises(ConflictError, match="replaced while the user was logging in"):
        services.check_login(row, attempt, ISSUER)


@pytest.mark.parametrize(
    ("granted", "offered", "expected"),
    [
        pytest.param(GRANTED, ["S256"], "S256", id="offered"),
        pytest.param({}, ["plain"], "", id="refused"),
    ],
)
def test_the_pkce_method_goes_by_the_server_and_the_registered_method(
    granted: dict[str, Any], offered: list[str], expected: str
) -> None:
    metadata = server_metadata(code_challenge_methods_supported=offered)
    row = make_registration(server=make_server(metadata=metadata), metadata=granted)
    assert services.code_challenge_method(row) == expected


# -- invalid_client --------------------------------------------------------------------------------


def test_a_refused_secret_that_the_server_confirms_is_reported(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    services.client_refused(row)
    row = stored(row)
    assert row.status == "active"
    assert row.last_error == (
        "The token endpoint refused this client's credentials (invalid_client), so nobody can log "
        f"in. Ask for a new secret: manage.py dcr_renew {row.pk}; if the server has none, revoke "
        "this registration and register again."
    )
    last = events_of(row)[-1]
    told = (last.action, last.outcome, last.error)
    assert told == ("login", "active", "RequestRejectedError")
    assert row.lease == ""


def test_a_forgotten_client_is_gone(
    mocked_responses: responses.RequestsMock, heard: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    row = make_registration()
    mocked_responses.get(URI, status=401)
    services.client_refused(row)
    assert heard == [("gone", row, "gone")]
    assert f"refused registration {row.pk}" in caplog.text


def test_a_secret_that_the_server_turned_is_stored(
    mocked_responses: responses.RequestsMock, heard: list[Any]
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information(client_secret="s2"))
    services.client_refused(row)
    secret = stored(row).client_secret
    assert secret is not None
    assert secret.reveal() == "s2"
    assert heard == [("secret_changed", row, "active")]
    assert stored(row).last_error == ""
    assert events_of(row)[-1].action == "login"


def test_both_errors_are_recorded_where_the_client_cannot_be_read(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration(registration_client_uri="")
    services.client_refused(row)
    error = stored(row).last_error
    assert "(invalid_client)" in error
    assert "The client could not be read at the server: The server issued no" in error


def test_a_secret_that_was_renewed_a_moment_ago_explains_the_refusal(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration()
    renewed = stored(row)
    renewed.client_secret = "s2"
    renewed.save()
    services.client_refused(row)
    assert stored(row).last_error == ""
    assert stored(row).lease == ""


def test_a_client_is_not_read_twice_within_five_minutes(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    services.client_refused(row)
    services.client_refused(stored(row))
    assert len(mocked_responses.calls) == 1
    row = stored(row)
    row.refused_at = datetime.now(tz=timezone.utc) - timedelta(minutes=6)
    row.save()
    services.client_refused(row)
    assert len(mocked_responses.calls) == 2


def test_a_client_is_read_again_after_a_change(
    mocked_responses: responses.RequestsMock,
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    services.client_refused(row)
    services.read(row)
    services.client_refused(row)
    assert len(mocked_responses.calls) == 3


@pytest.mark.parametrize("status", ["gone", "revoked", "unknown"])
def test_a_row_that_is_not_active_is_left_alone(
    status: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = make_registration(status=status)
    services.client_refused(row)
    assert stored(row).last_error == ""
    assert "A login failed" in caplog.text


def test_a_database_that_fails_does_not_fail_the_login_once_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = make_registration()

    def broken(*_args: Any) -> Any:
        raise DatabaseError("the disk is full")

    with connection.execute_wrapper(broken):
        services.client_refused(row)
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize(
    ("status", "document", "asked"),
    [
        pytest.param(401, REFUSED, 2, id="invalid_client"),
        pytest.param(400, {"error": "invalid_grant"}, 1, id="another error"),
    ],
)
def test_a_librarys_session_notices_a_refused_client(
    mocked_responses: responses.RequestsMock, status: int, document: dict[str, str], asked: int
) -> None:
    row = with_endpoints()
    session = services.login_session(requests.Session(), row)
    mocked_responses.post(ENDPOINTS["token_endpoint"], status=status, json=document)
    if asked == 2:
        mocked_responses.get(URI, json=client_information())
    answer = session.post(ENDPOINTS["token_endpoint"], data={"code": "x"})
    assert (answer.status_code, answer.json()) == (status, document)
    assert len(mocked_responses.calls) == asked

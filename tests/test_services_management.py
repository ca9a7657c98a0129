from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from django.db import DatabaseError, connection, transaction
from django.utils.timezone import now

from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    DecryptionError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.fields import digest
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import get_or_register, read, reconcile, revoke, update
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.cases import ALL
from tests.factories import (
    CALLBACK,
    GRANTED,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    make_registration_at,
    make_server,
    server_metadata,
    stored,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db
loopback = pytest.mark.network

SERVICES = [read, update, revoke]
METHODS = {read: "GET", update: "GET", revoke: "DELETE"}


def service_name(value: object) -> str | None:
    return getattr(value, "__name__", None)


every_service = pytest.mark.parametrize("service", SERVICES, ids=service_name)


def bearers(stubs: Stubs) -> list[str]:
    return [call.request.headers["Authorization"].removeprefix("Bearer ") for call in stubs.calls]


def put_body(stubs: Stubs) -> dict[str, Any]:
    [body] = [call.request.body for call in stubs.calls if call.request.method == "PUT"]
    return dict(json.loads(body))


def wish(row: ClientRegistration, **wishes: Any) -> ClientRegistration:
    row.requested_metadata = {**WISHES, **wishes}
    return row


def secrets_of(row: ClientRegistration) -> tuple[str | None, str | None]:
    row = stored(row)
    pair = row.client_secret, row.registration_access_token
    return tuple(each and each.reveal() for each in pair)  # type: ignore[return-value]


# --- read --------------------------------------------------------------------------------------


@database
def test_reading_stores_what_the_server_says_now(mocked_responses: Stubs) -> None:
    """R-090, R-092, R-093, R-102, fault 124: and what changed there is the drift."""
    mocked_responses.get(URI, json=client_information(client_name="Renamed", scope=["a", "b"]))
    row = make_registration(last_error="an old one")
    assert read(row) is row
    for each in (row, stored(row)):
        assert each.metadata == {**GRANTED, "client_name": "Renamed", "scope": "a b"}
        assert each.drift["client_name"] == {"asked": "Shop", "granted": "Renamed"}
        assert "scope came as a list" in str(each.deviations)
        assert (each.status, each.last_error, each.lease) == ("active", "", "")
    request = mocked_responses.calls[0].request
    assert request.headers["Authorization"] == "Bearer t1"
    assert request.headers["Accept"] == "application/json"
    assert secrets_of(row) == ("s1", "t1")


@database
def test_the_uri_is_used_as_given(mocked_responses: Stubs) -> None:
    """R-092, B10: with its query, and never built."""
    uri = "https://as.example/c?client=c%31&x=1"
    mocked_responses.get(uri, json=client_information(registration_client_uri=uri))
    read(make_registration(registration_client_uri=uri))
    assert mocked_responses.calls[0].request.url == uri


@database
def test_new_credentials_replace_the_old_ones(mocked_responses: Stubs, heard: list[Any]) -> None:
    """R-094, R-111, faults 125 and 126."""
    uri = URI + "?moved"
    new = client_information(
        client_secret="s2",
        client_secret_expires_at=7,
        registration_access_token="t2",
        registration_client_uri=uri,
    )
    mocked_responses.get(URI, json=new)
    mocked_responses.get(uri, json=client_information(registration_access_token=...))
    row = read(make_registration())
    assert secrets_of(row) == ("s2", "t2")
    assert (stored(row).client_secret_expires_at, row.registration_client_uri) == (7, uri)
    assert heard == [("secret_changed", row, "active")]
    read(row)
    assert bearers(mocked_responses) == ["t1", "t2"]


@database
@pytest.mark.parametrize("value", [..., None, "", "*" * 10, "•" * 8], ids=repr)
def test_absent_and_masked_credentials_replace_nothing(
    value: Any, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-095, faults 107, 108 and 115, promise 2."""
    token = value if value in (..., None) else ...
    answer = client_information(
        client_secret=value, registration_access_token=token, registration_client_uri=token
    )
    mocked_responses.get(URI, json=answer)
    row = read(make_registration())
    assert secrets_of(row) == ("s1", "t1")
    assert stored(row).registration_client_uri == URI
    assert heard == []


# --- what turns a token, and what is said besides ----------------------------------------------


@database
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"error": "server_error"}, "is an error"),
        ({"client_secret": ["s2"]}, "client_secret is not usable"),
        ({"client_secret": "s\n2"}, "client_secret is not usable"),
    ],
    ids=["an error", "secret as a list", "secret with a newline"],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_new_token_is_stored_before_the_rest_is_judged(
    method: str, changes: Any, reason: str, mocked_responses: Stubs
) -> None:
    """Promise 2, R-094, B1: the token in a faulty answer is the only one that works."""
    if method == "PUT":
        mocked_responses.get(URI, json=client_information())
    faulty = client_information(registration_access_token="t2", client_name="Evil", **changes)
    mocked_responses.add(method, URI, json=faulty)
    row = make_registration()
    with pytest.raises(InvalidResponseError, match=reason) as caught:
        (read if method == "GET" else update)(row)
    assert secrets_of(row) == ("s1", "t2")
    row = stored(row)
    assert (row.status, row.metadata, row.lease) == ("active", GRANTED, "")
    assert row.last_error == str(caught.value)


@database
def test_a_new_secret_is_stored_and_told_although_the_rest_is_faulty(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    """Promise 2."""
    faulty = client_information(client_secret="s2", error="x", registration_access_token=...)
    mocked_responses.get(URI, json=faulty)
    row = make_registration()
    with pytest.raises(InvalidResponseError):
        read(row)
    assert secrets_of(row) == ("s2", "t1")
    assert heard == [("secret_changed", row, "active")]


@database
@pytest.mark.parametrize("token", [7, [], "a\r\nX: y", "é", "a\0b"], ids=repr)
def test_a_token_that_no_header_takes_is_not_stored(token: Any, mocked_responses: Stubs) -> None:
    """Fault 114."""
    answer = client_information(registration_access_token=token, client_secret="s2")
    mocked_responses.get(URI, json=answer)
    row = make_registration()
    with pytest.raises(InvalidResponseError, match="registration_access_token is not usable"):
        read(row)
    assert secrets_of(row) == ("s2", "t1")


@database
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "client_id",
    ["c2", "C1", "c1 ", ..., None, "", 7, True, ["c1"], {"id": "c1"}, "c1\0"],
    ids=repr,
)
def test_an_answer_about_another_client_changes_nothing(
    client_id: Any, method: str, mocked_responses: Stubs
) -> None:
    """R-096, B3, promise 2: faults 101 and 118."""
    if method == "PUT":
        mocked_responses.get(URI, json=client_information())
    other = client_information(
        client_id=client_id, client_secret="s2", registration_access_token="t2", client_name="Evil"
    )
    mocked_responses.add(method, URI, json=other)
    row = make_registration()
    with pytest.raises(InvalidResponseError, match="Nothing was changed") as caught:
        (read if method == "GET" else update)(row)
    assert caught.value.step == ("read" if method == "GET" else "update")
    assert secrets_of(row) == ("s1", "t1")
    row = stored(row)
    assert (row.status, row.metadata, row.client_id, row.lease) == ("active", GRANTED, "c1", "")


@database
@pytest.mark.parametrize(
    "uri", ["https://evil.example/c1", "//evil.example", "http://as.example/c1"], ids=str
)
def test_a_new_uri_elsewhere_gets_no_token(uri: str, mocked_responses: Stubs) -> None:
    """Promise 4, fault 117: checked again at each use."""
    mocked_responses.get(URI, json=client_information(registration_client_uri=uri))
    row = read(make_registration())
    if row.registration_client_uri == URI:
        return  # it was no URL, and dropped
    for service in SERVICES:
        with pytest.raises(DCRError, match="which is not"):
            service(stored(row))
    assert len(mocked_responses.calls) == 1


# --- refusals ----------------------------------------------------------------------------------

REFUSALS = [
    (RegistrationGoneError, "gone", {"status": 401, "json": {"error": "invalid_token"}}),
    (RegistrationGoneError, "gone", {"status": 401}),
    (RequestRejectedError, "active", {"status": 403}),
    (RequestRejectedError, "active", {"status": 400, "json": {"error": "invalid_request"}}),
    (RequestRejectedError, "active", {"status": 409}),
    (RequestRejectedError, "active", {"status": 429, "headers": {"Retry-After": "30"}}),
    (RequestRejectedError, "active", {"status": 503}),
    (UnsupportedError, "active", {"status": 405}),
    (UnsupportedError, "active", {"status": 501}),
    (NetworkError, "active", {"status": 302, "headers": {"Location": URI + "/"}}),
    (NetworkError, "active", {"status": 307, "headers": {"Location": "https://evil.example/"}}),
]
REFUSAL_IDS = [
    "401", "401 bare", "403", "400", "409", "429", "503", "405", "501", "302 same origin", "307",
]  # fmt: skip
DOUBTS = [
    (InvalidResponseError, {"status": 500, "body": "<h1>Oops"}),
    (InvalidResponseError, {"status": 502, "body": ""}),
    (NetworkError, {"body": requests.ReadTimeout()}),
    (NetworkError, {"body": requests.ConnectionError()}),
]
DOUBT_IDS = ["500", "502 empty", "timeout", "broken off"]


@database
@pytest.mark.parametrize(("kind", "status", "answer"), REFUSALS, ids=REFUSAL_IDS)
def test_a_refused_read_keeps_the_credentials(
    kind: type[DCRError], status: str, answer: Any, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-105, R-106, B4, B7, faults 41, 42, 48 to 50."""
    mocked_responses.get(URI, **answer)
    row = make_registration()
    with pytest.raises(kind) as caught:
        read(row)
    assert type(caught.value) is kind
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "read")
    assert secrets_of(row) == ("s1", "t1")
    row = stored(row)
    assert (row.status, row.last_error, row.lease) == (status, str(caught.value), "")
    assert row.live is (None if status == "gone" else True)
    assert heard == ([("gone", row, "gone")] if status == "gone" else [])


@database
@pytest.mark.parametrize("status", [404, 410])
@every_service
def test_a_client_that_the_server_forgot_is_gone(
    service: Any, status: int, mocked_responses: Stubs
) -> None:
    """Faults 49 and 129: visible, and never registered again by itself."""
    mocked_responses.get(URI, status=status)
    if service is revoke:
        mocked_responses.delete(URI, status=status)
        assert revoke(make_registration()).status == "revoked"
        return
    row = make_registration()
    with pytest.raises(RegistrationGoneError, match="has forgotten the client"):
        service(row)
    assert stored(row).status == "gone"
    again = RegistrationGoneError if service is read else ConflictError
    with pytest.raises(again, match=r"has forgotten the client|is no longer accepted"):
        service(row)
    assert stored(row).status == "gone"


def make_gone(**values: Any) -> ClientRegistration:
    return make_registration(status="gone", live=None, client_digest=None, **values)


@database
def test_a_client_that_the_server_knows_after_all_is_read_back_to_life(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    """Fault 129: some refuse every token during an outage."""
    mocked_responses.get(URI, json=client_information())
    row = make_gone(last_error="The server refused with 401.")
    read(row)
    found = stored(row)
    assert (found.status, found.live, found.last_error) == ("active", True, "")
    assert found.client_digest == digest(ISSUER, "c1")
    assert get_or_register(ISSUER) == row
    assert heard == []


@database
def test_a_client_that_was_given_up_is_not_read_beside_its_successor(
    mocked_responses: Stubs,
) -> None:
    row = make_gone()
    make_registration(server=row.server, client_id="c2")
    with pytest.raises(ConflictError, match="is no longer accepted"):
        read(row)
    assert len(mocked_responses.calls) == 0


@database
def test_a_successor_that_comes_during_the_read_wins(mocked_responses: Stubs) -> None:
    row = make_gone()

    def answer(request: Any) -> tuple[int, dict[str, str], str]:
        make_registration(server=row.server, client_id="c2")
        return 200, {}, json.dumps(client_information())

    mocked_responses.add_callback("GET", URI, answer)
    with pytest.raises(ConflictError, match="was replaced while this process waited"):
        read(row)
    assert (stored(row).status, stored(row).live, stored(row).lease) == ("gone", None, "")


@database
@pytest.mark.parametrize(
    ("answer", "note"),
    [({"status": 204}, ""), ({"status": 404}, "Counted as deleted: ")],
    ids=["a token that came late", "the server forgot it"],
)
def test_a_client_that_was_given_up_is_deleted_where_it_can_be(
    answer: dict[str, Any], note: str, mocked_responses: Stubs
) -> None:
    """L10: an answer that came too late may have brought a token that works."""
    mocked_responses.delete(URI, **answer)
    if note:
        mocked_responses.get(URI, status=404)
    row = revoke(make_gone())
    assert stored(row).status == "revoked"
    assert stored(row).last_error.startswith(note)


@database
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        *DOUBTS,
        (InvalidResponseError, {"status": 201, "json": client_information()}),
        (InvalidResponseError, {"status": 202}),
        (InvalidResponseError, {"status": 204}),
        (InvalidResponseError, {"body": "<h1>Log in"}),
        (InvalidResponseError, {"body": ""}),
        (InvalidResponseError, {"json": [client_information()]}),
        (InvalidResponseError, {"json": None}),
        (InvalidResponseError, {"body": '{"client_id": "c1", "client_id": "c1"}'}),
    ],
    ids=[*DOUBT_IDS, "201", "202", "204", "HTML", "empty", "list", "null", "duplicate"],
)
def test_a_read_without_a_usable_answer_changes_nothing(
    kind: type[DCRError], answer: Any, mocked_responses: Stubs
) -> None:
    """Faults 3 to 8, 39, 40, 51, 58, 62, 127, 128."""
    mocked_responses.get(URI, **answer)
    row = make_registration()
    with pytest.raises(kind) as caught:
        read(row)
    assert type(caught.value) is kind
    assert secrets_of(row) == ("s1", "t1")
    row = stored(row)
    assert (row.status, row.metadata, row.lease) == ("active", GRANTED, "")
    assert row.last_error == str(caught.value)


@database
def test_a_token_turned_by_a_lost_answer_is_visible_at_the_next_call(
    mocked_responses: Stubs,
) -> None:
    """Fault 127: "token lost", and no silent registration."""
    mocked_responses.get(URI, body=requests.ConnectionError())
    mocked_responses.get(URI, status=401)
    row = make_registration()
    with pytest.raises(NetworkError):
        read(row)
    with pytest.raises(RegistrationGoneError, match="refuses this registration's token"):
        read(row)
    assert stored(row).status == "gone"


@database
def test_an_error_repeats_no_token(mocked_responses: Stubs, caplog: Any) -> None:
    """R-137, faults 136 and 138."""
    caplog.set_level("DEBUG")
    said = {"error": "x", "error_description": "Bearer secret/token, you said"}
    mocked_responses.get(URI, status=400, json=said)
    row = make_registration(registration_access_token="secret/token")
    with pytest.raises(RequestRejectedError) as caught:
        read(row)
    everything = str(caught.value) + repr(vars(caught.value)) + stored(row).last_error + caplog.text
    assert "secret/token" not in everything
    assert caught.value.error_description == "Bearer ********, you said"


# --- where the token may go --------------------------------------------------------------------


@database
@every_service
@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("https://evil.example/register/c1", "which is not the issuer's origin"),
        ("https://as.example:8443/register/c1", "which is not the issuer's origin"),
        ("http://as.example/register/c1", "which is not https"),
        ("//as.example/register/c1", "is not an absolute"),
        ("https://me@as.example/register/c1", "is not an absolute"),
    ],
    ids=["elsewhere", "another port", "http", "relative", "userinfo"],
)
def test_a_token_goes_to_no_uri_that_is_not_vouched_for(
    service: Any, uri: str, reason: str, mocked_responses: Stubs
) -> None:
    """Promise 4, R-092, R-109, faults 117 and L31: edited in the database, checked at each use."""
    row = make_registration()
    ClientRegistration.objects.update(registration_client_uri=uri)
    with pytest.raises(DCRError, match=reason) as caught:
        service(stored(row))
    assert "t1" not in str(caught.value)
    assert len(mocked_responses.calls) == 0
    row = stored(row)
    assert (row.status, row.last_error, row.lease) == ("active", str(caught.value), "")


@database
@every_service
@pytest.mark.parametrize("issuer", ["https://evil.example", ISSUER + "/", "https://as.example"])
def test_a_token_goes_to_no_other_issuer_than_its_own(
    service: Any, issuer: str, mocked_responses: Stubs
) -> None:
    """Fault L31: changing the issuer detaches the credentials."""
    row = make_registration()
    row.server.issuer = issuer
    row.server.metadata = server_metadata(issuer=issuer)
    row.server.save()
    ClientRegistration.objects.update(registration_client_uri=issuer + "/c1")
    with pytest.raises(NotAllowedError, match="was changed after it was registered"):
        service(stored(row))
    assert len(mocked_responses.calls) == 0
    row.server.issuer = ISSUER
    row.server.metadata = server_metadata()
    row.server.save()
    assert stored(row).belongs_to_server


@database
def test_saving_a_row_does_not_hand_it_to_the_new_issuer() -> None:
    """Fault L31."""
    row = make_registration()
    row.server.issuer = "https://evil.example"
    row.server.save()
    row = stored(row)
    row.registration_client_uri = "https://evil.example/c1"
    with pytest.raises(NotAllowedError, match="was changed after it was registered"):
        row.save()
    assert not stored(row).belongs_to_server
    assert stored(row).registration_client_uri == URI


@database
def test_a_token_goes_to_an_origin_that_an_operator_trusts(mocked_responses: Stubs) -> None:
    uri = "https://register.example/c1"
    mocked_responses.get(uri, json=client_information(registration_client_uri=uri))
    server = make_server(trusted_origins=["https://register.example"])
    read(make_registration(server=server, registration_client_uri=uri))
    server.trusted_origins = []
    server.save()
    row = ClientRegistration.objects.get()
    with pytest.raises(NotAllowedError, match="trusted_origins"):
        read(row)
    assert len(mocked_responses.calls) == 1


@database
@every_service
def test_a_token_whose_key_is_lost_is_told_and_nothing_is_sent(
    service: Any, mocked_responses: Stubs, settings: Any
) -> None:
    """Fault L14."""
    row = make_registration()
    settings.DCR_ENCRYPTION_KEYS = ["A" * 43 + "="]
    with pytest.raises(DecryptionError, match="registration_access_token"):
        service(stored(row))
    assert len(mocked_responses.calls) == 0
    assert (stored(row).status, stored(row).lease) == ("active", "")


@database
@every_service
@pytest.mark.parametrize(
    "changes",
    [{"registration_client_uri": ""}, {"registration_access_token": None}],
    ids=["no URI", "no token"],
)
def test_without_the_means_of_management_nothing_is_sent(
    service: Any, changes: Any, mocked_responses: Stubs
) -> None:
    """R-125, fault 115."""
    row = make_registration(**changes)
    with pytest.raises(UnsupportedError, match=r"issued no credentials .* registration") as caught:
        service(row)
    assert caught.value.issuer == ISSUER
    assert len(mocked_responses.calls) == 0
    assert stored(row).status == "active"


@database
@pytest.mark.parametrize("service", [read, update], ids=service_name)
def test_a_server_that_is_not_allowed_is_not_asked(
    service: Any, mocked_responses: Stubs, settings: Any
) -> None:
    row = make_registration()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    with pytest.raises(NotAllowedError, match="is not in DCR_ALLOWED_ISSUERS"):
        service(row)
    assert len(mocked_responses.calls) == 0


@database
def test_a_client_of_a_server_that_is_not_allowed_can_be_deleted(
    mocked_responses: Stubs, settings: Any
) -> None:
    row = make_registration()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    AuthorizationServer.objects.update(enabled=False)
    mocked_responses.delete(URI, status=204)
    assert revoke(stored(row)).status == "revoked"


@database
@every_service
@pytest.mark.parametrize("status", ["draft", "registering", "rejected", "revoked", "gone"])
def test_what_is_not_active_is_not_managed(
    service: Any, status: str, mocked_responses: Stubs
) -> None:
    row = make_registration()
    stale = stored(row)
    ClientRegistration.objects.update(status=status)
    if service is revoke and status in ("draft", "rejected", "gone"):
        return  # these can be closed: further down
    for each in (stored(row), stale):
        with pytest.raises(ConflictError, match=f"Registration {row.pk} "):
            service(each)
    assert stored(row).status == status
    assert len(mocked_responses.calls) == 0


@pytest.mark.django_db(transaction=True)
@every_service
def test_inside_a_transaction_nothing_is_sent(service: Any) -> None:
    """Promise 3, fault L5: and the caller's own changes are not committed along."""
    row = make_registration()
    with transaction.atomic():
        AuthorizationServer.objects.update(name="the caller's change")
        with pytest.raises(ConflictError, match="non_atomic_requests") as caught:
            service(row)
        transaction.set_rollback(True)
    assert caught.value.step == ("delete" if service is revoke else service.__name__)
    assert (stored(row).lease, stored(row).server.name) == ("", "")


@database
@every_service
def test_a_row_that_another_process_holds_is_waited_for(service: Any, settings: Any) -> None:
    """Fault L12."""
    settings.DCR_TIMEOUT = -2  # the wait is this and two seconds
    row = make_registration()
    other = stored(row)
    assert other.claim("active")
    with pytest.raises(ConflictError, match="is held by another process; try again later"):
        service(row)
    assert stored(row).lease == other.lease


# --- update ------------------------------------------------------------------------------------


@database
def test_an_update_is_read_merge_put_store(mocked_responses: Stubs, heard: list[Any]) -> None:
    """R-097 to R-102, B2, B5: all that was last returned goes back, unknown members too."""
    granted = client_information(
        scope="read",
        unknown={"kept": [1]},
        **{"client_name#ja": "店"},
        client_id_issued_at=5,
        contacts=None,
        logo_uri="",
        grant_types=[],
    )
    mocked_responses.get(URI, json=granted)
    answer = client_information(client_name="New", scope="read", registration_access_token="t2")
    mocked_responses.put(URI, json=answer)
    row = wish(make_registration(), client_name="New", tos_uri="https://site.example/tos")
    assert update(row) is row
    assert put_body(mocked_responses) == {
        "client_id": "c1",
        "client_name": "New",
        "client_name#ja": "店",
        "redirect_uris": [CALLBACK],
        "scope": "read",
        "tos_uri": "https://site.example/tos",
        "token_endpoint_auth_method": "client_secret_basic",
        "unknown": {"kept": [1]},
    }
    assert secrets_of(row) == ("s1", "t2")
    row = stored(row)
    assert row.requested_metadata["client_name"] == "New"
    assert row.metadata["client_name"] == "New"
    assert (row.status, row.lease, row.last_error) == ("active", "", "")
    assert heard == [("updated", row, "active")]
    assert [call.request.method for call in mocked_responses.calls] == ["GET", "PUT"]


@database
def test_a_member_wished_away_is_left_out(mocked_responses: Stubs) -> None:
    """R-101: omission is deletion."""
    granted = client_information(tos_uri="https://site.example/tos", scope="read", contacts=["a@b"])
    mocked_responses.get(URI, json=granted)
    mocked_responses.put(URI, json=client_information())
    update(wish(make_registration(), tos_uri=None, scope="", contacts=[]))
    assert put_body(mocked_responses).keys() == {*GRANTED, "client_id"}
    assert stored(ClientRegistration.objects.get()).metadata == GRANTED


@database
def test_what_was_not_wished_stays_as_granted(mocked_responses: Stubs) -> None:
    """A method chosen by the server is not undone by our own choice for lack of a wish."""
    granted = {"token_endpoint_auth_method": "client_secret_post"}
    mocked_responses.get(URI, json=client_information(**granted))
    mocked_responses.put(URI, json=client_information(**granted))
    row = make_registration(metadata={**GRANTED, **granted})
    update(row)
    assert put_body(mocked_responses)["token_endpoint_auth_method"] == "client_secret_post"


@database
def test_a_language_is_told_however_its_tag_is_written(mocked_responses: Stubs) -> None:
    """R-060: tags are compared without regard to case, so there is one member of each."""
    mocked_responses.get(URI, json=client_information(**{"client_name#JA": "古い店"}))
    mocked_responses.put(URI, json=client_information(**{"client_name#JA": "店"}))
    wishes = {"client_name#ja": "店"}
    row = wish(make_registration(metadata={**GRANTED, "client_name#ja": "古い店"}), **wishes)
    update(row)
    body = put_body(mocked_responses)
    assert [body[name] for name in body if name.startswith("client_name#")] == ["店"]
    tagged = {n: v for n, v in stored(row).metadata.items() if n.startswith("client_name#")}
    assert list(tagged.values()) == ["店"]


@database
@pytest.mark.parametrize("asked", [True, False])
def test_the_secret_is_sent_where_the_server_wants_it(asked: bool, mocked_responses: Stubs) -> None:
    """R-100: the current one, or none."""
    mocked_responses.get(URI, json=client_information(client_secret="s2"))
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    row = make_registration(server=make_server(send_client_secret=asked))
    update(row)
    assert put_body(mocked_responses).get("client_secret") == ("s2" if asked else None)
    assert "client_secret" not in stored(row).metadata


@database
def test_a_public_client_has_no_secret_to_send(mocked_responses: Stubs) -> None:
    mocked_responses.get(URI, json=client_information(client_secret=...))
    mocked_responses.put(URI, json=client_information(client_secret=...))
    update(make_registration(server=make_server(send_client_secret=True), client_secret=None))
    assert "client_secret" not in put_body(mocked_responses)


@database
def test_the_put_goes_with_the_token_that_the_read_turned(mocked_responses: Stubs) -> None:
    """R-094, R-111, fault 125."""
    mocked_responses.get(URI, json=client_information(registration_access_token="t2"))
    mocked_responses.put(URI, json=client_information(registration_access_token="t3"))
    row = update(make_registration())
    assert bearers(mocked_responses) == ["t1", "t2"]
    assert secrets_of(row) == ("s1", "t3")


@database
def test_an_update_without_a_document_is_read_again(mocked_responses: Stubs) -> None:
    """Fault 40: 204 to an update."""
    mocked_responses.get(URI, json=client_information(registration_access_token="t2"))
    mocked_responses.put(URI, status=204)
    mocked_responses.get(
        URI, json=client_information(client_name="New", registration_access_token="t3")
    )
    row = update(wish(make_registration(), client_name="New"))
    assert stored(row).metadata["client_name"] == "New"
    assert bearers(mocked_responses) == ["t1", "t2", "t2"]
    assert secrets_of(row) == ("s1", "t3")
    assert stored(row).lease == ""


@database
def test_an_answer_without_members_is_as_it_was_sent(mocked_responses: Stubs) -> None:
    """R-074, R-095: Hydra and others answer in brief."""
    mocked_responses.get(URI, json={"client_id": "c1"})
    mocked_responses.put(URI, json={"client_id": "c1"})
    row = update(wish(make_registration(), client_name="New"))
    assert stored(row).metadata == {**GRANTED, "client_name": "New"}
    assert secrets_of(row) == ("s1", "t1")


@database
def test_an_update_that_changes_nothing_shows_as_drift(mocked_responses: Stubs) -> None:
    """R-102, fault 123."""
    for method in ("GET", "PUT"):
        mocked_responses.add(method, URI, json=client_information())
    row = update(wish(make_registration(), client_name="New"))
    assert stored(row).drift == {"client_name": {"asked": "New", "granted": "Shop"}}


@database
@pytest.mark.parametrize("status", [405, 501])
def test_a_client_that_cannot_be_read_is_updated_from_what_is_known(
    status: int, mocked_responses: Stubs
) -> None:
    mocked_responses.get(URI, status=status)
    mocked_responses.put(URI, json=client_information(client_name="New", scope="read"))
    row = make_registration(metadata={**GRANTED, "scope": "read"})
    update(wish(row, client_name="New"))
    assert put_body(mocked_responses)["scope"] == "read"
    assert stored(row).metadata["client_name"] == "New"


@database
@pytest.mark.parametrize("status", [404, 410])
def test_a_server_that_knows_the_client_and_has_no_put_offers_no_updates(
    status: int, mocked_responses: Stubs
) -> None:
    """R-104 for PUT: the client is not gone, since it was read a moment ago."""
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, status=status)
    row = make_registration()
    with pytest.raises(UnsupportedError, match="knows this client but does not offer updates"):
        update(row)
    assert (stored(row).status, stored(row).live) == ("active", True)


@database
@pytest.mark.parametrize(("get", "put"), [(200, 401), (405, 404), (405, 401)])
def test_a_token_refused_by_put_is_gone(get: int, put: int, mocked_responses: Stubs) -> None:
    """R-105: unless the read shows that the token is good."""
    mocked_responses.get(URI, status=get, json=client_information())
    mocked_responses.put(URI, status=put)
    row = make_registration()
    with pytest.raises(RegistrationGoneError):
        update(row)
    assert stored(row).status == "gone"


@database
@pytest.mark.parametrize(
    ("kind", "status", "answer"),
    [refusal for refusal in REFUSALS if refusal[1] == "active"],
    ids=REFUSAL_IDS[2:],
)
def test_a_refused_update_keeps_the_credentials(
    kind: type[DCRError], status: str, answer: Any, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-106, B4, B7."""
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, **answer)
    row = wish(make_registration(), client_name="New")
    with pytest.raises(kind) as caught:
        update(row)
    assert type(caught.value) is kind
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "update")
    assert secrets_of(row) == ("s1", "t1")
    row = stored(row)
    assert (row.status, row.last_error, row.lease) == (status, str(caught.value), "")
    assert row.metadata == GRANTED
    assert heard == []


@database
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        *DOUBTS,
        (InvalidResponseError, {"status": 202}),
        (InvalidResponseError, {"body": "<h1>Log in"}),
    ],
    ids=[*DOUBT_IDS, "202", "HTML"],
)
def test_an_update_without_a_usable_answer_can_be_repeated(
    kind: type[DCRError], answer: Any, mocked_responses: Stubs
) -> None:
    """Faults 4, 5, 143: an unknown result, and the next read settles it."""
    mocked_responses.get(URI, json=client_information(registration_access_token="t2"))
    mocked_responses.put(URI, **answer)
    row = make_registration()
    with pytest.raises(kind):
        update(row)
    assert (stored(row).status, stored(row).lease) == ("active", "")
    assert secrets_of(row) == ("s1", "t2")
    assert len(mocked_responses.calls) == 2


@database
@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        ({**WISHES, "client_secret": "mine"}, NotAllowedError),
        ({}, NotAllowedError),
        ({**WISHES, "token_endpoint_auth_method": "private_key_jwt"}, UnsupportedError),
    ],
    ids=["assigned", "no redirect", "not offered"],
)
def test_wishes_that_may_not_be_sent_are_refused_before_anything_is(
    wishes: Any, kind: type[DCRError], mocked_responses: Stubs
) -> None:
    offered = server_metadata(token_endpoint_auth_methods_supported=["client_secret_basic"])
    row = make_registration(server=make_server(metadata=offered))
    row.requested_metadata = wishes
    with pytest.raises(kind):
        update(row)
    assert len(mocked_responses.calls) == 0
    assert stored(row).requested_metadata == WISHES


@database
def test_an_update_works_where_registration_is_offered_no_more(mocked_responses: Stubs) -> None:
    for method in ("GET", "PUT"):
        mocked_responses.add(method, URI, json=client_information())
    server = make_server(metadata={"issuer": ISSUER})
    assert update(make_registration(server=server)).status == "active"


# --- revoke ------------------------------------------------------------------------------------


@database
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 204},
        {"status": 200, "body": ""},
        {"status": 200, "body": "  "},
        {"status": 200, "json": client_information()},
        {"status": 202, "body": "<h1>later"},
    ],
    ids=["204", "200 empty", "200 blank", "200 with a document", "202"],
)
def test_a_deleted_client_leaves_a_tombstone(
    answer: Any, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-090, R-103, R-107, faults 39, 40 and 130."""
    mocked_responses.delete(URI, **answer)
    row = make_registration(last_error="an old one")
    assert revoke(row) is row
    assert bearers(mocked_responses) == ["t1"]
    for each in (row, stored(row)):
        assert (each.status, each.live, each.client_id) == ("revoked", None, "c1")
        assert (each.client_secret, each.registration_access_token) == (None, None)
        assert (each.registration_client_uri, each.last_error, each.lease) == ("", "", "")
    assert heard == [("revoked", row, "revoked")]


@database
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 403},
        {"status": 405},
        {"status": 501},
        {"status": 400},
        {"status": 429},
        {"status": 409, "json": {"error": "invalid_request"}},
        {"body": "<h1>Log in"},
        {"json": ["deleted"]},
    ],
    ids=["403", "405", "501", "400", "429", "409 with a code", "HTML", "list"],
)
def test_a_refused_deletion_leaves_the_row_active(
    answer: Any, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-103, R-104, R-106, B26: the client is still there, and so are its credentials."""
    mocked_responses.delete(URI, **answer)
    row = make_registration()
    with pytest.raises(DCRError) as caught:
        revoke(row)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "delete")
    assert secrets_of(row) == ("s1", "t1")
    row = stored(row)
    assert (row.status, row.live, row.lease) == ("active", True, "")
    assert row.last_error == str(caught.value)
    assert heard == []


UNDECIDED: dict[str, dict[str, Any]] = {
    "301": {"status": 301, "headers": {"Location": URI + "/"}},
    "302": {"status": 302, "headers": {"Location": "https://evil.example"}},
    "307": {"status": 307},
    "409": {"status": 409},
    "500": {"status": 500},
    "502": {"status": 502},
    "503": {"status": 503},
    "timeout": {"body": requests.ReadTimeout()},
    "broken off": {"body": requests.ConnectionError()},
    "200 with an error": {"json": {"error": "server_error"}},
}


@database
@pytest.mark.parametrize(
    ("answer", "second"),
    [
        pytest.param(UNDECIDED[name], second, id=f"{name}-{second}")
        for second in (204, 401, 404, 410)
        for name in UNDECIDED
        if ALL or second == 204 or name in ("500", "timeout")
    ],
)
def test_a_deletion_without_an_answer_is_repeated(
    answer: Any, second: int, mocked_responses: Stubs
) -> None:
    """Faults 4, 39, 143: then 401 and 404 say that it is done."""
    mocked_responses.delete(URI, **answer)
    mocked_responses.delete(URI, status=second)
    row = make_registration()
    with pytest.raises(DCRError):
        revoke(row)
    assert (stored(row).status, stored(row).live, stored(row).lease) == ("revoking", True, "")
    assert secrets_of(row) == ("s1", "t1")
    assert revoke(row).status == "revoked"
    assert stored(row).registration_access_token is None


@database
def test_a_deletion_that_never_left_this_machine_changes_nothing() -> None:
    """Fault 1."""
    server = make_server(issuer="https://127.0.0.1")
    row = make_registration(server=server, registration_client_uri="https://127.0.0.1/c1")
    with pytest.raises(NetworkError, match="cannot be reached"):
        revoke(row)
    assert stored(row).status == "active"


@database
@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_deletion_that_is_refused_for_now_stays_open(
    status: int, mocked_responses: Stubs
) -> None:
    """Fault 143: what became of the first one is still not known."""
    mocked_responses.delete(URI, status=status)
    row = make_registration(status="revoking")
    with pytest.raises(RequestRejectedError):
        revoke(row)
    assert stored(row).status == "revoking"


@database
def test_a_deletion_that_cannot_be_repeated_stays_open() -> None:
    """Fault 1: the same."""
    server = make_server(issuer="https://127.0.0.1")
    uri = "https://127.0.0.1/c1"
    row = make_registration(server=server, registration_client_uri=uri, status="revoking")
    with pytest.raises(NetworkError, match="cannot be reached"):
        revoke(row)
    assert stored(row).status == "revoking"


@database
def test_a_deletion_that_was_never_answered_may_turn_out_to_be_refused(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.delete(URI, status=405)
    row = make_registration(status="revoking")
    with pytest.raises(UnsupportedError):
        revoke(row)
    assert stored(row).status == "active"


@database
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"json": client_information()}, "active"),
        ({"status": 401}, "gone"),
        ({"status": 404}, "gone"),
    ],
    ids=["still there", "401", "404"],
)
def test_a_read_settles_a_deletion_that_was_never_answered(
    answer: Any, status: str, mocked_responses: Stubs
) -> None:
    mocked_responses.get(URI, **answer)
    row = make_registration(status="revoking")
    if status == "active":
        read(row)
    else:
        with pytest.raises(RegistrationGoneError):
            read(row)
    assert stored(row).status == status


@database
def test_a_deletion_refused_with_401_needs_a_persons_word(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-105, B6, fault 48: the token is dead, or the client is; nobody can tell."""
    mocked_responses.delete(URI, status=401)
    row = make_registration()
    with pytest.raises(RegistrationGoneError, match="refuses this registration's token"):
        revoke(row)
    assert (stored(row).status, stored(row).live) == ("gone", None)
    assert heard == [("gone", row, "gone")]
    revoke(row, forget=True)
    assert stored(row).status == "revoked"
    assert "the server may still hold the client" in stored(row).last_error


@database
@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("second", [401, 404, 410, 405])
def test_a_client_that_is_not_found_counts_as_deleted(
    status: int, second: int, mocked_responses: Stubs
) -> None:
    """Faults 49, 129, R-107: after a look whether it is the method that is not found."""
    mocked_responses.delete(URI, status=status)
    mocked_responses.get(URI, status=second)
    row = revoke(make_registration())
    assert stored(row).status == "revoked"
    assert stored(row).last_error.startswith("Counted as deleted: ")


@database
@pytest.mark.parametrize(
    "second",
    [{"body": requests.ConnectionError()}, {"status": 429}, {"status": 503}],
    ids=["no answer", "429", "503"],
)
@pytest.mark.parametrize("before", ["active", "unknown"])
def test_a_look_that_says_nothing_leaves_a_deletion_to_another_time(
    second: Any, before: str, mocked_responses: Stubs
) -> None:
    """A server without DELETE would keep the client, and nobody the means to it."""
    mocked_responses.delete(URI, status=404)
    mocked_responses.get(URI, **second)
    row = make_registration(status=before)
    with pytest.raises(DCRError):
        revoke(row)
    assert (stored(row).status, stored(row).live, stored(row).lease) == (before, True, "")
    assert secrets_of(row) == ("s1", "t1")


@database
@pytest.mark.parametrize("changes", [{}, {"error": "x"}, {"client_id": "c2"}])
def test_a_server_that_knows_the_client_and_has_no_delete_deletes_none(
    changes: Any, mocked_responses: Stubs
) -> None:
    """R-104, fault 130: 404 on the method; and what that look issues is stored (promise 2)."""
    mocked_responses.delete(URI, status=404)
    answer = client_information(client_secret="s2", registration_access_token="t2", **changes)
    mocked_responses.get(URI, json=answer)
    row = make_registration()
    with pytest.raises(UnsupportedError, match="but does not delete clients") as caught:
        revoke(row)
    assert secrets_of(row) == (("s1", "t1") if "client_id" in changes else ("s2", "t2"))
    row = stored(row)
    assert (row.status, row.live, row.lease) == ("active", True, "")
    assert row.last_error == str(caught.value)


@database
@pytest.mark.parametrize(
    "answer",
    [{"status": 405}, {"status": 401}, {"status": 500}, {"body": requests.ConnectionError()}],
    ids=["405", "401", "500", "broken off"],
)
def test_a_client_can_be_forgotten_where_the_server_does_not_delete_it(
    answer: Any, mocked_responses: Stubs, heard: list[Any]
) -> None:
    """R-104, fault A4: an explicit choice, and the row says what may live on."""
    mocked_responses.delete(URI, **answer)
    row = revoke(make_registration(), forget=True)
    row = stored(row)
    assert (row.status, row.live, row.client_secret) == ("revoked", None, None)
    assert row.last_error.startswith("Closed here only; the server may still hold the client: ")
    assert heard[-1] == ("revoked", row, "revoked")


@database
def test_forgetting_asks_the_server_first(mocked_responses: Stubs) -> None:
    mocked_responses.delete(URI, status=204)
    assert stored(revoke(make_registration(), forget=True)).last_error == ""


@database
@pytest.mark.parametrize("status", ["active", "unknown", "revoking", "gone"])
def test_a_client_without_the_means_of_management_can_be_closed_here(status: str) -> None:
    """Issue: a client without management URI or token can still be closed locally."""
    row = make_registration(status=status, registration_access_token=None)
    with pytest.raises(UnsupportedError, match=f"dcr_revoke {row.pk} --forget"):
        revoke(row)
    assert stored(row).status == status
    revoke(row, forget=True)
    assert stored(row).status == "revoked"
    assert stored(row).last_error == "Closed here only; the server may still hold the client."


@database
def test_a_client_that_is_gone_is_forgotten_though_the_server_refuses_again(
    mocked_responses: Stubs,
) -> None:
    mocked_responses.delete(URI, status=401)
    row = make_gone()
    with pytest.raises(RegistrationGoneError):
        revoke(row)
    assert stored(row).status == "gone"
    revoke(row, forget=True)
    assert stored(row).status == "revoked"
    assert "the server may still hold the client" in stored(row).last_error


@database
@pytest.mark.parametrize("status", ["draft", "rejected"])
def test_what_never_came_to_be_is_closed_without_asking(
    status: str, mocked_responses: Stubs, heard: list[Any]
) -> None:
    row = make_draft(status=status)
    revoke(row)
    assert (stored(row).status, stored(row).live, stored(row).last_error) == ("revoked", None, "")
    assert len(mocked_responses.calls) == 0
    assert heard == [("revoked", row, "revoked")]


@database
@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("status", ["registering", "revoked"])
def test_what_is_under_way_or_closed_is_not_closed(status: str, forget: bool) -> None:
    row = make_draft(status=status)
    with pytest.raises(ConflictError, match=f"Registration {row.pk} is "):
        revoke(row, forget=forget)
    assert stored(row).status == status


@database
@pytest.mark.parametrize("forget", [True, False])
def test_a_draft_that_was_registered_meanwhile_is_deleted_at_the_server(
    forget: bool, mocked_responses: Stubs
) -> None:
    """Fault L12: what this process last saw of the row decides nothing."""
    registered = make_registration()
    stale = stored(registered)
    stale.status, stale.registration_client_uri = "draft", ""
    mocked_responses.delete(URI, status=204)
    assert revoke(stale, forget=forget).status == "revoked"
    assert stored(registered).last_error == ""


# --- with a real server and a database in a file -----------------------------------------------


def look(file: Path, sql: str) -> Any:
    """Ask the database over a connection of one's own, which sees what is committed."""
    with sqlite3.connect(file, timeout=60) as own:
        result = own.execute(sql).fetchall()
    own.close()
    return result


@loopback
@every_service
def test_others_can_write_while_the_server_is_asked(
    service: Any, authorization_server: FakeServer, database_file: Path
) -> None:
    """Promise 3, fault 27: the lease is committed, and no transaction is open."""
    seen = []

    def write(document: Any) -> None:
        look(database_file, "UPDATE django_dcr_authorizationserver SET name = 'from elsewhere'")
        seen.extend(
            look(database_file, "SELECT status, lease <> '' FROM django_dcr_clientregistration")
        )

    authorization_server.while_handling.update(GET=write, PUT=write, DELETE=write)
    row = make_registration_at(authorization_server)
    service(row)
    status = "revoking" if service is revoke else "active"
    assert set(seen) == {(status, 1)}
    assert (stored(row).lease, stored(row).server.name) == ("", "from elsewhere")


@loopback
@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("service", [read, update], ids=service_name)
def test_a_turned_token_survives_a_connection_that_died(
    service: Any, authorization_server: FakeServer
) -> None:
    """Faults L4 and 125."""
    authorization_server.rotates_tokens = True
    row = make_registration_at(authorization_server)
    mine = connection.connection

    def spoil(document: Any) -> None:
        mine.execute("PRAGMA query_only = ON")
        del authorization_server.while_handling["GET"]

    authorization_server.while_handling["GET"] = spoil
    service(row)
    [client] = authorization_server.clients.values()
    assert secrets_of(row)[1] == client["registration_access_token"]
    read(row)


@loopback
def test_a_turned_token_that_cannot_be_stored_is_an_error_and_not_a_silence(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Fault L1: and the lease runs out."""
    row = make_registration_at(authorization_server)
    authorization_server.rotates_tokens = True
    trigger = (
        "CREATE TRIGGER full BEFORE UPDATE ON django_dcr_clientregistration"
        " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    authorization_server.while_handling["GET"] = lambda document: look(database_file, trigger)
    with pytest.raises(DatabaseError, match="disk is full"):
        read(row)
    assert stored(row).status == "active"


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_reader_that_slept_too_long_saves_the_token_that_only_it_holds(
    authorization_server: FakeServer,
) -> None:
    """Promise 2, fault L10: while the row still holds the superseded token."""
    row = make_registration_at(authorization_server)
    authorization_server.rotates_tokens = True

    def take_over(document: Any) -> None:
        ClientRegistration.objects.update(lease="another", lease_until=now())
        connection.close()

    authorization_server.while_handling["GET"] = take_over
    read(row)
    [client] = authorization_server.clients.values()
    assert secrets_of(row)[1] == client["registration_access_token"]


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_reader_that_slept_too_long_writes_nothing_over_what_came_later(
    authorization_server: FakeServer, heard: list[Any]
) -> None:
    """Fault L10: fencing."""
    row = make_registration_at(authorization_server)
    authorization_server.rotates_tokens = True

    def take_over(document: Any) -> None:
        del authorization_server.while_handling["GET"]
        ClientRegistration.objects.update(lease="", lease_until=None)
        ClientRegistration.objects.update(
            registration_access_token=document["registration_access_token"]
        )
        read(ClientRegistration.objects.get())
        connection.close()

    authorization_server.while_handling["GET"] = take_over
    with pytest.raises(ConflictError, match="was taken over while this process waited"):
        read(row)
    [client] = authorization_server.clients.values()
    assert secrets_of(row)[1] == client["registration_access_token"]
    assert (stored(row).status, stored(row).last_error) == ("active", "")


@loopback
@pytest.mark.usefixtures("database_file")
@pytest.mark.parametrize("service", [read, revoke], ids=service_name)
def test_a_refusal_of_a_superseded_token_does_not_make_the_row_gone(
    service: Any, authorization_server: FakeServer, heard: list[Any]
) -> None:
    """Fault L10: another process has a newer token, and this one's 401 says nothing of that."""
    row = make_registration_at(authorization_server)
    [client] = authorization_server.clients.values()

    def take_over(document: Any) -> None:
        client["registration_access_token"] = "t2"
        ClientRegistration.objects.update(lease="another", registration_access_token="t2")
        connection.close()

    client["registration_access_token"] = "turned meanwhile"
    authorization_server.while_handling[METHODS[service]] = take_over
    with pytest.raises(RegistrationGoneError):
        service(row)
    assert stored(row).status == ("revoking" if service is revoke else "active")
    assert heard == []


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_refusal_says_nothing_of_a_token_that_a_sleeper_stored_meanwhile(
    authorization_server: FakeServer, heard: list[Any]
) -> None:
    """Fault L10: the lease is still this process's, and the row has a newer token."""
    row = make_registration_at(authorization_server)
    [client] = authorization_server.clients.values()

    def wake(document: Any) -> None:
        ClientRegistration.objects.update(registration_access_token="t2")
        connection.close()

    client["registration_access_token"] = "t2"
    authorization_server.while_handling["GET"] = wake
    with pytest.raises(RegistrationGoneError):
        read(row)
    assert (stored(row).status, stored(row).lease, heard) == ("active", "", [])
    del authorization_server.while_handling["GET"]
    read(row)


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_deletion_that_slept_too_long_leaves_the_row_to_who_has_it(
    authorization_server: FakeServer, heard: list[Any]
) -> None:
    """Fault L12."""

    def take_over(document: Any) -> None:
        ClientRegistration.objects.update(lease="another")
        connection.close()

    row = make_registration_at(authorization_server)
    authorization_server.while_handling["DELETE"] = take_over
    with pytest.raises(ConflictError, match="was taken over while this process waited"):
        revoke(row)
    assert (stored(row).status, stored(row).lease, heard) == ("revoking", "another", [])


@loopback
@pytest.mark.usefixtures("database_file")
def test_an_unanswered_deletion_is_settled_by_reconcile(authorization_server: FakeServer) -> None:
    """Faults 5 and 143: it was done, and the answer was lost."""

    def break_off(document: Any) -> None:
        del authorization_server.while_handling["DELETE"]
        raise ConnectionResetError

    row = make_registration_at(authorization_server)
    authorization_server.while_handling["DELETE"] = break_off
    with pytest.raises(NetworkError):
        revoke(row)
    assert authorization_server.clients == {}
    assert stored(row).status == "revoking"
    assert reconcile() == [row]
    assert stored(row).status == "revoked"


@database
@pytest.mark.parametrize("status", [201, 203, 206, 226])
def test_a_token_that_comes_with_a_wrong_status_is_kept(
    status: int, mocked_responses: Stubs
) -> None:
    """Promise 2 and fault 40: an error, but the old token may be dead."""
    registration = make_registration()
    answer = client_information(registration_access_token="t2", client_name="Other")
    mocked_responses.get(URI, status=status, json=answer)
    with pytest.raises(InvalidResponseError, match=str(status)):
        read(registration)
    row = stored(registration)
    assert row.registration_access_token.reveal() == "t2"
    assert (row.status, row.metadata, row.lease) == ("active", GRANTED, "")


@database
def test_what_was_replaced_is_not_read_back_to_life() -> None:
    registration = make_registration(status="revoking", live=None)
    with pytest.raises(ConflictError, match="is being revoked"):
        read(registration)
    assert stored(registration).status == "revoking"

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils.timezone import now

from django_dcr import signals
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    DecryptionError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    NotStoredError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer, ClientRegistration, InDoubtError
from django_dcr.services import get_or_register, reconcile, register
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.cases import ALL
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WELL_KNOWN,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db


def sent(stubs: Stubs, number: int = 0) -> dict[str, Any]:
    """The body of a request."""
    return dict(json.loads(stubs.calls[number].request.body))


def bearer(stubs: Stubs, number: int = 0) -> str | None:
    return stubs.calls[number].request.headers.get("Authorization")


# --- what is asked -----------------------------------------------------------------------------


@database
def test_a_draft_becomes_a_client(mocked_responses: Stubs) -> None:
    """R-050, R-070, R-072, B16: and the answer's members are stored under their names."""
    issued = client_information(client_id_issued_at=1700000000, client_secret_expires_at=1800000000)
    mocked_responses.post(ENDPOINT, status=201, json=issued)
    draft = make_draft(last_error="an old one")
    assert register(draft) is draft
    row = stored(draft)
    for each in (draft, row):
        assert (each.status, each.live, each.client_id) == ("active", True, "c1")
        assert each.client_secret.reveal() == "s1"
        assert each.client_secret_expires_at == 1800000000
        assert each.client_id_issued_at == 1700000000
        assert each.registration_client_uri == URI
        assert each.registration_access_token.reveal() == "t1"
        assert each.metadata == GRANTED
        assert (each.deviations, each.last_error) == ([], "")
        assert (each.lease, each.lease_until) == ("", None)
    request = mocked_responses.calls[0].request
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == GRANTED
    assert bearer(mocked_responses) is None


@database
def test_an_unsaved_draft_at_an_unsaved_server_is_registered(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    server = AuthorizationServer(issuer=ISSUER)
    row = register(ClientRegistration(server=server, owner="bob", requested_metadata=WISHES))
    assert ClientRegistration.objects.for_key(ISSUER, "bob").get() == row
    assert row.status == "active"


@database
def test_defaults_are_sent_and_nothing_empty_is(mocked_responses: Stubs, settings: Any) -> None:
    """R-060, R-064 to R-066, B13: text outside of ASCII is counted in bytes."""
    settings.DCR_CLIENT_METADATA = {"client_name": "Café von {owner}", "tos_uri": "", "scope": "a"}
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    server = make_server(client_metadata={"client_name#ja": "店", "contacts": []})
    wishes = {"redirect_uris": [CALLBACK], "scope": None}
    register(make_draft(server=server, owner="bób", requested_metadata=wishes))
    assert sent(mocked_responses) == {
        "client_name": "Café von bób",
        "client_name#ja": "店",
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "client_secret_basic",
    }
    request = mocked_responses.calls[0].request
    assert request.headers["Content-Length"] == str(len(request.body))


@database
def test_the_method_is_chosen_from_what_is_offered(mocked_responses: Stubs) -> None:
    """R-011, R-067."""
    offered = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    register(make_draft(server=make_server(metadata=server_metadata(**offered))))
    assert sent(mocked_responses)["token_endpoint_auth_method"] == "client_secret_post"


@database
def test_the_initial_access_token_is_sent_verbatim_and_not_stored(mocked_responses: Stubs) -> None:
    """R-063, R-109, B19, fault 133: a token in hand comes before the server's own."""
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id="c2"))
    server = make_server(initial_access_token="its/own+token==")
    register(make_draft(server=server))
    register(make_draft(server=server, owner="another"), initial_access_token="in/hand+token==")
    assert bearer(mocked_responses, 0) == "Bearer its/own+token=="
    assert bearer(mocked_responses, 1) == "Bearer in/hand+token=="
    server.refresh_from_db()
    assert server.initial_access_token.reveal() == "its/own+token=="


@database
def test_metadata_is_fetched_first_where_it_is_stale(mocked_responses: Stubs) -> None:
    """R-063, B27: one document for the operation, and no token where it comes from."""
    mocked_responses.get(WELL_KNOWN, json=server_metadata(registration_endpoint=ENDPOINT + "?v=2"))
    mocked_responses.post(ENDPOINT + "?v=2", status=201, json=client_information())
    register(make_draft(server=make_server(fresh_until=None)), initial_access_token="t0")
    assert [bearer(mocked_responses, n) for n in (0, 1)] == [None, "Bearer t0"]


@database
def test_nothing_that_the_metadata_names_is_fetched(mocked_responses: Stubs) -> None:
    """R-057, B28."""
    uris = {"logo_uri": "https://site.example/logo", "tos_uri": "https://site.example/tos"}
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**uris))
    register(make_draft(requested_metadata={**WISHES, **uris}))
    assert len(mocked_responses.calls) == 1


@database
def test_a_software_statement_is_passed_on_untouched(mocked_responses: Stubs) -> None:
    """R-061, R-076, fault 132: it is sent byte for byte, and no echo of it is kept."""
    statement = "eyJhbGciOiJub25lIn0.e30."
    echo = client_information(software_statement=statement + "changed")
    mocked_responses.post(ENDPOINT, status=201, json=echo)
    row = register(make_draft(requested_metadata={**WISHES, "software_statement": statement}))
    assert sent(mocked_responses)["software_statement"] == statement
    assert "software_statement came back changed" in str(row.deviations)
    assert statement not in str(stored(row).metadata)


# --- what is refused before anything is sent ---------------------------------------------------


@database
@pytest.mark.parametrize(
    ("changes", "wishes", "kind", "reason"),
    [
        ({"enabled": False}, WISHES, NotAllowedError, "is disabled"),
        ({}, {}, NotAllowedError, "needs redirect_uris"),
        ({}, {**WISHES, "client_id": "mine"}, NotAllowedError, "is assigned by the server"),
        ({}, ["redirect_uris"], NotAllowedError, "one JSON object"),
        (
            {"metadata": {"issuer": ISSUER}},
            WISHES,
            UnsupportedError,
            "offers no dynamic registration",
        ),
        (
            {"metadata": server_metadata(grant_types_supported=["implicit"])},
            {**WISHES, "grant_types": ["authorization_code"]},
            UnsupportedError,
            "does not offer authorization_code",
        ),
        (
            {"metadata": server_metadata(registration_endpoint="https://other.example/register")},
            WISHES,
            NotAllowedError,
            "which is not the issuer's origin",
        ),
        (
            {"metadata": server_metadata(registration_endpoint="http://as.example/register")},
            WISHES,
            InvalidResponseError,
            "is not https",
        ),
        (
            {"metadata": server_metadata(registration_endpoint="//as.example/register")},
            WISHES,
            InvalidResponseError,
            "is not an absolute",
        ),
        (
            {"metadata": server_metadata(registration_endpoint=7)},
            WISHES,
            InvalidResponseError,
            "is not a URL",
        ),
    ],
    ids=[
        "disabled", "no redirect", "client_id", "list", "not offered", "grant", "elsewhere", "http",
        "no scheme", "number",
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_refused_with_nothing_sent(
    changes: Any, wishes: Any, kind: type[DCRError], reason: str, mocked_responses: Stubs
) -> None:
    """R-065, R-067, R-109, faults 70, 83, 84, 92, 93."""
    server = make_server(initial_access_token="t0", **changes)
    draft = ClientRegistration(server=server, requested_metadata=wishes)
    with pytest.raises(kind, match=reason) as caught:
        register(draft)
    assert type(caught.value) is kind
    assert draft.pk is None
    assert not ClientRegistration.objects.exists()
    assert len(mocked_responses.calls) == 0


@database
def test_wrong_metadata_is_refused_without_asking_for_the_servers(mocked_responses: Stubs) -> None:
    server = make_server(fresh_until=None)
    with pytest.raises(NotAllowedError, match="needs redirect_uris"):
        register(ClientRegistration(server=server))
    assert len(mocked_responses.calls) == 0


@database
def test_an_endpoint_on_a_trusted_origin_is_used(mocked_responses: Stubs) -> None:
    """Fault 84."""
    endpoint = "https://register.example/clients"
    mocked_responses.post(endpoint, status=201, json=client_information())
    server = make_server(
        metadata=server_metadata(registration_endpoint=endpoint),
        trusted_origins=["https://register.example"],
    )
    assert register(make_draft(server=server)).status == "active"


@database
def test_a_token_whose_key_is_lost_is_told_before_anything_is_sent(settings: Any) -> None:
    draft = make_draft(server=make_server(initial_access_token="t0"))
    settings.DCR_ENCRYPTION_KEYS = ["A" * 43 + "="]
    with pytest.raises(DecryptionError, match="initial_access_token"):
        register(stored(draft))
    assert stored(draft).status == "draft"


@database
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("registering", "is being registered by another process"),
        ("active", "is registered already; update, renew or revoke it"),
        ("unknown", "was sent and the answer was lost"),
        ("revoking", "is being revoked"),
        ("revoked", "is closed; register again"),
        ("gone", "is no longer accepted by the server"),
    ],
)
def test_only_what_was_not_sent_or_was_refused_is_registered(status: str, advice: str) -> None:
    """Promise 1: no second POST without a decision."""
    row = make_draft(status=status)
    with pytest.raises(ConflictError, match=f"Registration {row.pk} {advice}") as caught:
        register(row)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "register")
    stale = stored(row)
    stale.status = "draft"
    with pytest.raises(ConflictError, match=advice):
        register(stale)


@database
def test_a_rejected_row_may_be_tried_again(mocked_responses: Stubs) -> None:
    mocked_responses.post(ENDPOINT, status=400, json={"error": "invalid_redirect_uri"})
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    draft = make_draft()
    with pytest.raises(RequestRejectedError):
        register(draft)
    assert register(stored(draft)).status == "active"
    assert stored(draft).last_error == ""


@database
def test_a_second_draft_of_one_key_is_a_conflict() -> None:
    row = make_registration()
    with pytest.raises(ConflictError, match="Use the row that it stored"):
        register(ClientRegistration(server=row.server, requested_metadata=WISHES))
    assert ClientRegistration.objects.get() == row


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_refuses_before_anything_is_sent() -> None:
    """Promise 3, fault L5: and the caller's own changes are not committed along."""
    draft = make_draft()
    with transaction.atomic():
        AuthorizationServer.objects.update(name="the caller's change")
        with pytest.raises(ConflictError, match=r"transaction\.non_atomic_requests") as caught:
            register(draft)
        transaction.set_rollback(True)
    assert caught.value.step == "register"
    assert stored(draft).status == "draft"
    assert stored(draft).server.name == ""


@pytest.mark.django_db(transaction=True)
def test_without_autocommit_it_refuses_before_anything_is_sent() -> None:
    """Promise 1: the intent would not be committed."""
    draft = make_draft()
    transaction.set_autocommit(False)
    try:
        with pytest.raises(ConflictError, match="cannot run inside a transaction"):
            register(draft)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


# --- what the server says ----------------------------------------------------------------------


def status_table() -> dict[int, str]:
    """The table of statuses in docs/states.md: the state of a registration that is answered so."""
    text = (Path(__file__).parents[1] / "docs/states.md").read_text()
    rows = re.findall(r"^\| ((?:`[0-9]{3}`(?:, )?)+) .*\| `(\w+)` \|", text, re.MULTILINE)
    return {int(status): state for cell, state in rows for status in re.findall("[0-9]+", cell)}


DOCUMENTED = {status for status in status_table() if status >= 300}
#: Those that the table does not name, or some of them.
OTHERS = {300, 302, 308, 402, 418, 431, 451, 499, 500, 502, 503, 504, 511}
if ALL:  # pragma: no cover - make test-tables
    OTHERS |= {*range(300, 309), *range(400, 432), *range(500, 512)}


@database
@pytest.mark.parametrize("status", sorted(DOCUMENTED | OTHERS))
def test_only_a_status_that_surely_says_no_lets_a_registration_be_sent_again(
    status: int, mocked_responses: Stubs, settings: Any
) -> None:
    """As the documented table says; whatever it does not name is in doubt."""
    settings.DCR_CLIENT_METADATA, settings.DCR_BACKOFF = WISHES, 0
    make_server()
    mocked_responses.post(ENDPOINT, status=status)
    expected = status_table().get(status, "unknown")
    for _ in range(3):
        with pytest.raises(DCRError):
            get_or_register(ISSUER)
    assert ClientRegistration.objects.get().status == expected
    assert len(mocked_responses.calls) == (3 if expected == "rejected" else 1)


@database
@pytest.mark.parametrize("status", [409, 418, 500, 503])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": "invalid_client_metadata"}, "rejected"),
        ({"error": "temporarily_unavailable"}, "rejected"),
        ({"error": "server_error"}, "unknown"),
        ({"error": ["invalid_client_metadata"]}, "unknown"),
        ({"message": "no"}, "unknown"),
    ],
)
def test_an_oauth_error_in_the_body_says_no_with_any_status(
    status: int, body: Any, expected: str, mocked_responses: Stubs
) -> None:
    mocked_responses.post(ENDPOINT, status=status, json=body)
    draft = make_draft()
    with pytest.raises(DCRError):
        register(draft)
    assert stored(draft).status == expected


@database
def test_an_operator_may_say_that_a_503_means_no(mocked_responses: Stubs) -> None:
    mocked_responses.post(ENDPOINT, status=503)
    draft = make_draft(server=make_server(rejects_with_503=True))
    with pytest.raises(RequestRejectedError):
        register(draft)
    assert stored(draft).status == "rejected"


@database
@pytest.mark.parametrize(
    ("kind", "status", "answer"),
    [
        (RequestRejectedError, "rejected", {"status": 400, "json": {"error": "x"}}),
        (RequestRejectedError, "rejected", {"status": 400, "body": "<h1>no"}),
        (RequestRejectedError, "rejected", {"status": 400, "body": ""}),
        (RequestRejectedError, "rejected", {"status": 401}),
        (RequestRejectedError, "rejected", {"status": 403}),
        (UnsupportedError, "rejected", {"status": 404}),
        (UnsupportedError, "rejected", {"status": 405}),
        (RequestRejectedError, "unknown", {"status": 409}),
        (RequestRejectedError, "rejected", {"status": 429, "headers": {"Retry-After": "9"}}),
        (UnsupportedError, "rejected", {"status": 501}),
        (RequestRejectedError, "unknown", {"status": 503, "headers": {"Retry-After": "9"}}),
        (NetworkError, "unknown", {"status": 307, "headers": {"Location": ENDPOINT + "/"}}),
        (NetworkError, "unknown", {"status": 302, "headers": {"Location": "https://b.example"}}),
        (InvalidResponseError, "unknown", {"status": 500, "body": "<h1>Oops"}),
        (InvalidResponseError, "unknown", {"status": 500, "body": ""}),
        (InvalidResponseError, "unknown", {"status": 502}),
        (InvalidResponseError, "unknown", {"status": 504}),
        (InvalidResponseError, "unknown", {"status": 202, "json": client_information()}),
        (InvalidResponseError, "unknown", {"status": 204}),
        (InvalidResponseError, "unknown", {"status": 200, "body": "<h1>Log in"}),
        (InvalidResponseError, "unknown", {"status": 201, "body": ""}),
        (InvalidResponseError, "unknown", {"status": 201, "body": "null"}),
        (InvalidResponseError, "unknown", {"status": 201, "json": "c1"}),
        (InvalidResponseError, "unknown", {"status": 201, "json": [client_information()]}),
        (InvalidResponseError, "unknown", {"status": 201, "body": '{"a": 1, "a": 2}'}),
        (InvalidResponseError, "unknown", {"status": 201, "body": '{"client_id": "c1"'}),
        (NetworkError, "unknown", {"body": requests.ReadTimeout()}),
        (NetworkError, "unknown", {"body": requests.ConnectionError()}),
    ],
    ids=[
        "400", "400 HTML", "400 empty", "401", "403", "404", "405", "409", "429", "501", "503",
        "307 same origin", "302 elsewhere", "500", "500 empty", "502", "504", "202", "204",
        "200 HTML", "201 empty", "null", "text", "list", "duplicate", "cut", "timeout", "broken",
    ],
)  # fmt: skip
def test_a_refusal_and_a_doubt_are_told_apart(
    kind: type[DCRError], status: str, answer: Any, mocked_responses: Stubs
) -> None:
    """R-072, R-077 to R-079, B4, B7, faults 3 to 9, 39 to 41, 47 to 51, 58, 59, 62."""
    mocked_responses.post(ENDPOINT, **answer)
    draft = make_draft()
    with pytest.raises(kind) as caught:
        register(draft)
    assert type(caught.value) is kind
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "register")
    row = stored(draft)
    assert (row.status, row.live, row.lease) == (status, True, "")
    assert row.last_error == str(caught.value)
    assert (row.client_id, row.client_secret) == ("", None)
    assert len(mocked_responses.calls) == 1


@database
def test_the_servers_reason_is_passed_on(mocked_responses: Stubs) -> None:
    """R-077, R-079, B25, fault 138: cleaned, and without what we sent."""
    said = {"error": "invalid_redirect_uri", "error_description": "no \x1b[1m t0/secret here\r\n"}
    mocked_responses.post(ENDPOINT, status=400, json=said, headers={"Retry-After": "99999"})
    draft = make_draft()
    with pytest.raises(RequestRejectedError) as caught:
        register(draft, initial_access_token="t0/secret")
    assert caught.value.status == 400
    assert caught.value.error == "invalid_redirect_uri"
    assert caught.value.error_description == "no [1m ******** here"
    assert caught.value.retry_after == 3600
    assert "t0/secret" not in str(caught.value) + stored(draft).last_error


@database
def test_what_never_left_this_machine_can_be_sent_again() -> None:
    """Faults 1 and 33: the intent is closed, for nothing was sent."""
    issuer = "https://127.0.0.1"
    metadata = server_metadata(issuer=issuer, registration_endpoint=issuer + "/register")
    draft = make_draft(server=make_server(issuer=issuer, metadata=metadata))
    with pytest.raises(NetworkError, match="cannot be reached") as caught:
        register(stored(draft))
    assert not caught.value.sent
    assert stored(draft).status == "draft"
    assert stored(draft).last_error == str(caught.value)


@database
def test_what_policy_forbids_at_the_last_moment_stays_a_draft() -> None:
    """Fault 95."""
    metadata = server_metadata(registration_endpoint="https://as.example:25/register")
    server = make_server(metadata=metadata, trusted_origins=["https://as.example:25"])
    draft = make_draft(server=server)
    with pytest.raises(NotAllowedError, match="Port 25 is not allowed"):
        register(draft)
    assert stored(draft).status == "draft"


# --- what the server grants --------------------------------------------------------------------


@database
def test_200_is_taken_for_201_and_noted(mocked_responses: Stubs) -> None:
    """R-072, fault 38."""
    mocked_responses.post(ENDPOINT, status=200, json=client_information())
    row = register(make_draft())
    assert row.status == "active"
    assert stored(row).deviations == ["The server answered 200 instead of 201."]


@database
def test_the_answers_values_hold_and_missing_ones_are_as_asked(mocked_responses: Stubs) -> None:
    """R-074, R-080, R-102, B17, faults 120 to 122, 131: drift is told and nothing is refused."""
    answer = client_information(
        client_name=...,
        redirect_uris=[CALLBACK, "javascript:alert(1)"],
        scope=["read", "write"],
        token_endpoint_auth_method="client_secret_post",
        jwks={"keys": []},
        contacts=None,
        logo_uri="",
        trusted=True,
    )
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    row = register(make_draft(requested_metadata={**WISHES, "scope": "read"}))
    assert stored(row).metadata == {
        "client_name": "Shop",
        "redirect_uris": [CALLBACK, "javascript:alert(1)"],
        "scope": "read write",
        "token_endpoint_auth_method": "client_secret_post",
        "jwks": {"keys": []},
        "trusted": True,
    }
    assert row.drift.keys() == {"redirect_uris", "scope"}
    assert "scope came as a list" in str(row.deviations)


@database
def test_a_minimal_answer_is_enough_for_a_public_client(mocked_responses: Stubs) -> None:
    """R-074, fault 115: not manageable, and OK."""
    mocked_responses.post(ENDPOINT, status=201, json={"client_id": "c1"})
    wishes = {**WISHES, "token_endpoint_auth_method": "none"}
    row = register(make_draft(requested_metadata=wishes))
    assert (row.status, row.client_secret, row.is_manageable) == ("active", None, False)
    assert row.metadata == wishes


@database
@pytest.mark.parametrize(
    ("stated", "expires_at", "expired", "odd"),
    [
        (0, 0, False, False),
        (1, 1, True, False),
        (1900000000, 1900000000, False, False),
        ("0", 0, False, True),
        (1900000000.0, 1900000000, False, True),
        (..., None, False, True),
        (None, None, False, True),
        (-1, None, False, True),
        (True, None, False, True),
        ("never", None, False, True),
        ("2030-01-01", None, False, True),
        (1900000000000, None, False, True),
        (10**19, None, False, True),
        ([0], None, False, True),
    ],
    ids=repr,
)
def test_an_expiry_is_stored_or_unknown_and_never_guessed(
    stated: Any, expires_at: int | None, expired: bool, odd: bool, mocked_responses: Stubs
) -> None:
    """R-071, B11, B12, B14, faults 111 to 113: True is not 1, and milliseconds no seconds."""
    answer = client_information(client_secret_expires_at=stated)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    row = stored(register(make_draft()))
    assert (row.client_secret_expires_at, row.secret_has_expired) == (expires_at, expired)
    assert bool(row.deviations) is odd


@database
@pytest.mark.parametrize(
    "changes",
    [
        {"registration_client_uri": ...},
        {"registration_access_token": ...},
        {"registration_client_uri": "/register/c1"},
        {"registration_client_uri": 7},
        {"registration_client_uri": "javascript:alert(1)"},
        {"registration_client_uri": "https://me@as.example/c1"},
    ],
    ids=["no URI", "no token", "relative", "number", "javascript", "userinfo"],
)
def test_half_of_the_means_of_management_is_noted(changes: Any, mocked_responses: Stubs) -> None:
    """R-125, faults 115 and 116."""
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**changes))
    row = register(make_draft())
    assert (row.status, row.is_manageable) == ("active", False)
    assert any("is missing, so this cannot be managed" in line for line in row.deviations)


@database
def test_credentials_are_kept_to_the_character(mocked_responses: Stubs) -> None:
    """R-081, B8, B10, faults 102, 103, 109, 110: of any length, and never stripped or cut."""
    answer = client_information(
        client_id="../../admin " + "é" * 4000,
        client_secret=" s b+c%/é:🔑 ",
        registration_client_uri=URI + "?client=c%31&x=[y]",
        token_endpoint_auth_method="none",
    )
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    row = stored(register(make_draft()))
    assert row.client_id == answer["client_id"]
    assert row.client_secret.reveal() == answer["client_secret"]
    assert row.registration_client_uri == answer["registration_client_uri"]
    assert "although the client is public" in str(row.deviations)


@database
def test_members_named_like_our_columns_change_none(mocked_responses: Stubs) -> None:
    """Faults 67 and 134."""
    odd = {
        "id": 99, "pk": 99, "owner": "evil", "status": "revoked", "live": None, "server": 99,
        "key_digest": "x", "lease": "x", "__proto__": {}, "_state": 1, "objects": 1, "issuer": "x",
    }  # fmt: skip
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**odd))
    draft = make_draft(owner="bob")
    row = stored(register(draft))
    assert (row.pk, row.owner, row.status, row.live, row.lease) == (
        draft.pk, "bob", "active", True, "",
    )  # fmt: skip
    assert row.belongs_to_server
    assert row.metadata["owner"] == "evil"


@database
def test_secrets_under_other_names_are_not_kept(mocked_responses: Stubs) -> None:
    """Fault 132."""
    odd = {"access_token": "xyzzy", "nested": {"password": "xyzzy"}, "private_key": "xyzzy"}
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**odd))
    row = stored(register(make_draft()))
    assert "xyzzy" not in str(row.metadata) + str(row.deviations)


# --- answers that cannot be used: the client is deleted again ----------------------------------

UNUSABLE = [
    pytest.param({"client_id": ...}, "client_id is missing", id="no client_id"),
    pytest.param({"client_id": None}, "client_id is missing", id="client_id null"),
    pytest.param({"client_id": 7}, "client_id is not usable", id="client_id number"),
    pytest.param({"client_id": 7.5}, "client_id is not usable", id="client_id float"),
    pytest.param({"client_id": True}, "client_id is not usable", id="client_id bool"),
    pytest.param({"client_id": ["c1"]}, "client_id is not usable", id="client_id list"),
    pytest.param({"client_id": {"a": 1}}, "client_id is not usable", id="client_id object"),
    pytest.param({"client_id": ""}, "client_id is not usable", id="client_id empty"),
    pytest.param({"client_id": "  "}, "client_id is not usable", id="client_id blank"),
    pytest.param({"client_id": "a\r\nb"}, "client_id is not usable", id="client_id CR LF"),
    pytest.param({"client_id": "a\0b"}, "client_id is not usable", id="client_id NUL"),
    pytest.param({"client_id": "a\ud800"}, "client_id is not usable", id="client_id surrogate"),
    pytest.param({"client_id": "c" * 20_000}, "client_id is not usable", id="client_id too long"),
    pytest.param({"client_secret": 7}, "client_secret is not usable", id="secret number"),
    pytest.param({"client_secret": ["s1"]}, "client_secret is not usable", id="secret list"),
    pytest.param({"client_secret": "a\nb"}, "client_secret is not usable", id="secret newline"),
    pytest.param({"client_secret": ...}, "client_secret is missing", id="no secret"),
    pytest.param({"client_secret": None}, "client_secret is missing", id="secret null"),
    pytest.param({"client_secret": ""}, "client_secret is missing", id="secret empty"),
    pytest.param({"client_secret": "*******"}, "client_secret is missing", id="secret masked"),
    pytest.param({"error": "server_error"}, "the answer is an error", id="error"),
]


@database
@pytest.mark.parametrize(("changes", "reason"), UNUSABLE)
def test_a_client_that_cannot_be_used_is_deleted_again(
    changes: Any, reason: str, mocked_responses: Stubs
) -> None:
    """R-073, R-075, faults 39, 101, 102, 106 and 107."""
    mocked_responses.post(ENDPOINT, status=201, json=client_information(**changes))
    mocked_responses.delete(URI, status=204)
    draft = make_draft()
    with pytest.raises(InvalidResponseError, match=reason) as caught:
        register(draft)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "register")
    assert bearer(mocked_responses, 1) == "Bearer t1"
    row = stored(draft)
    assert (row.status, row.last_error) == ("rejected", str(caught.value))
    assert (row.client_id, row.client_secret, row.registration_access_token) == ("", None, None)
    assert row.lease == ""


@database
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 401},
        {"status": 405},
        {"status": 302},
        {"body": requests.ConnectionError()},
    ],
    ids=["500", "401", "405", "redirect", "broken off"],
)
def test_a_client_that_could_not_be_deleted_again_is_kept_on_record(
    answer: Any, mocked_responses: Stubs
) -> None:
    """Code C: the row keeps what is needed to delete it, and reconcile does so."""
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_secret=...))
    mocked_responses.delete(URI, **answer)
    draft = make_draft()
    with pytest.raises(InvalidResponseError, match="client_secret is missing"):
        register(draft)
    row = stored(draft)
    assert (row.status, row.live, row.client_id) == ("unknown", True, "c1")
    assert row.registration_client_uri == URI
    assert row.registration_access_token.reveal() == "t1"
    mocked_responses.delete(URI, status=204)
    assert reconcile() == [row]
    assert stored(row).status == "revoked"


@database
@pytest.mark.parametrize("status", [200, 204, 404, 410])
def test_a_client_that_is_not_there_any_more_is_deleted(
    status: int, mocked_responses: Stubs
) -> None:
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_secret=...))
    mocked_responses.delete(URI, status=status)
    draft = make_draft()
    with pytest.raises(InvalidResponseError):
        register(draft)
    assert stored(draft).status == "rejected"


@database
@pytest.mark.parametrize(
    "changes",
    [
        {"registration_client_uri": ...},
        {"registration_access_token": ...},
        {"registration_access_token": 7},
        {"registration_access_token": "a\r\nX: y"},
        {"registration_access_token": "t" * 60_000},
        {"registration_client_uri": "https://evil.example/c1"},
        {"registration_client_uri": "http://as.example/c1"},
        {"registration_client_uri": "//evil.example/c1"},
    ],
    ids=[
        "no URI", "no token", "token number", "token CR LF", "token too long", "URI elsewhere",
        "URI http", "URI without scheme",
    ],
)  # fmt: skip
def test_what_cannot_be_deleted_is_unknown_and_its_token_goes_nowhere(
    changes: Any, mocked_responses: Stubs
) -> None:
    """Promise 4, faults 114, 116 and 117."""
    answer = client_information(client_secret=..., **changes)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    draft = make_draft()
    with pytest.raises(InvalidResponseError, match="client_secret is missing"):
        register(draft)
    assert len(mocked_responses.calls) == 1
    assert stored(draft).status == "unknown"


@database
@pytest.mark.parametrize("token", [7, [], "a\r\nX: y", "é", "a\0"], ids=repr)
def test_a_token_that_no_header_takes_is_a_fault(token: object, mocked_responses: Stubs) -> None:
    """Fault 114: and it is never in a header."""
    answer = client_information(registration_access_token=token)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    draft = make_draft()
    with pytest.raises(InvalidResponseError, match="registration_access_token is not usable"):
        register(draft)
    row = stored(draft)
    assert (row.status, row.client_id, row.registration_access_token) == ("unknown", "c1", None)
    assert row.client_secret.reveal() == "s1"


@database
def test_another_registrations_client_is_refused_and_not_deleted(mocked_responses: Stubs) -> None:
    """Fault 105: deleting it would delete the first."""
    first = make_registration()
    before = ClientRegistration.objects.filter(pk=first.pk).values().get()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    draft = make_draft(server=first.server, owner="another")
    with pytest.raises(InvalidResponseError, match="another registration already holds"):
        register(draft)
    assert len(mocked_responses.calls) == 1
    row = stored(draft)
    assert (row.status, row.client_id, row.client_secret) == ("rejected", "", None)
    assert ClientRegistration.objects.filter(pk=first.pk).values().get() == before


@database
def test_another_registrations_client_is_not_deleted_for_a_fault(mocked_responses: Stubs) -> None:
    """Fault 105, with an answer that lacks the secret as well."""
    first = make_registration()
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_secret=...))
    draft = make_draft(server=first.server, owner="another")
    with pytest.raises(InvalidResponseError, match="another registration already holds"):
        register(draft)
    assert len(mocked_responses.calls) == 1
    assert stored(draft).status == "rejected"
    assert stored(first).client_secret.reveal() == "s1"


@database
def test_the_client_of_a_past_row_may_come_again(mocked_responses: Stubs) -> None:
    past = make_registration()
    past.clear()
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    assert register(make_draft(server=past.server)).client_id == "c1"


# --- signals -----------------------------------------------------------------------------------


@database
def test_registered_is_announced_after_it_is_stored(
    mocked_responses: Stubs, heard: list[Any]
) -> None:
    mocked_responses.post(ENDPOINT, status=400)
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    draft = make_draft()
    with pytest.raises(RequestRejectedError):
        register(draft)
    assert heard == []
    register(draft)
    assert heard == [("registered", draft, "active")]


@database
def test_a_receivers_error_undoes_nothing(mocked_responses: Stubs, caplog: Any) -> None:
    """Fault L30."""

    def receiver(**_: Any) -> None:
        raise RuntimeError("not my day")

    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    signals.registered.connect(receiver)
    try:
        row = register(make_draft())
    finally:
        signals.registered.disconnect(receiver)
    assert stored(row).status == "active"
    assert "not my day" in caplog.text


# --- with a real server and a database in a file -----------------------------------------------

loopback = pytest.mark.network


def draft_at(server: FakeServer) -> ClientRegistration:
    return make_draft(
        server=make_server(
            issuer=server.issuer, metadata=server.metadata(), initial_access_token="t0"
        )
    )


def look(file: Path, sql: str) -> Any:
    """Ask the database over a connection of one's own, which sees what is committed."""
    with sqlite3.connect(file, timeout=60) as own:
        result = own.execute(sql).fetchall()
    own.close()
    return result


@loopback
def test_the_intent_is_committed_before_the_request_is_sent(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Promise 1: no registration at a server without a local trace."""
    seen = []
    sql = "SELECT status, lease <> '', client_id FROM django_dcr_clientregistration"
    authorization_server.while_handling["POST"] = lambda document: seen.append(
        look(database_file, sql)
    )
    register(draft_at(authorization_server))
    assert seen == [[("registering", 1, "")]]
    assert look(database_file, sql) == [("active", 0, "c1")]


@loopback
def test_an_unsaved_draft_is_committed_before_the_request_is_sent(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Promise 1."""
    seen = []
    authorization_server.while_handling["POST"] = lambda document: seen.append(
        look(database_file, "SELECT status FROM django_dcr_clientregistration")
    )
    server = make_server(issuer=authorization_server.issuer, fresh_until=None)
    register(ClientRegistration(server=server, requested_metadata=WISHES))
    assert seen == [[("registering",)]]


@loopback
def test_others_can_write_while_the_server_is_asked(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Promise 3, fault 27: no transaction is open, which would hold the one lock of SQLite."""
    written = []

    def write(document: Any) -> None:
        # Raises where it has to wait for a second.
        look(database_file, "UPDATE django_dcr_authorizationserver SET name = 'from elsewhere'")
        written.append(document)

    authorization_server.while_handling.update(GET=write, POST=write)
    draft = draft_at(authorization_server)
    AuthorizationServer.objects.update(fresh_until=None)
    row = register(stored(draft))
    assert len(written) == 2
    assert stored(row).server.name == "from elsewhere"


TRIGGER = """
CREATE TRIGGER full BEFORE UPDATE ON django_dcr_clientregistration WHEN NEW.status = 'active'
BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END
"""


@loopback
def test_a_client_that_cannot_be_stored_is_deleted_again(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Faults L1 and L24: the commit fails for good, and the client does not stay behind."""
    draft = draft_at(authorization_server)
    authorization_server.while_handling["POST"] = lambda document: look(database_file, TRIGGER)
    with pytest.raises(DatabaseError, match="disk is full"):
        register(draft)
    assert authorization_server.clients == {}
    assert authorization_server.requests == ["POST /register", "DELETE /register/c1"]
    row = stored(draft)
    assert row.status == "rejected"
    assert "did not store it (database or disk is full)" in row.last_error
    assert "The client was deleted at the server." in row.last_error
    assert (row.client_id, row.registration_access_token, row.lease) == ("", None, "")


@loopback
def test_a_client_that_can_be_neither_stored_nor_deleted_is_unknown(
    authorization_server: FakeServer, database_file: Path, caplog: Any
) -> None:
    """Fault L1."""
    draft = draft_at(authorization_server)

    def break_both(document: dict[str, Any]) -> None:
        look(database_file, TRIGGER)
        authorization_server.clients.clear()

    authorization_server.while_handling["POST"] = break_both
    with pytest.raises(DatabaseError, match="disk is full"):
        register(draft)
    assert stored(draft).status == "unknown"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert f"registration {draft.pk}," in record.getMessage()
    assert "could not be deleted either" in record.getMessage()
    assert "registration_access_token-" not in caplog.text
    assert "client_secret-" not in caplog.text


@loopback
def test_where_the_database_is_gone_the_client_is_deleted_and_reconcile_settles_the_row(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Fault L1."""
    draft = draft_at(authorization_server)
    every = TRIGGER.replace("WHEN NEW.status = 'active'", "")
    authorization_server.while_handling["POST"] = lambda document: look(database_file, every)
    with pytest.raises(DatabaseError, match="disk is full"):
        register(draft)
    assert authorization_server.clients == {}
    assert stored(draft).status == "registering"
    look(database_file, "DROP TRIGGER full")
    ClientRegistration.objects.update(lease_until=now())
    reconcile()
    assert stored(draft).status == "unknown"


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_connection_that_died_meanwhile_is_made_again(authorization_server: FakeServer) -> None:
    """Fault L4: the credentials are not lost to a server that has gone away."""
    draft = draft_at(authorization_server)
    mine = connection.connection
    authorization_server.while_handling["POST"] = lambda document: mine.execute(
        "PRAGMA query_only = ON"
    )
    assert register(draft).status == "active"
    assert stored(draft).client_id == "c1"
    assert authorization_server.requests == ["POST /register"]


@loopback
@pytest.mark.usefixtures("database_file")
def test_a_client_whose_row_is_in_doubt_is_not_deleted(
    authorization_server: FakeServer, settings: Any
) -> None:
    """Fault L2: the row that was committed after all would be handed out with a dead client."""
    settings.DCR_LEASE = 1
    draft = draft_at(authorization_server)

    def lose(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and authorization_server.clients:
            raise OperationalError("connection refused")
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and authorization_server.clients:
            context["connection"].connection.commit()
            raise InDoubtError("server closed the connection unexpectedly")
        return result

    with connection.execute_wrapper(lose), pytest.raises(NotStoredError, match="It may have"):
        register(draft)
    assert authorization_server.requests == ["POST /register"]
    assert stored(draft).status == "active"


@loopback
def test_before_the_request_a_database_that_does_not_write_sends_nothing(
    authorization_server: FakeServer, database_file: Path
) -> None:
    """Faults L3 and L24."""
    draft = draft_at(authorization_server)
    look(database_file, TRIGGER.replace("'active'", "'registering'"))
    with pytest.raises(DatabaseError, match="disk is full"):
        register(draft)
    assert authorization_server.requests == []


TAKEN = "UPDATE django_dcr_clientregistration SET lease_until = '2020-01-01 00:00:00'"


@loopback
@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "not deleted"])
def test_a_process_that_slept_too_long_leaves_no_client_behind(
    authorization_server: FakeServer, database_file: Path, deleted: bool
) -> None:
    """Fault L10: another process has settled the row, and the late client is one too many."""
    draft = draft_at(authorization_server)

    def sleep(document: Any) -> None:
        look(database_file, TAKEN)
        reconcile()
        connection.close()
        if not deleted:
            authorization_server.clients["c1"]["registration_access_token"] = "turned"

    authorization_server.while_handling["POST"] = sleep
    with pytest.raises(ConflictError, match="was taken over while this process waited"):
        register(draft)
    assert authorization_server.requests == ["POST /register", "DELETE /register/c1"]
    row = stored(draft)
    assert (draft.status, row.status, row.client_id) == ("unknown", "unknown", "")
    spares = ClientRegistration.objects.exclude(pk=draft.pk)
    if deleted:
        assert authorization_server.clients == {}
        assert not spares.exists()
    else:
        spare = spares.get()
        assert (spare.status, spare.live, spare.client_id) == ("unknown", None, "c1")
        assert spare.client_secret.reveal().startswith("client_secret-")
        assert spare.is_manageable
        assert "Revoke it" in spare.last_error

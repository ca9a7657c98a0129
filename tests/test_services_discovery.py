from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests
import responses
from django.utils.timezone import now

from django_dcr.exceptions import (
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import AuthorizationServer
from django_dcr.services import discover
from tests.factories import (
    APPENDED_OPENID,
    ENDPOINT,
    ISSUER,
    WELL_KNOWN,
    WELL_KNOWN_OPENID,
    make_server,
    server_metadata,
)

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock


def stale(**values: Any) -> AuthorizationServer:
    """A server whose document has served its time."""
    return make_server(fresh_until=now() - timedelta(seconds=1), **values)


def unknown() -> AuthorizationServer:
    return AuthorizationServer.objects.for_issuer(ISSUER)


def saved(server: AuthorizationServer) -> AuthorizationServer:
    return AuthorizationServer.objects.get(pk=server.pk)


def asked(stubs: Stubs) -> list[str]:
    return [str(call.request.url) for call in stubs.calls]


# --- the cache is the row ----------------------------------------------------------------------


def test_a_fresh_row_costs_nothing(django_assert_num_queries: Any) -> None:
    server = make_server()
    with django_assert_num_queries(0):
        assert discover(server) is server


def test_metadata_that_another_process_fetched_is_used(django_assert_num_queries: Any) -> None:
    server = stale()
    make_fresh = AuthorizationServer.objects.filter(pk=server.pk)
    make_fresh.update(fresh_until=now() + timedelta(hours=1), metadata=server_metadata(found=True))
    with django_assert_num_queries(1):
        discover(server)
    assert server.metadata["found"] is True


def test_the_metadata_of_a_server_is_requested_once_and_cached(
    mocked_responses: Stubs, django_assert_num_queries: Any
) -> None:
    """R-001, R-002, R-009, B20, B27: inserted between host and path; unknown members are kept."""
    document = server_metadata(unknown_member={"a": [1]})
    mocked_responses.get(WELL_KNOWN, json=document, headers={"ETag": '"1"'})
    server = unknown()
    with django_assert_num_queries(2):
        assert discover(server) is server
    assert discover(server).metadata == document
    server = saved(server)
    assert (server.metadata, server.metadata_url, server.etag) == (document, WELL_KNOWN, '"1"')
    assert server.is_fresh
    assert len(mocked_responses.calls) == 1


def test_an_unsaved_server_is_saved_with_its_document(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    server = discover(AuthorizationServer(issuer=ISSUER, name="Bank"))
    assert saved(server).name == "Bank"
    assert saved(server).metadata == server_metadata()


def test_a_refresh_asks_although_the_row_is_fresh(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata(changed=True))
    assert discover(make_server(), refresh=True).metadata["changed"]


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({}, 600),
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": "public, max-age=60", "Age": "50"}, 10),
        ({"Cache-Control": "max-age=999999999999"}, 600),
        ({"Cache-Control": "max-age=60", "Age": "-1"}, 60),
        ({"Cache-Control": "no-store"}, 0),
        ({"Cache-Control": "nonsense"}, 600),
    ],
    ids=str,
)
def test_a_document_is_fresh_as_long_as_the_server_and_the_site_allow(
    headers: dict[str, str], lifetime: int, mocked_responses: Stubs, settings: Any
) -> None:
    """Fault 100."""
    settings.DCR_METADATA_TTL, settings.DCR_METADATA_MIN_TTL = 600, 0
    mocked_responses.get(WELL_KNOWN, json=server_metadata(), headers=headers)
    server = discover(unknown())
    assert server.fresh_until - server.fetched_at == timedelta(seconds=lifetime)


def test_an_unchanged_document_is_not_sent_again(mocked_responses: Stubs) -> None:
    server = stale(etag='"1"')
    condition = responses.matchers.header_matcher({"If-None-Match": '"1"'})
    mocked_responses.get(WELL_KNOWN, status=304, headers={"ETag": '"1"'}, match=[condition])
    assert discover(server).is_fresh
    assert saved(server).metadata == server_metadata()
    assert saved(server).etag == '"1"'


def test_an_etag_is_sent_only_to_the_url_that_returned_it(mocked_responses: Stubs) -> None:
    server = stale(etag='"1"', metadata_url=WELL_KNOWN_OPENID)
    mocked_responses.get(WELL_KNOWN, status=404)
    mocked_responses.get(WELL_KNOWN_OPENID, status=304)
    assert discover(server).is_fresh
    assert "If-None-Match" not in mocked_responses.calls[0].request.headers


def test_a_condition_is_not_set_for_another_issuers_document(mocked_responses: Stubs) -> None:
    """Fault 82: the issuer was edited, and both have one well-known place."""
    server = stale(etag='"1"')
    server.issuer = ISSUER + "/"
    server.save()
    mocked_responses.get(WELL_KNOWN, json=server_metadata(issuer=ISSUER + "/"))
    assert discover(server).metadata["issuer"] == ISSUER + "/"
    assert "If-None-Match" not in mocked_responses.calls[0].request.headers


# --- where documents are looked for ------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404},
        {"status": 401},
        {"status": 500, "body": "<h1>Oops</h1>"},
        {"status": 503},
        {"status": 301, "headers": {"Location": "https://other.example"}},
        {"status": 204},
        {"body": "<!doctype html><title>App</title>"},
        {"body": ""},
        {"json": [server_metadata()]},
        {"json": "text"},
        {"body": '{"issuer": "a", "issuer": "b"}'},
        {"json": {}},
        {"json": {"issuer": None, "registration_endpoint": ENDPOINT}},
        {"json": {"issuer": ""}},
    ],
    ids=[
        "404", "401", "500", "503", "redirect", "204", "HTML", "empty", "list", "text", "duplicate",
        "empty object", "no issuer", "empty issuer",
    ],
)  # fmt: skip
def test_a_response_that_is_not_a_document_is_skipped(answer: Any, mocked_responses: Stubs) -> None:
    """R-004, R-017, B21, faults 39, 41, 58, 62 and 81: an outage is not absence."""
    mocked_responses.get(WELL_KNOWN, **answer)
    mocked_responses.get(WELL_KNOWN_OPENID, json=server_metadata())
    server = discover(unknown())
    assert server.metadata_url == WELL_KNOWN_OPENID
    assert server.is_fresh


def test_three_urls_are_requested_in_order(mocked_responses: Stubs) -> None:
    """R-002, R-017, R-020, R-146."""
    mocked_responses.get(WELL_KNOWN, status=404)
    mocked_responses.get(WELL_KNOWN_OPENID, status=404)
    mocked_responses.get(APPENDED_OPENID, json=server_metadata())
    assert discover(unknown()).metadata_url == APPENDED_OPENID
    assert asked(mocked_responses) == [WELL_KNOWN, WELL_KNOWN_OPENID, APPENDED_OPENID]


@pytest.mark.parametrize("issuer", ["https://as.example", "https://as.example/"])
def test_a_root_issuer_has_two_places(issuer: str, mocked_responses: Stubs) -> None:
    """R-003: with and without its final slash, and the issuer stays as it is."""
    mocked_responses.get("https://as.example/.well-known/oauth-authorization-server", status=404)
    mocked_responses.get(
        "https://as.example/.well-known/openid-configuration", json={"issuer": issuer}
    )
    assert discover(AuthorizationServer(issuer=issuer)).metadata == {"issuer": issuer}


def test_a_document_with_registration_is_preferred_and_never_mixed(mocked_responses: Stubs) -> None:
    """Fault 81."""
    mocked_responses.get(WELL_KNOWN, json={"issuer": ISSUER, "only_here": 1})
    mocked_responses.get(WELL_KNOWN_OPENID, json=server_metadata(only_there=2))
    server = discover(unknown())
    assert server.metadata == server_metadata(only_there=2)
    assert server.metadata_url == WELL_KNOWN_OPENID


def test_the_first_document_serves_where_none_offers_registration(mocked_responses: Stubs) -> None:
    """Fault 70: found, and discovery has done its work."""
    mocked_responses.get(WELL_KNOWN, status=404)
    mocked_responses.get(WELL_KNOWN_OPENID, json={"issuer": ISSUER, "place": 2})
    mocked_responses.get(APPENDED_OPENID, json={"issuer": ISSUER, "place": 3})
    assert discover(unknown()).metadata["place"] == 2


@pytest.mark.parametrize("second", [{"status": 500}, {"json": {"issuer": "https://evil.example"}}])
def test_a_document_in_hand_outlives_trouble_with_the_next(
    second: Any, mocked_responses: Stubs
) -> None:
    mocked_responses.get(WELL_KNOWN, json={"issuer": ISSUER})
    mocked_responses.get(WELL_KNOWN_OPENID, **second)
    mocked_responses.get(APPENDED_OPENID, json=server_metadata())
    assert discover(unknown()).metadata == server_metadata()


# --- whose document it is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "issuer",
    [
        7, [ISSUER], {"issuer": ISSUER}, ISSUER + "/", "https://as.example",
        "https://as.example/", "https://as.example/tenant2", "https://as.example/TENANT",
        "HTTPS://as.example/tenant", "https://as.example:443/tenant", "http://as.example/tenant",
        "https://as.example./tenant", "https://\u0430s.example/tenant", "https://as.example/tenant\n",
        "https://honest.example", "https://as.example/./tenant", "https://as.example/%74enant",
        ISSUER + "?", ISSUER + "#", "https://as.example/tenan",
    ],
    ids=ascii,
)  # fmt: skip
def test_another_issuers_document_ends_discovery(issuer: Any, mocked_responses: Stubs) -> None:
    """R-005, R-006, R-147, faults 71 to 79: nothing in it is used and no other place is asked."""
    document = {"registration_endpoint": ENDPOINT, "issuer": issuer}
    mocked_responses.get(WELL_KNOWN, json=document)
    server = unknown()
    with pytest.raises(InvalidResponseError, match="metadata") as caught:
        discover(server)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "discover")
    server = saved(server)
    assert (server.metadata, server.is_fresh) == ({}, False)
    assert server.last_error == str(caught.value)


def test_an_impostor_is_refused_although_a_good_document_is_kept(mocked_responses: Stubs) -> None:
    """Fault 80: right at first, another's later."""
    mocked_responses.get(WELL_KNOWN, json={"issuer": "https://evil.example"})
    server = stale()
    for _ in range(2):
        with pytest.raises(InvalidResponseError, match="is of another issuer"):
            discover(server)
    assert saved(server).metadata == server_metadata()
    assert not saved(server).is_fresh


def test_a_document_whose_issuer_was_edited_is_fetched_again(mocked_responses: Stubs) -> None:
    """Fault 82: in the cache as well, it is used only for its own issuer."""
    server = make_server()
    server.issuer = "https://as.example/tenant2"
    mocked_responses.get(WELL_KNOWN + "2", json=server_metadata(issuer=server.issuer))
    server.save()
    assert discover(server).metadata["issuer"] == server.issuer


def test_a_document_of_another_issuer_is_not_served_on(mocked_responses: Stubs) -> None:
    """Fault 82."""
    server = make_server(issuer=ISSUER + "2")
    mocked_responses.get(WELL_KNOWN + "2", body=requests.ConnectionError())
    with pytest.raises(NetworkError):
        discover(server)


def test_endpoints_elsewhere_are_stored_and_nothing_is_sent_there(mocked_responses: Stubs) -> None:
    """Faults 96 to 98."""
    document = server_metadata(
        token_endpoint="https://other.example/token",
        authorization_endpoint="a:$(calc.exe)",
        logo_uri="javascript:alert(1)",
    )
    mocked_responses.get(WELL_KNOWN, json=document)
    assert discover(unknown()).metadata == document
    assert asked(mocked_responses) == [WELL_KNOWN]


# --- when the server cannot be asked -----------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        [{"body": requests.ConnectionError()}],
        [{"body": requests.ReadTimeout()}],
        [{"status": 500}, {"status": 502}, {"status": 503}],
        [{"status": 404}, {"status": 404}, {"status": 404}],
    ],
    ids=["no connection", "no answer", "errors", "absent"],
)
def test_the_last_good_document_serves_through_an_outage(
    answers: list[Any], mocked_responses: Stubs, caplog: Any
) -> None:
    for url, answer in zip([WELL_KNOWN, WELL_KNOWN_OPENID, APPENDED_OPENID], answers, strict=False):
        mocked_responses.get(url, **answer)
    server = stale()
    assert discover(server).metadata == server_metadata()
    assert "Serving the stored metadata of https://as.example/tenant" in caplog.text
    assert saved(server).last_error
    count = len(mocked_responses.calls)
    discover(saved(server))
    assert len(mocked_responses.calls) == count
    assert saved(server).fresh_until - now() < timedelta(seconds=61)


def test_the_error_is_forgotten_when_the_server_is_back(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    server = stale(last_error="no answer")
    discover(server)
    assert saved(server).last_error == ""


def test_a_forced_refresh_raises_the_outage(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, body=requests.ConnectionError())
    server = make_server()
    with pytest.raises(NetworkError, match="broke off") as caught:
        discover(server, refresh=True)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "discover")
    assert saved(server).metadata == server_metadata()


def test_a_host_that_does_not_answer_is_sent_one_request(mocked_responses: Stubs) -> None:
    mocked_responses.get(WELL_KNOWN, body=requests.ConnectionError())
    server = unknown()
    with pytest.raises(NetworkError, match="broke off"):
        discover(server)
    assert len(mocked_responses.calls) == 1
    assert not saved(server).is_fresh


def test_every_attempt_is_reported_when_no_document_is_found(mocked_responses: Stubs) -> None:
    """R-018."""
    mocked_responses.get(WELL_KNOWN, status=404)
    mocked_responses.get(WELL_KNOWN_OPENID, status=410)
    mocked_responses.get(APPENDED_OPENID, body="<html>")
    with pytest.raises(UnsupportedError, match=r"^No metadata was found") as caught:
        discover(unknown())
    assert str(caught.value).endswith(
        f" {WELL_KNOWN} answered 404; {WELL_KNOWN_OPENID} answered 410; "
        f"{APPENDED_OPENID} is not a JSON object."
    )
    assert (caught.value.issuer, caught.value.step, caught.value.status) == (
        ISSUER, "discover", 404,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, RequestRejectedError),
        (429, RequestRejectedError),
        (403, RequestRejectedError),
        (500, InvalidResponseError),
        (302, NetworkError),
    ],
)
def test_the_worst_answer_names_the_error(
    status: int, kind: type[Exception], mocked_responses: Stubs
) -> None:
    mocked_responses.get(WELL_KNOWN, status=404)
    mocked_responses.get(WELL_KNOWN_OPENID, status=status)
    mocked_responses.get(APPENDED_OPENID, status=404)
    with pytest.raises(kind, match=f"{WELL_KNOWN_OPENID} answered {status}") as caught:
        discover(unknown())
    assert type(caught.value) is kind
    assert caught.value.status == status


def test_the_time_to_wait_is_passed_on(mocked_responses: Stubs) -> None:
    """Fault 50: and nothing sleeps."""
    for url in (WELL_KNOWN, WELL_KNOWN_OPENID, APPENDED_OPENID):
        mocked_responses.get(url, status=503, headers={"Retry-After": "30"})
    with pytest.raises(RequestRejectedError) as caught:
        discover(unknown())
    assert caught.value.retry_after == 30


def test_a_long_issuer_leaves_the_error_readable(mocked_responses: Stubs) -> None:
    issuer = "https://as.example/" + "a" * 1000
    for url in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        mocked_responses.get(f"https://as.example{url}/" + "a" * 1000, status=404)
    mocked_responses.get(f"{issuer}/.well-known/openid-configuration", status=404)
    with pytest.raises(UnsupportedError, match=r"^No metadata was found\.") as caught:
        discover(AuthorizationServer(issuer=issuer))
    assert len(str(caught.value)) == 500


# --- who may be asked --------------------------------------------------------------------------


def test_nothing_is_sent_to_a_forbidden_server(settings: Any) -> None:
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    with pytest.raises(NotAllowedError, match="is not in DCR_ALLOWED_ISSUERS"):
        discover(stale())


def test_nothing_is_sent_to_a_disabled_server() -> None:
    with pytest.raises(NotAllowedError, match="is disabled"):
        discover(make_server(enabled=False))


def test_nothing_is_sent_to_a_forbidden_port() -> None:
    """Fault 95."""
    server = AuthorizationServer.objects.for_issuer("https://as.example:22")
    with pytest.raises(NotAllowedError, match="Port 22 is not allowed"):
        discover(server)


def test_discovery_works_inside_a_transaction(mocked_responses: Stubs) -> None:
    """It writes nothing at the server, and what it stores may be rolled back."""
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    assert discover(unknown()).is_fresh

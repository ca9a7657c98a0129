"""Client ID Metadata Documents that this site serves."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import responses
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_dcr import services
from django_dcr.exceptions import (
    ConflictError,
    InvalidResponseError,
    NotAllowedError,
    UnsupportedError,
)
from django_dcr.lifecycle import ACTIONS
from django_dcr.models import ClientRegistration
from django_dcr.services import documents
from django_dcr.services.operation import Operation
from tests.factories import (
    ENDPOINT,
    ISSUER,
    WISHES,
    client_information,
    events_of,
    in_threads,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

pytestmark = pytest.mark.django_db

BASE = "https://shop.example"
OTHER = "https://other.example"
SIGNING = {**WISHES, "token_endpoint_auth_method": "private_key_jwt"}


@pytest.fixture(autouse=True)
def _base_url(settings: Any) -> None:
    settings.DCR_BASE_URL = BASE


def offering(issuer: str = ISSUER, **metadata: Any) -> Any:
    """A server that takes documents, and registers, too."""
    document = server_metadata(client_id_metadata_document_supported=True, **metadata)
    return make_server(issuer=issuer, metadata={**document, "issuer": issuer})


def site(request: Any) -> tuple[int, dict[str, str], bytes]:
    """Answer as this site does."""
    answer = Client().get(urlsplit(request.url).path)
    return answer.status_code, dict(answer.headers), answer.content


@pytest.fixture
def public(mocked_responses: responses.RequestsMock) -> None:
    """The site's address, as others reach it."""
    mocked_responses.assert_all_requests_are_fired = False
    mocked_responses.add_callback("GET", responses_at(BASE), callback=site)


def responses_at(base: str) -> Any:
    return re.compile(re.escape(base) + "/oauth/clients/.+")


def served(url: str) -> dict[str, Any]:
    document: dict[str, Any] = Client().get(urlsplit(url).path).json()
    return document


@pytest.mark.usefixtures("public")
def test_a_document_comes_first_where_both_can_r149_r157_r173() -> None:
    """R-149, R-157, R-173, R-174: its URL is the client_id, and nothing is sent to the server."""
    offering()
    row = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    assert (row.mechanism, row.status) == ("metadata_document", "active")
    assert row.client_id.startswith(f"{BASE}/oauth/clients/")
    assert len(row.client_id) < 60
    assert served(row.client_id) == {
        "client_id": row.client_id,
        **WISHES,
        "token_endpoint_auth_method": "none",
    }
    assert (row.client_secret, row.is_manageable, row.has_drift) == (None, False, False)
    assert row.drift == {}
    assert row.client_authentication() == ({}, {"client_id": row.client_id})
    assert services.get_or_register(ISSUER, "acme", metadata=WISHES).pk == row.pk


@pytest.mark.usefixtures("public")
def test_a_hit_and_a_document_are_one_query_each() -> None:
    offering()
    url = services.get_or_register(ISSUER, metadata=WISHES).client_id
    for act in (lambda: services.get_or_register(ISSUER, metadata=WISHES), lambda: served(url)):
        with CaptureQueriesContext(connection) as queries:
            act()
        assert len(queries) == 1


@pytest.mark.usefixtures("public")
def test_the_document_is_the_same_for_every_server_r177() -> None:
    """R-177, R-193: one URL, for as long as the same is asked for."""
    offering()
    offering(OTHER)
    first = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    second = services.get_or_register(OTHER, "acme", metadata=WISHES)
    assert first.client_id == second.client_id
    changed = {**WISHES, "client_name": "Shop 2"}
    found = services.get_or_register(ISSUER, "acme", metadata=changed)
    assert found.client_id == first.client_id  # a change makes no new client
    assert served(first.client_id)["client_name"] == "Shop 2"
    assert stored(second).requested_metadata == changed
    with CaptureQueriesContext(connection) as queries:
        services.get_or_register(OTHER, "acme", metadata=changed)
    assert len(queries) == 1


@pytest.mark.usefixtures("public")
def test_other_metadata_at_one_server_makes_a_separate_document() -> None:
    offering()
    offering(OTHER)
    first = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    second = services.get_or_register(OTHER, "acme", metadata={**WISHES, "scope": "a"})
    assert first.client_id != second.client_id
    assert "scope" not in served(first.client_id)


@pytest.mark.usefixtures("public")
def test_of_processes_that_publish_at_once_one_does(database_file: object) -> None:
    offering()

    def use() -> ClientRegistration:
        return services.get_or_register(ISSUER, "acme", metadata=WISHES)

    found = in_threads(use, use, use)
    assert len({row.client_id for row in found}) == 1
    assert ClientRegistration.objects.count() == 1


@pytest.mark.usefixtures("public")
def test_an_owners_document_is_not_anothers() -> None:
    offering()
    ids = {services.get_or_register(ISSUER, o, metadata=WISHES).client_id for o in ("a", "b", "")}
    assert len(ids) == 3
    assert not any(owner in url.rpartition("/")[2] for url in ids for owner in ("acme",))


@pytest.mark.usefixtures("public")
def test_defaults_of_one_server_need_a_document_of_its_own() -> None:
    offering()
    other = offering(OTHER)
    first = services.get_or_register(ISSUER, metadata=WISHES)
    second = services.get_or_register(OTHER, metadata=WISHES)
    other.client_metadata = {"scope": "b"}
    other.save()
    first.requested_metadata = {**WISHES, "client_name": "New"}
    with pytest.raises(ConflictError, match=r"shares its document.*dcr_replace"):
        services.update(first)
    assert stored(second).requested_metadata == WISHES
    other.client_metadata = {"token_endpoint_auth_method": "client_secret_post"}
    other.save()
    with pytest.raises(ConflictError, match="shares its document"):
        services.update(first)


@pytest.mark.usefixtures("public")
def test_the_number_of_documents_of_an_owner_is_limited() -> None:
    for number in range(16):
        issuer = f"https://as{number}.example"
        offering(issuer)
        services.get_or_register(issuer, metadata={**WISHES, "scope": str(number)})
    offering()
    with pytest.raises(ConflictError, match="16 different documents"):
        services.get_or_register(ISSUER, metadata=WISHES)


def test_the_document_is_fetched_before_its_first_use(
    mocked_responses: responses.RequestsMock,
) -> None:
    offering()
    offering(OTHER)
    mocked_responses.add_callback("GET", responses_at(BASE), callback=site)
    row = services.get_or_register(ISSUER, metadata=WISHES)
    services.get_or_register(OTHER, metadata=WISHES)
    assert [call.request.url for call in mocked_responses.calls] == [row.client_id]
    assert not row.last_error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 301, "headers": {"Location": f"{BASE}/x/"}}, "301, a redirect.*APPEND_SLASH"),
        ({"status": 403}, "403; a firewall"),
        ({"status": 404}, "404; include django_dcr.urls"),
        ({"status": 500}, "answers 500"),
        ({"body": "<html>", "content_type": "text/html"}, "text/html"),
        ({"json": {"client_id": "other"}}, "client_id is other"),
    ],
)
def test_where_servers_would_refuse_it_the_next_mechanism_is_taken_r194(
    answer: dict[str, Any],
    reason: str,
    mocked_responses: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    offering()
    mocked_responses.get(responses_at(BASE), **answer)
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    with caplog.at_level(logging.WARNING, "django_dcr"):
        row = services.get_or_register(ISSUER, metadata=WISHES)
    assert (row.mechanism, row.client_id, row.document_slug) == ("dynamic", "c1", "")
    assert ClientRegistration.objects.count() == 1
    assert re.search(reason, caplog.text)
    assert "metadata_document: Servers would refuse" in events_of(row)[-1].note


def test_a_faulty_document_is_an_error_where_no_other_mechanism_is_possible(
    mocked_responses: responses.RequestsMock, settings: Any
) -> None:
    offering()
    settings.DCR_MECHANISMS = ["metadata_document"]
    mocked_responses.get(responses_at(BASE), status=404)
    with pytest.raises(UnsupportedError, match="dcr_adopt"):
        services.get_or_register(ISSUER, metadata=WISHES)
    row = ClientRegistration.objects.get()
    assert (row.status, row.client_id) == ("draft", "")
    assert "answers 404" in row.last_error
    row.mechanism = "metadata_document"
    with pytest.raises(InvalidResponseError, match="answers 404"):
        services.register(row)


def test_a_document_that_cannot_be_fetched_from_here_is_used_with_a_warning(
    mocked_responses: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """A site often cannot reach its own public address, and servers can."""
    offering()
    mocked_responses.get(responses_at(BASE), body=OSError("hairpin"))
    row = services.get_or_register(ISSUER, metadata=WISHES)
    assert row.mechanism == "metadata_document"
    assert "could not be fetched from here" in row.deviations[0]
    assert "could not be fetched from here" in caplog.text


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("", None),
        ("http://shop.example", "is not https"),
        ("https://127.0.0.1", "IP address"),
        ("https://[2001:db8::1]", "IP address"),
        ("https://localhost", "only this network knows"),
        ("https://shop.local", "only this network knows"),
        ("https://intranet", "only this network knows"),
        ("https://shop.example:443", "leave :443 out"),
        ("https://shop.example:8000", "the port 8000"),
        ("https://user@shop.example", "plain characters"),
    ],
)
def test_where_the_base_url_is_not_public_the_next_mechanism_is_taken(
    base: str,
    reason: str | None,
    settings: Any,
    mocked_responses: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R-173."""
    settings.DCR_BASE_URL = base
    make_server()
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    row = services.get_or_register(ISSUER, metadata=WISHES)
    assert row.mechanism == "dynamic"
    if reason is None:  # nobody asked for one
        assert (events_of(row)[0].note, caplog.text) == ("", "")
    else:
        assert reason in events_of(row)[0].note
        assert reason in caplog.text


def test_a_server_that_takes_documents_makes_their_lack_worth_telling(
    settings: Any, mocked_responses: responses.RequestsMock
) -> None:
    settings.DCR_BASE_URL = ""
    offering()
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    row = services.get_or_register(ISSUER, metadata=WISHES)
    assert "DCR_BASE_URL is not set" in events_of(row)[0].note


@pytest.mark.usefixtures("public")
def test_a_document_may_be_internal_where_its_server_is(settings: Any) -> None:
    settings.DCR_BASE_URL = "https://shop.internal:8500"
    settings.DCR_INTERNAL_ORIGINS = ["https://shop.internal:8500"]
    offering()
    row = services.get_or_register(ISSUER, metadata=WISHES)
    assert row.client_id.startswith("https://shop.internal:8500/oauth/clients/")


@pytest.mark.urls("tests.contrib.test_live_logins")
def test_without_the_urls_there_is_no_document() -> None:
    assert "do not include django_dcr.urls" in documents.site_obstacle()


@pytest.mark.parametrize(
    ("metadata", "wishes", "reason"),
    [
        ({"client_id_metadata_document_supported": False}, {}, "does not announce"),
        ({"client_id_metadata_document_supported": "true"}, {}, "does not announce"),
        (
            {"token_endpoint_auth_methods_supported": ["client_secret_basic"]},
            {},
            "does not take none",
        ),
        (
            {"token_endpoint_auth_methods_supported": ["none"]},
            {"token_endpoint_auth_method": "private_key_jwt"},
            "does not take private_key_jwt",
        ),
        ({}, {"token_endpoint_auth_method": "client_secret_basic"}, "no shared secret"),
        ({"code_challenge_methods_supported": ["plain"]}, {}, "PKCE with S256"),
        ({}, {"client_name": None}, "needs client_name"),
        ({}, {"token_endpoint_auth_method": "private_key_jwt"}, "needs jwks_uri"),
    ],
)
def test_where_a_document_cannot_be_the_client_the_row_says_why_r176_r179(
    metadata: dict[str, Any], wishes: dict[str, Any], reason: str
) -> None:
    """R-176, R-179."""
    server = offering()
    server.metadata |= metadata
    server.save()
    row = make_draft(server=server, requested_metadata={**WISHES, **wishes})
    assert reason in documents.obstacle(Operation(row, "register"), row.server)
    row.mechanism = "metadata_document"
    with pytest.raises(UnsupportedError, match="not possible at this server"):
        services.register(row)
    assert stored(row).status == "draft"


@pytest.mark.parametrize(
    ("offered", "stated", "method"),
    [
        (None, None, "none"),
        (["private_key_jwt"], None, "private_key_jwt"),
        (["none", "private_key_jwt"], None, "none"),
        (None, "private_key_jwt", "private_key_jwt"),
    ],
)
@pytest.mark.usefixtures("public")
def test_keys_let_a_document_authenticate(
    offered: list[str] | None, stated: str | None, method: str
) -> None:
    offering(token_endpoint_auth_methods_supported=offered)
    wishes = {**WISHES, "jwks_uri": f"{BASE}/jwks.json"}
    if stated:
        wishes["token_endpoint_auth_method"] = stated
    row = services.get_or_register(ISSUER, metadata=wishes)
    assert row.metadata["token_endpoint_auth_method"] == method


@pytest.mark.usefixtures("public")
def test_the_sites_own_keys_let_a_document_authenticate() -> None:
    services.rotate_client_key()
    offering()
    row = services.get_or_register(ISSUER, metadata=SIGNING)
    assert row.mechanism == "metadata_document"
    assert row.metadata["jwks_uri"] == f"{BASE}/oauth/jwks.json"
    assert row.drift == {}
    row.check_authentication()
    assert "client_assertion" in row.client_authentication()[1]


def test_a_document_does_not_name_keys_that_the_site_cannot_sign_with() -> None:
    services.rotate_client_key()
    offering()
    wishes = {**SIGNING, "token_endpoint_auth_signing_alg": "RS256"}
    with pytest.raises(NotAllowedError, match="--algorithm RS256"):
        services.get_or_register(ISSUER, metadata=wishes)


def test_a_document_of_more_than_5_kb_is_no_document_r176(
    mocked_responses: responses.RequestsMock,
) -> None:
    offering()
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    row = services.get_or_register(ISSUER, metadata={**WISHES, "contacts": ["a" * 100] * 60})
    assert row.mechanism == "dynamic"
    assert "servers may refuse more than 5120" in events_of(row)[0].note


def test_a_document_does_not_become_too_long(row: ClientRegistration) -> None:
    row.requested_metadata = {**WISHES, "contacts": ["a" * 100] * 60}
    with pytest.raises(NotAllowedError, match="servers may refuse more than 5120"):
        services.update(row)
    assert "contacts" not in served(row.client_id)


@pytest.mark.usefixtures("public")
def test_hosts_that_some_servers_refuse_cause_a_warning() -> None:
    offering()
    row = services.get_or_register(ISSUER, metadata={**WISHES, "logo_uri": f"{OTHER}/logo"})
    assert row.deviations == [
        "redirect_uris is on site.example, and some servers want every one on the document's "
        "host shop.example",
        "logo_uri is on other.example, and some servers want every one on the document's host "
        "shop.example",
    ]


@pytest.mark.usefixtures("public")
def test_a_native_app_says_so() -> None:
    offering()
    wishes = {**WISHES, "redirect_uris": ["http://127.0.0.1/callback"]}
    row = services.get_or_register(ISSUER, metadata=wishes)
    assert row.metadata["application_type"] == "native"
    assert row.deviations == []


# -- its life ------------------------------------------------------------------------------------


@pytest.fixture
def row(public: None) -> ClientRegistration:
    offering()
    return services.get_or_register(ISSUER, "acme", metadata=WISHES)


def test_revoking_takes_the_document_down(row: ClientRegistration, heard: list[Any]) -> None:
    url = row.client_id
    services.revoke(row)
    assert (row.status, row.live) == ("revoked", None)
    assert Client().get(urlsplit(url).path).status_code == 404
    assert [name for name, *_rest in heard] == ["revoked"]
    again = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    assert again.client_id == url  # the URL is the identity


def test_a_document_that_other_servers_use_is_served_on(row: ClientRegistration) -> None:
    offering(OTHER)
    other = services.get_or_register(OTHER, "acme", metadata=WISHES)
    services.revoke(row)
    assert f"registrations at other servers use this client: {other.pk}." in row.last_error
    assert served(other.client_id)["client_id"] == other.client_id


def test_replacing_gives_another_url(row: ClientRegistration) -> None:
    new = services.replace(row)
    assert new.client_id != row.client_id
    assert stored(row).status == "revoked"
    assert Client().get(urlsplit(row.client_id).path).status_code == 404
    assert served(new.client_id)["client_id"] == new.client_id


def test_a_registration_moves_to_a_document_without_a_gap(
    public: None, mocked_responses: responses.RequestsMock
) -> None:
    old = make_registration(server=offering(), owner="acme")
    alive: list[str] = []

    def delete(_request: Any) -> tuple[int, dict[str, str], str]:
        alive.append(services.get_or_register(ISSUER, "acme").mechanism)
        return 204, {}, ""

    mocked_responses.add_callback("DELETE", old.registration_client_uri, callback=delete)
    new = services.replace(old, mechanism="metadata_document")
    assert alive == ["metadata_document"]
    assert (stored(old).status, new.live, new.mechanism) == ("revoked", True, "metadata_document")
    assert services.get_or_register(ISSUER, "acme").pk == new.pk


def test_a_server_that_stops_taking_documents_changes_nothing_for_a_live_client(
    row: ClientRegistration,
) -> None:
    row.server.metadata = server_metadata()
    row.server.save()
    assert services.get_or_register(ISSUER, "acme", metadata=WISHES).pk == row.pk


def test_a_document_moves_to_a_registration(
    row: ClientRegistration, mocked_responses: responses.RequestsMock
) -> None:
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    new = services.replace(row, mechanism="dynamic")
    assert (new.mechanism, new.client_id, stored(row).status) == ("dynamic", "c1", "revoked")


@pytest.mark.parametrize("name", ["read", "renew"])
def test_there_is_nothing_to_ask_or_renew(row: ClientRegistration, name: str) -> None:
    with pytest.raises(UnsupportedError, match="is a document"):
        getattr(services, name)(row)
    assert not ACTIONS[name].is_offered(row)


def test_registering_a_published_document_again_is_refused(row: ClientRegistration) -> None:
    with pytest.raises(ConflictError, match="is published already"):
        services.register(row)
    assert stored(row).client_id == row.client_id


def test_a_refused_login_leads_to_the_document(row: ClientRegistration) -> None:
    services.client_refused(row)
    assert f"dcr_document {row.pk}" in stored(row).last_error


def test_another_process_may_take_the_row_over(
    mocked_responses: responses.RequestsMock,
) -> None:
    """While the document is fetched, this process sleeps beyond its lease."""
    draft = make_draft(server=offering(), mechanism="metadata_document")
    body = documents.prepare(Operation(draft, "register"))
    draft.lease = "expired"
    mocked_responses.get(draft.client_id, body=body, content_type="application/json")
    with pytest.raises(ConflictError, match="taken over"):
        documents.publish(draft, body)
    assert stored(draft).status == "draft"


def test_another_process_may_take_the_row_over_while_it_changes(row: ClientRegistration) -> None:
    def overtake(**_values: Any) -> None:
        ClientRegistration.objects.filter(pk=row.pk).update(lease="another")

    row.requested_metadata = {**WISHES, "scope": "a"}
    wrapper = connection.execute_wrapper(_after_claim(overtake))
    with wrapper, pytest.raises(ConflictError, match="taken over"):
        services.update(row)


def _after_claim(act: Any) -> Any:
    """Call ``act`` after the first UPDATE, which is the claim."""
    calls: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and not calls:
            calls.append(sql)
            act()
        return result

    return wrapper


def past(**values: Any) -> dict[str, Any]:
    """A lease that ran out."""
    return {"lease": "x", "lease_until": timezone.now() - timedelta(hours=1), **values}


def test_an_interrupted_publication_is_a_draft_again(row: ClientRegistration) -> None:
    rows = ClientRegistration.objects.filter(pk=row.pk)
    rows.update(**past(status="registering"))
    services.reconcile()
    assert (stored(row).status, stored(row).client_id) == ("draft", "")
    again = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    assert (again.pk, again.status, again.client_id) == (row.pk, "active", row.client_id)


def test_an_interrupted_replacement_leaves_nothing(row: ClientRegistration) -> None:
    spare = {"mechanism": "metadata_document", "live": None, "status": "registering"}
    left = make_draft(server=row.server, owner="acme", **spare)
    ClientRegistration.objects.filter(pk=left.pk).update(**past())
    new = services.replace(row)
    assert new.pk not in (row.pk, left.pk)
    services.reconcile()
    assert not ClientRegistration.objects.filter(pk=left.pk).exists()


def test_metadata_that_no_document_may_contain_is_refused(row: ClientRegistration) -> None:
    row.requested_metadata = {**WISHES, "token_endpoint_auth_method": "client_secret_basic"}
    with pytest.raises(NotAllowedError, match=r"^The document cannot be changed.*no shared secret"):
        services.update(row)
    assert stored(row).requested_metadata == WISHES


# -- the view ------------------------------------------------------------------------------------


def test_the_document_is_served_as_the_draft_wants_it_r178(row: ClientRegistration) -> None:
    """R-174, R-176, R-178."""
    path = urlsplit(row.client_id).path
    answer = Client().get(path)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["Cache-Control"] == "public, max-age=300"
    assert "Set-Cookie" not in answer
    assert len(answer.content) < 5120
    again = Client().get(path, headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", answer["ETag"])
    assert again["Cache-Control"] == "public, max-age=300"
    head = Client().head(path)
    assert (head.status_code, head.content, head["ETag"]) == (200, b"", answer["ETag"])
    assert Client().post(path, {"a": "b"}).status_code == 405


@pytest.mark.parametrize("slug", ["0123456789abcdef", "a", "x" * 100])
def test_an_unknown_slug_is_404_without_a_hint(slug: str) -> None:
    answer = Client().get(f"/oauth/clients/{slug}")
    assert (answer.status_code, answer.content) == (404, b"")
    assert Client().get(f"/oauth/clients/{slug}/").status_code == 404


def test_nothing_secret_is_in_a_document(row: ClientRegistration) -> None:
    text = json.dumps(served(row.client_id))
    assert "acme" not in text
    assert "secret" not in text


# -- looking into it -----------------------------------------------------------------------------


def test_an_inspection_finds_nothing_wrong(row: ClientRegistration) -> None:
    found = services.inspect_document(row)
    assert found.faults == []
    assert found.document == served(row.client_id)


@pytest.mark.parametrize(
    ("headers", "body", "fault"),
    [
        ({"Set-Cookie": "a=b"}, None, "sets a cookie"),
        ({}, b"{", "not a JSON object"),
        ({}, b" " * 5200, "has 5200 bytes"),
        ({"Content-Type": "text/plain"}, None, "Content-Type is text/plain"),
        ({}, {"scope": "old"}, "another version"),
    ],
)
def test_an_inspection_lists_what_servers_would_refuse(
    row: ClientRegistration,
    headers: dict[str, str],
    body: Any,
    fault: str,
    mocked_responses: responses.RequestsMock,
) -> None:
    document = served(row.client_id)
    if isinstance(body, dict):
        document, body = {**document, **body}, None
    content = json.dumps(document).encode() if body is None else body
    mocked_responses.reset()
    sent = {"Content-Type": "application/json", **headers}
    mocked_responses.get(row.client_id, body=content, headers=sent)
    assert fault in " ".join(services.inspect_document(row).faults)


@pytest.mark.parametrize(
    ("caching", "warning"),
    [("", "no max-age"), ("max-age=100000", "for 100000 seconds"), ("max-age=60", "")],
)
def test_an_inspection_tells_how_long_a_change_takes(
    row: ClientRegistration, caching: str, warning: str, mocked_responses: responses.RequestsMock
) -> None:
    document = served(row.client_id)
    mocked_responses.reset()
    mocked_responses.get(row.client_id, json=document, headers={"Cache-Control": caching})
    warnings = " ".join(services.inspect_document(row).warnings)
    assert warning in warnings
    assert ("Cache-Control" in warnings) is bool(warning)


def test_a_changed_base_url_is_reported(row: ClientRegistration, settings: Any) -> None:
    settings.DCR_BASE_URL = "https://new.example"
    assert "DCR_BASE_URL was changed" in services.inspect_document(row).faults[-1]
    settings.DCR_BASE_URL = ""
    assert services.inspect_document(row).faults == ["DCR_BASE_URL is not set"]


def test_only_a_document_is_inspected() -> None:
    with pytest.raises(ConflictError, match="has no published document"):
        services.inspect_document(make_registration())


# -- where nothing is left -----------------------------------------------------------------------


def test_where_nothing_is_possible_the_console_is_explained() -> None:
    make_server(metadata={"issuer": ISSUER})
    wishes = {**WISHES, "scope": "openid email"}
    with pytest.raises(UnsupportedError) as caught:
        services.get_or_register(ISSUER, "acme", metadata=wishes)
    text = str(caught.value)
    assert "redirect_uris https://site.example/callback, scope openid email" in text
    assert f"manage.py dcr_adopt {ISSUER} --owner acme --client-id ID" in text
    assert not ClientRegistration.objects.exists()


def test_a_servers_row_says_which_mechanisms(mocked_responses: responses.RequestsMock) -> None:
    server = offering()
    server.mechanisms = ["dynamic"]
    server.save()
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    assert services.get_or_register(ISSUER, metadata=WISHES).mechanism == "dynamic"


def test_where_no_mechanism_is_left_the_error_says_why_a_document_is_none(settings: Any) -> None:
    settings.DCR_MECHANISMS = ["metadata_document"]
    offering(token_endpoint_auth_methods_supported=["client_secret_basic"])
    with pytest.raises(
        UnsupportedError, match=r"Nor a document: the server's token endpoint does not take none"
    ) as caught:
        services.get_or_register(ISSUER, metadata=WISHES)
    assert "manage.py dcr_adopt" in str(caught.value)
    assert len(str(caught.value)) <= 500

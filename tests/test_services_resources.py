"""From the address of a resource to a client: documents, challenges, servers, and their costs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests
import responses
from django.db import transaction
from django.utils.timezone import now

from django_dcr import services, signals
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import (
    MAX_SERVERS,
    AuthorizationServer,
    ClientRegistration,
    ProtectedResource,
)
from tests.factories import (
    ENDPOINT,
    ISSUER,
    WELL_KNOWN,
    WISHES,
    client_information,
    make_registration,
    make_server,
    server_metadata,
)

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock

HOST = "https://mcp.example"
RESOURCE = f"{HOST}/mcp"
ROOT = f"{HOST}/.well-known/oauth-protected-resource"
PLACE = f"{ROOT}/mcp"
OTHER = "https://other.example"
OTHER_PLACE = f"{OTHER}/.well-known/oauth-authorization-server"
PKCE = {"code_challenge_methods_supported": ["S256"]}


@pytest.fixture(autouse=True)
def _wishes(settings: Any) -> None:
    settings.DCR_CLIENT_METADATA = WISHES


def document(*issuers: str, **changes: Any) -> dict[str, Any]:
    return {"resource": RESOURCE, "authorization_servers": [*issuers] or [ISSUER], **changes}


def make_resource(*issuers: str, **values: Any) -> ProtectedResource:
    """A saved resource whose metadata is fresh."""
    fresh = {
        "resource": RESOURCE,
        "metadata": document(*issuers),
        "metadata_url": PLACE,
        "fetched_at": now(),
        "fresh_until": now() + timedelta(hours=1),
    }
    return ProtectedResource.objects.create(**{**fresh, **values})


def make_client(**values: Any) -> ClientRegistration:
    """An active registration at a server that announces S256."""
    server = make_server(metadata=server_metadata(**PKCE, **values))
    return make_registration(server=server, owner="acme")


def answer_at(stubs: Stubs, issuer: str, **changes: Any) -> None:
    """Let a server at the root of its host register a client."""
    metadata = {"issuer": issuer, "registration_endpoint": f"{issuer}/register", **PKCE, **changes}
    stubs.get(f"{issuer}/.well-known/oauth-authorization-server", json=metadata)
    answer = client_information(registration_client_uri=f"{issuer}/register/c1")
    stubs.post(f"{issuer}/register", json=answer, status=201)


def asked(stubs: Stubs) -> list[str]:
    return [f"{call.request.method} {call.request.url}" for call in stubs.calls]


def challenged(url: str = f"{HOST}/metadata", **parameters: str) -> str:
    parameters = {"resource_metadata": url, **parameters}
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


def refusal(**arguments: Any) -> DCRError:
    with pytest.raises(DCRError) as caught:
        services.get_or_register_for(RESOURCE, "acme", **arguments)
    assert caught.value.resource == RESOURCE
    assert len(str(caught.value)) <= 500
    return caught.value


# --- finding the document ----------------------------------------------------------------------


def test_the_metadata_of_a_resource_is_requested_once_and_cached(
    mocked_responses: Stubs, django_assert_num_queries: Any
) -> None:
    """R-030, R-031, R-145: at the path first; unknown members are kept."""
    mocked_responses.get(PLACE, json=document(unknown={"a": [1]}), headers={"ETag": '"1"'})
    row = services.discover_resource(RESOURCE)
    assert row.metadata == document(unknown={"a": [1]})
    assert (row.metadata_url, row.etag, row.attempts) == (PLACE, '"1"', ())
    with django_assert_num_queries(1):
        assert services.discover_resource(RESOURCE).metadata == row.metadata
    assert asked(mocked_responses) == [f"GET {PLACE}"]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404},
        {"status": 401},
        {"status": 500},
        {"status": 302, "headers": {"Location": "https://login.example/"}},
        {"body": "<!doctype html>"},
        {"json": [document()]},
        {"json": {}},
        {"json": {"resource": None, "authorization_servers": [ISSUER]}},
        {"body": '{"resource": "a", "resource": "b"}'},
    ],
    ids=["404", "401", "500", "redirect", "HTML", "list", "empty", "no resource", "duplicate"],
)
def test_a_response_that_is_not_a_document_is_skipped(answer: Any, mocked_responses: Stubs) -> None:
    """R-031, R-145: then at the root."""
    mocked_responses.get(PLACE, **answer)
    mocked_responses.get(ROOT, json=document())
    row = services.discover_resource(RESOURCE)
    assert row.metadata_url == ROOT
    assert [place for place, _outcome in row.attempts] == [PLACE]


def test_a_document_may_have_moved_within_its_origin(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, status=307, headers={"Location": "/metadata"})
    mocked_responses.get(f"{HOST}/metadata", json=document())
    assert services.discover_resource(RESOURCE).metadata_url == PLACE


def test_a_document_of_another_resource_ends_the_search(mocked_responses: Stubs) -> None:
    """R-032: and what it says is not stored."""
    mocked_responses.get(PLACE, json=document(resource=HOST))
    with pytest.raises(InvalidResponseError, match="--alias NAME") as caught:
        services.discover_resource(RESOURCE)
    assert (caught.value.step, caught.value.issuer) == ("discover", "")
    row = ProtectedResource.objects.get()
    assert (row.metadata, row.last_error) == ({}, str(caught.value))


@pytest.mark.parametrize("name", [HOST, f"{HOST}/"])
def test_at_the_root_is_the_document_of_the_origin(name: str, mocked_responses: Stubs) -> None:
    """R-032, R-145: that place is made of the origin, which is what servers know it by then."""
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, json=document(resource=name))
    row = services.discover_resource(RESOURCE)
    assert (row.has_metadata, row.metadata_url, row.indicator) == (True, ROOT, name)
    assert services.discover_resource(RESOURCE).indicator == name
    assert len(mocked_responses.calls) == 2


@pytest.mark.parametrize("name", [f"{HOST}/other", "https://mcp.example.net"])
def test_at_the_root_is_no_other_document(name: str, mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, json=document(resource=name))
    with pytest.raises(InvalidResponseError, match="must not be used"):
        services.discover_resource(RESOURCE)


def test_a_challenge_leads_to_the_document_of_the_very_resource(mocked_responses: Stubs) -> None:
    """R-033: the origin's is not good enough there."""
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, json=document(resource=HOST))
    with pytest.raises(InvalidResponseError, match="--alias NAME"):
        services.discover_resource(RESOURCE, challenge=challenged(ROOT))


def test_an_alias_is_stored_with_the_row_and_sent_as_resource(mocked_responses: Stubs) -> None:
    """R-033, R-189: what the resource calls itself is what its server knows it by."""
    row = ProtectedResource.objects.for_resource(RESOURCE)
    assert row.indicator == RESOURCE
    row.alias = f"{HOST}/"
    row.save()
    mocked_responses.get(PLACE, json=document(resource=f"{HOST}/"))
    row = services.discover_resource(RESOURCE)
    assert (row.has_metadata, row.indicator) == (True, f"{HOST}/")
    row.alias = ""
    assert (row.has_metadata, row.indicator) == (False, RESOURCE)


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({}, 600),
        ({"Cache-Control": "max-age=400"}, 400),
        ({"Cache-Control": "max-age=9999999"}, 600),
        ({"Cache-Control": "no-store"}, 300),
    ],
    ids=str,
)
def test_a_document_is_fresh_as_long_as_the_resource_and_the_site_allow(
    headers: dict[str, str], lifetime: int, mocked_responses: Stubs, settings: Any
) -> None:
    """R-041: by the rules for servers' metadata."""
    settings.DCR_METADATA_TTL = 600
    mocked_responses.get(PLACE, json=document(), headers=headers)
    row = services.discover_resource(RESOURCE)
    assert row.fresh_until - row.fetched_at == timedelta(seconds=lifetime)


def test_an_unchanged_document_is_not_sent_again(mocked_responses: Stubs) -> None:
    make_resource(etag='"1"', fresh_until=now())
    condition = responses.matchers.header_matcher({"If-None-Match": '"1"'})
    mocked_responses.get(PLACE, status=304, match=[condition])
    row = services.discover_resource(RESOURCE)
    assert row.is_fresh
    assert row.metadata == document()


def test_the_last_good_document_serves_while_the_resource_does_not_answer(
    mocked_responses: Stubs,
) -> None:
    make_resource(fresh_until=now())
    mocked_responses.get(PLACE, body=requests.ConnectionError())
    assert services.discover_resource(RESOURCE).metadata == document()
    assert services.discover_resource(RESOURCE).metadata == document()
    assert len(mocked_responses.calls) == 1
    with pytest.raises(NetworkError):
        services.discover_resource(RESOURCE, refresh=True)


def test_a_document_that_became_anothers_does_not_serve_on(mocked_responses: Stubs) -> None:
    """R-032."""
    make_resource(fresh_until=now())
    mocked_responses.get(PLACE, json=document(resource="https://evil.example/"))
    for _ in range(2):
        with pytest.raises(InvalidResponseError):
            services.discover_resource(RESOURCE)
    assert len(mocked_responses.calls) == 1


def test_a_remembered_failure_costs_one_query_and_no_network(
    mocked_responses: Stubs, django_assert_num_queries: Any
) -> None:
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, status=404)
    first = refusal()
    assert isinstance(first, UnsupportedError)
    assert "Check the address" in str(first)
    assert [place for place, _outcome in first.attempts] == [PLACE, ROOT]
    with django_assert_num_queries(1):
        second = refusal()
    assert (type(second), str(second), second.attempts) == (
        type(first),
        str(first),
        first.attempts,
    )
    assert second.retry_after in range(1, 31)
    assert len(mocked_responses.calls) == 2


def test_a_known_resource_can_be_discovered_inside_a_transaction(mocked_responses: Stubs) -> None:
    """Promise 3: nothing is written before the resource has answered."""
    make_resource(fresh_until=now())
    mocked_responses.get(PLACE, json=document(OTHER))
    with transaction.atomic():
        assert services.discover_resource(RESOURCE).servers == {OTHER: ""}


def test_no_row_is_made_inside_a_transaction(mocked_responses: Stubs) -> None:
    """Promise 3: its lock would be held while the resource is asked."""
    with transaction.atomic(), pytest.raises(ConflictError, match="outside atomic") as caught:
        services.get_or_register_for(RESOURCE)
    assert (caught.value.resource, caught.value.step) == (RESOURCE, "discover")
    assert not ProtectedResource.objects.exists()


# --- challenges --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "challenge",
    [
        challenged(),
        [challenged(), "Basic"],
        services.parse_challenge(challenged()),
        f'DPoP algs="ES256", resource_metadata="{HOST}/metadata"',
    ],
    ids=["text", "headers", "parsed", "DPoP"],
)
def test_a_challenge_says_where_to_ask_first(challenge: Any, mocked_responses: Stubs) -> None:
    """R-035, R-145."""
    mocked_responses.get(f"{HOST}/metadata", json=document())
    assert services.discover_resource(RESOURCE, challenge=challenge).metadata_url == (
        f"{HOST}/metadata"
    )


def test_a_new_challenge_causes_the_metadata_to_be_fetched_again(mocked_responses: Stubs) -> None:
    """R-036: and the new values are used."""
    make_resource()
    mocked_responses.get(PLACE, json=document(OTHER))
    row = services.discover_resource(RESOURCE, challenge=challenged(PLACE))
    assert row.servers == {OTHER: ""}


@pytest.mark.parametrize("challenge", [None, "", "Bearer", 'Bearer error="invalid_token"', []])
def test_a_challenge_that_names_no_place_changes_nothing(challenge: Any) -> None:
    make_resource()
    assert services.discover_resource(RESOURCE, challenge=challenge).metadata == document()


def test_a_document_is_looked_for_again_where_a_challenge_had_it(mocked_responses: Stubs) -> None:
    make_resource(metadata_url=f"{HOST}/metadata", fresh_until=now())
    mocked_responses.get(f"{HOST}/metadata", json=document(scopes_supported=["a"]))
    assert services.discover_resource(RESOURCE).offered("scopes_supported") == ["a"]


def test_the_well_known_places_follow_where_a_challenge_leads_nowhere(
    mocked_responses: Stubs,
) -> None:
    """R-145."""
    mocked_responses.get(f"{HOST}/metadata", status=404)
    mocked_responses.get(PLACE, json=document())
    row = services.discover_resource(RESOURCE, challenge=challenged())
    assert (row.metadata_url, row.attempts) == (
        PLACE,
        ((f"{HOST}/metadata", "answered 404"),),
    )


def test_the_document_of_a_challenge_must_name_the_requested_resource(
    mocked_responses: Stubs,
) -> None:
    """R-033."""
    mocked_responses.get(f"{HOST}/metadata", json=document(resource=f"{HOST}/other"))
    error = refusal(challenge=challenged())
    assert isinstance(error, InvalidResponseError)
    assert not AuthorizationServer.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/metadata",
        "https://10.0.0.1/metadata",
        "https://[::1]/metadata",
        "https://localhost/metadata",
        "https://169.254.169.254/latest/meta-data/",
        "http://mcp.example/metadata",
        "https://mcp.example:8443/metadata",
        "https://mcp.example@evil.example/",
        "javascript:alert(1)",
        "/metadata",
    ],
)
def test_a_challenge_leads_to_no_other_origin(url: str, mocked_responses: Stubs) -> None:
    """R-040: nothing is sent there, and the well-known places are asked instead."""
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, status=404)
    error = refusal(challenge=challenged(url))
    assert isinstance(error, UnsupportedError)
    assert asked(mocked_responses) == [f"GET {PLACE}", f"GET {ROOT}"]
    assert [place for place, _outcome in error.attempts] == [url, PLACE, ROOT]
    mocked_responses.reset()
    mocked_responses.get(PLACE, json=document())
    services.discover_resource(RESOURCE, refresh=True, challenge=challenged(url))


def test_an_operator_may_trust_another_origin_with_the_metadata(mocked_responses: Stubs) -> None:
    make_resource(metadata={}, trusted_origins=["https://api.example"])
    mocked_responses.get("https://api.example/metadata", json=document())
    challenge = challenged("https://api.example/metadata")
    assert services.discover_resource(RESOURCE, challenge=challenge).has_metadata


def test_a_challenge_beyond_64_kib_is_not_followed(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, json=document())
    challenge = challenged(realm="x" * 64 * 1024)
    assert services.discover_resource(RESOURCE, challenge=challenge).metadata_url == PLACE


def test_a_challenge_is_not_followed_where_that_has_just_failed(mocked_responses: Stubs) -> None:
    for place in (f"{HOST}/metadata", PLACE, ROOT):
        mocked_responses.get(place, status=404)
    first, second = refusal(challenge=challenged()), refusal(challenge=challenged())
    assert (str(first), len(mocked_responses.calls)) == (str(second), 3)


def test_a_challenge_with_news_is_followed_in_spite_of_a_failure(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, status=404)
    refusal()
    mocked_responses.get(f"{HOST}/metadata", json=document())
    assert services.discover_resource(RESOURCE, challenge=challenged()).has_metadata


def test_no_challenge_is_followed_while_the_host_does_not_answer(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, body=requests.ConnectionError())
    first, second = refusal(), refusal(challenge=challenged())
    assert isinstance(first, NetworkError)
    assert (str(first), len(mocked_responses.calls)) == (str(second), 1)


# --- the address is kept as it is given --------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "place"),
    {
        "query": (f"{RESOURCE}?a=1", f"{PLACE}?a=1"),
        "upper-case host": ("https://MCP.example/mcp", PLACE),
        "no path": (HOST, ROOT),
        "final slash": (f"{HOST}/", ROOT),
        "path with final slash": (f"{RESOURCE}/", f"{PLACE}/"),
    }.values(),
)
def test_an_address_is_kept_as_it_is_given(
    resource: str, place: str, mocked_responses: Stubs
) -> None:
    """R-032, R-189: no slash of this app's making."""
    mocked_responses.get(place, json=document(resource=resource))
    row = services.discover_resource(resource)
    assert (row.resource, row.indicator, row.metadata_url) == (resource, resource, place)


def test_addresses_that_differ_are_different_resources(mocked_responses: Stubs) -> None:
    for resource in (HOST, f"{HOST}/"):
        mocked_responses.get(ROOT, json=document(resource=resource))
        services.discover_resource(resource)
    assert ProtectedResource.objects.count() == 2


@pytest.mark.parametrize(
    "resource",
    [f"{RESOURCE}#a", "http://mcp.example/mcp", "https://a:b@mcp.example/mcp", "mcp.example", ""],
)
def test_an_invalid_resource_identifier_leaves_no_row(resource: str) -> None:
    with pytest.raises(NotAllowedError) as caught:
        services.get_or_register_for(resource)
    assert caught.value.resource == resource
    assert not ProtectedResource.objects.exists()


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "localhost", "169.254.169.254"])
def test_nothing_is_sent_to_a_resource_at_an_internal_address(host: str) -> None:
    """R-039, R-040: it goes through the one door to the network, like every server."""
    with pytest.raises(NetworkError):
        services.discover_resource(f"https://{host}/mcp")


def test_an_internal_resource_is_discovered_where_the_site_allows_it(
    mocked_responses: Stubs, settings: Any
) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://tools:8000"]
    resource = "http://tools:8000/mcp"
    mocked_responses.get(
        "http://tools:8000/.well-known/oauth-protected-resource/mcp",
        json=document(resource=resource),
    )
    assert services.discover_resource(resource).has_metadata


# --- which server ------------------------------------------------------------------------------


def test_a_resource_leads_to_a_client_at_the_server_it_names(
    mocked_responses: Stubs, django_assert_num_queries: Any
) -> None:
    """R-145, R-148; and a hit costs two queries and no network."""
    mocked_responses.get(PLACE, json=document(OTHER))
    answer_at(mocked_responses, OTHER)
    registration = services.get_or_register_for(RESOURCE, "acme", metadata=WISHES)
    assert (registration.server.issuer, registration.owner) == (OTHER, "acme")
    assert registration.status == "active"
    assert ProtectedResource.objects.get().known_issuers == [OTHER]
    requests_before = len(mocked_responses.calls)
    with django_assert_num_queries(2):
        again = services.get_or_register_for(RESOURCE, "acme", metadata=WISHES)
    assert (again.pk, len(mocked_responses.calls)) == (registration.pk, requests_before)


def test_a_hit_works_inside_a_transaction_and_writes_nothing(
    django_assert_num_queries: Any,
) -> None:
    """Promise 3."""
    registration = make_client()
    make_resource()
    with transaction.atomic(), django_assert_num_queries(2):
        assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk


def test_nothing_is_registered_for_a_resource_inside_a_transaction() -> None:
    """Promise 3."""
    make_resource(OTHER)
    with transaction.atomic():
        assert "outside atomic" in str(refusal())
    assert ProtectedResource.objects.get().known_issuers == []
    assert not AuthorizationServer.objects.exists()


def test_none_of_several_servers_is_chosen_silently(settings: Any) -> None:
    """R-042: the error lists them, and says how to choose."""
    make_resource(ISSUER, OTHER)
    error = refusal()
    assert isinstance(error, ConflictError)
    for part in (ISSUER, OTHER, "admin", "--pin ISSUER", "argument issuer"):
        assert part in str(error)
    assert not AuthorizationServer.objects.exists()


def test_of_several_servers_the_pinned_one_is_taken(django_assert_num_queries: Any) -> None:
    """R-042."""
    registration = make_client()
    make_resource(OTHER, ISSUER, pinned_issuer=ISSUER, known_issuers=[ISSUER])
    with django_assert_num_queries(2):
        assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk


def test_of_several_servers_the_named_argument_is_taken() -> None:
    """R-042: for this call, whatever is pinned."""
    registration = make_client()
    make_resource(OTHER, ISSUER, pinned_issuer=OTHER)
    assert services.get_or_register_for(RESOURCE, "acme", issuer=ISSUER).pk == registration.pk
    assert ProtectedResource.objects.get().pinned_issuer == OTHER


def test_of_several_servers_only_the_allowed_ones_count(settings: Any) -> None:
    registration = make_client()
    make_resource(OTHER, ISSUER)
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk


def test_of_several_servers_a_disabled_one_does_not_count() -> None:
    registration = make_client()
    make_resource(OTHER, ISSUER)
    AuthorizationServer.objects.create(issuer=OTHER, enabled=False)
    assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk


def test_a_pinned_server_that_the_resource_does_not_name_is_not_used() -> None:
    make_client()
    make_resource(OTHER, pinned_issuer=ISSUER)
    error = refusal()
    assert isinstance(error, ConflictError)
    assert "is not among those that the resource names" in str(error)
    assert ISSUER in str(error)
    assert OTHER in str(error)


@pytest.mark.parametrize("pin", [{}, {"pinned_issuer": ISSUER}, {"argument": ISSUER}], ids=str)
def test_a_server_that_the_site_forbids_is_never_used(pin: dict[str, str], settings: Any) -> None:
    """R-148: a hostile resource cannot make the site register where its policy forbids it."""
    make_client()
    argument = pin.pop("argument", "")
    make_resource(ISSUER, **pin)
    settings.DCR_ALLOWED_ISSUERS = [OTHER]
    error = refusal(issuer=argument)
    assert isinstance(error, NotAllowedError)
    assert "DCR_ALLOWED_ISSUERS" in str(error)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://as.example",
        "https://as.example?x",
        "https://as.example#x",
        "https://user:secret@as.example",
        "as.example",
        "javascript:alert(1)",
        "https://as.example\n",
        "https://a\x00s.example",
        "",
        "https://as.example/{tenant}",
    ],
)
def test_an_invalid_issuer_is_not_a_server(issuer: str, mocked_responses: Stubs) -> None:
    """R-154."""
    mocked_responses.get(PLACE, json=document(issuer))
    error = refusal()
    assert isinstance(error, NotAllowedError)
    assert "secret" not in str(error)
    assert not AuthorizationServer.objects.exists()


def test_nothing_is_sent_to_a_server_at_an_internal_address() -> None:
    """R-040: the policy allows any public server, and this is none."""
    make_resource("https://10.0.0.1")
    assert isinstance(refusal(), NetworkError)


@pytest.mark.parametrize("metadata", [document(authorization_servers=[]), document()], ids=str)
def test_a_resource_that_names_no_server_says_what_to_do(metadata: dict[str, Any]) -> None:
    metadata.pop("authorization_servers")
    make_resource(metadata=metadata)
    error = refusal()
    assert isinstance(error, UnsupportedError)
    assert "dcr_register ISSUER" in str(error)


def test_a_resource_may_be_its_own_server(mocked_responses: Stubs) -> None:
    """One round, for the document of a server is another one."""
    mocked_responses.get(ROOT, json=document(OTHER, resource=OTHER), status=200)
    mocked_responses.reset()
    place = f"{OTHER}/.well-known/oauth-protected-resource"
    mocked_responses.get(place, json=document(OTHER, resource=OTHER))
    answer_at(mocked_responses, OTHER)
    assert services.get_or_register_for(OTHER).server.issuer == OTHER
    assert len(mocked_responses.calls) == 3


def test_a_resource_outside_leads_to_no_server_inside(
    settings: Any, mocked_responses: Stubs
) -> None:
    """Else whoever has an address entered has every port of that host asked."""
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    inside = "http://127.0.0.1:6379"
    row = make_resource(inside)
    error = refusal()
    assert isinstance(error, NotAllowedError)
    assert "inside your network" in str(error)
    assert not AuthorizationServer.objects.exists()
    assert len(mocked_responses.calls) == 0
    ProtectedResource.objects.update(pinned_issuer=inside)
    row.refresh_from_db()
    assert (row.choose_issuer(), row.servers) == (inside, {inside: ""})


@pytest.mark.parametrize("allows", ["the resource is inside", "the server is listed"])
def test_a_server_inside_is_used_where_the_site_says_so(allows: str, settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    inside = "http://127.0.0.1:8000"
    if allows == "the server is listed":
        settings.DCR_ALLOWED_ISSUERS = [inside]
        assert make_resource(inside).choose_issuer() == inside
    else:
        assert make_resource(inside, resource="http://127.0.0.1:9000/mcp").choose_issuer() == inside


def test_a_thousand_servers_are_counted_and_a_few_are_named(mocked_responses: Stubs) -> None:
    issuers = [f"https://as{number}.example" for number in range(1000)]
    mocked_responses.get(PLACE, json=document(*issuers))
    error = refusal()
    assert "1000 authorization servers" in str(error)
    assert "and 997 more" in str(error)
    assert len(mocked_responses.calls) == 1
    assert not AuthorizationServer.objects.exists()


# --- what the server has to be -----------------------------------------------------------------


@pytest.mark.parametrize("methods", [None, [], ["plain"], "S256"], ids=str)
def test_nothing_is_registered_at_a_server_without_pkce(
    methods: object, mocked_responses: Stubs
) -> None:
    """R-152."""
    make_resource(OTHER)
    metadata = {"issuer": OTHER, "registration_endpoint": f"{OTHER}/register"}
    mocked_responses.get(
        OTHER_PLACE, json={**metadata, "code_challenge_methods_supported": methods}
    )
    for _ in range(2):
        error = refusal()
        assert isinstance(error, UnsupportedError)
        assert (error.issuer, "S256" in str(error)) == (OTHER, True)
    assert len(mocked_responses.calls) == 1
    assert not ClientRegistration.objects.exists()


def test_a_client_at_a_server_without_pkce_is_not_handed_out_for_a_resource() -> None:
    """R-152: one that serves for other logins, if the server's row does not forbid it."""
    registration = make_registration(owner="acme")
    make_resource()
    assert isinstance(refusal(), UnsupportedError)
    assert services.get_or_register(ISSUER, "acme").pk == registration.pk


def test_stale_metadata_without_pkce_is_refreshed_before_the_server_is_refused(
    mocked_responses: Stubs,
) -> None:
    registration = make_registration(owner="acme", server=make_server(fresh_until=now()))
    make_resource()
    mocked_responses.get(WELL_KNOWN, json=server_metadata(**PKCE))
    assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk


def test_a_client_that_sends_no_users_needs_no_pkce() -> None:
    machine = {"grant_types": ["client_credentials"], "token_endpoint_auth_method": "private"}
    registration = make_registration(owner="acme", metadata=machine)
    make_resource()
    assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "known"])
def test_a_servers_row_may_require_pkce_of_every_login(
    is_new: bool, mocked_responses: Stubs
) -> None:
    """R-152."""
    server = make_server(require_pkce=True)
    if not is_new:
        make_registration(server=server, owner="acme")
    with pytest.raises(UnsupportedError, match="S256"):
        services.get_or_register(ISSUER, "acme")
    with pytest.raises(UnsupportedError, match="S256"):
        services.for_login(ISSUER, "acme")
    server.store(server_metadata(**PKCE), url=WELL_KNOWN, etag="", lifetime=60)
    if not is_new:
        registration = services.get_or_register(ISSUER, "acme")
        assert services.code_challenge_method(registration) == "S256"
        registration.server.metadata = server_metadata()  # as a refresh may find it
        with pytest.raises(UnsupportedError, match="S256"):
            services.code_challenge_method(registration)


def test_a_server_that_disowns_the_resource_is_not_used() -> None:
    """R-037: each has to name the other, where both name any."""
    make_client(protected_resources=["https://another.example"])
    resource = make_resource()
    error = refusal()
    assert isinstance(error, InvalidResponseError)
    assert "protected_resources" in str(error)
    server = AuthorizationServer.objects.get()
    for names in (["https://another.example", RESOURCE], [], None, "https://another.example"):
        metadata = server_metadata(**PKCE, protected_resources=names)
        server.store(metadata, url=WELL_KNOWN, etag="", lifetime=60)
        assert services.get_or_register_for(resource.resource, "acme").status == "active"


def test_a_server_may_list_a_resource_by_its_alias() -> None:
    """R-037."""
    make_client(protected_resources=[HOST])
    make_resource(metadata=document(resource=HOST), alias=HOST)
    assert services.get_or_register_for(RESOURCE, "acme").status == "active"


def test_a_refused_registration_is_reported_and_remembered(mocked_responses: Stubs) -> None:
    """R-151."""
    make_resource()
    make_server(metadata=server_metadata(**PKCE))
    answer = {"error": "invalid_redirect_uri", "error_description": "not on the list"}
    mocked_responses.post(ENDPOINT, json=answer, status=400)
    for _ in range(2):
        error = refusal()
        assert isinstance(error, RequestRejectedError)
        assert (error.error, error.issuer) == ("invalid_redirect_uri", ISSUER)
    assert len(mocked_responses.calls) == 1


# --- when the resource names other servers -----------------------------------------------------


@pytest.fixture
def changes() -> Any:
    """The resource and the servers it named before, of each signal."""
    received: list[Any] = []

    def receive(resource: ProtectedResource, before: list[str], **_extra: Any) -> None:
        received.append((resource, before))

    signals.servers_changed.connect(receive, sender=ProtectedResource)
    yield received
    signals.servers_changed.disconnect(receive, sender=ProtectedResource)


def test_a_resource_that_moves_gets_a_client_at_its_new_server(
    mocked_responses: Stubs, changes: list[Any]
) -> None:
    """R-148: nothing is reused, the old registration stays, and a signal tells."""
    old = make_client()
    make_resource(fresh_until=now(), known_issuers=[ISSUER])
    mocked_responses.get(PLACE, json=document(OTHER))
    answer_at(mocked_responses, OTHER)
    new = services.get_or_register_for(RESOURCE, "acme")
    assert new.server.issuer == OTHER
    sent = [call.request for call in mocked_responses.calls]
    assert [request.headers.get("Authorization") for request in sent] == [None] * 3
    assert old.client_id not in str([request.body for request in sent])
    old.refresh_from_db()
    assert (old.status, old.live, old.client_secret is None) == ("active", True, False)
    [(resource, before)] = changes
    assert (resource.resource, before) == (RESOURCE, [ISSUER])
    assert ProtectedResource.objects.get().known_issuers == [ISSUER, OTHER]


def test_a_resource_that_adds_a_server_waits_for_a_choice(
    mocked_responses: Stubs, changes: list[Any]
) -> None:
    """R-042, R-148."""
    make_client()
    make_resource()
    mocked_responses.get(PLACE, json=document(ISSUER, OTHER))
    assert isinstance(refusal(challenge=challenged(PLACE)), ConflictError)
    assert len(changes) == 1


@pytest.mark.parametrize(
    "before", [document(), document(ISSUER, OTHER), document(ISSUER, OTHER, ISSUER)], ids=str
)
def test_no_signal_is_sent_without_a_change(
    before: dict[str, Any], mocked_responses: Stubs, changes: list[Any]
) -> None:
    make_resource(metadata=before)
    issuers = before["authorization_servers"][::-1]
    mocked_responses.get(PLACE, json=document(*issuers))
    services.discover_resource(RESOURCE, refresh=True)
    assert changes == []


def test_no_signal_tells_of_the_first_document(mocked_responses: Stubs, changes: list[Any]) -> None:
    mocked_responses.get(PLACE, json=document())
    services.discover_resource(RESOURCE)
    assert changes == []


def test_a_receiver_that_raises_changes_nothing(mocked_responses: Stubs) -> None:
    def fail(**_arguments: Any) -> None:
        raise RuntimeError

    make_resource()
    mocked_responses.get(PLACE, json=document(OTHER))
    signals.servers_changed.connect(fail)
    try:
        assert services.discover_resource(RESOURCE, refresh=True).servers == {OTHER: ""}
    finally:
        signals.servers_changed.disconnect(fail)


# --- hostile resources -------------------------------------------------------------------------


def test_a_resource_that_names_a_new_server_each_time_is_stopped(mocked_responses: Stubs) -> None:
    """Each would be a row, and a client that somebody has to delete."""
    issuers = [f"https://as{number}.example" for number in range(MAX_SERVERS)]
    for issuer in issuers:
        mocked_responses.get(PLACE, json=document(issuer))
        answer_at(mocked_responses, issuer)
        services.get_or_register_for(RESOURCE, "acme", challenge=challenged(PLACE))
    assert ProtectedResource.objects.get().known_issuers == issuers
    mocked_responses.get(PLACE, json=document("https://one-more.example"))
    error = refusal(challenge=challenged(PLACE))
    assert isinstance(error, ConflictError)
    assert f"{MAX_SERVERS} authorization servers already" in str(error)
    assert "--pin" in str(error)
    assert AuthorizationServer.objects.count() == MAX_SERVERS
    # One of those before is no new one, and a person may choose any.
    mocked_responses.get(PLACE, json=document(issuers[0]))
    services.get_or_register_for(RESOURCE, "acme", challenge=challenged(PLACE))
    mocked_responses.get(PLACE, json=document("https://one-more.example"))
    answer_at(mocked_responses, "https://one-more.example")
    challenge = challenged(PLACE)
    services.get_or_register_for(
        RESOURCE, "acme", challenge=challenge, issuer="https://one-more.example"
    )
    ProtectedResource.objects.update(pinned_issuer="https://one-more.example")
    services.get_or_register_for(RESOURCE, "acme", challenge=challenge)
    assert ProtectedResource.objects.get().known_issuers == issuers


def test_no_caller_forgets_a_server_that_another_has_noted() -> None:
    """The resource may keep one waiting while it leads the others on."""
    make_resource()
    slow, *others = [ProtectedResource.objects.get() for _ in range(MAX_SERVERS)]
    for number, row in enumerate(others):
        row.record_issuer(f"https://as{number}.example")
    assert slow.known_issuers == []
    slow.record_issuer(ISSUER)
    known = [f"https://as{number}.example" for number in range(MAX_SERVERS - 1)]
    assert ProtectedResource.objects.get().known_issuers == [*known, ISSUER]
    late = others[0]
    assert late.known_issuers == known[:1]
    with pytest.raises(ConflictError, match="authorization servers already"):
        late.record_issuer("https://one-more.example")


def test_two_processes_that_add_a_server_at_once_both_succeed() -> None:
    make_resource()
    first, second = [ProtectedResource.objects.get() for _ in "12"]
    updated = ProtectedResource.objects.filter(pk=first.pk)
    updated.update(known_issuers=["https://a.example"], updated_at=now() + timedelta(hours=1))
    second._add(ISSUER)  # in vain, for what it read is not what is stored any more
    assert second.known_issuers == ["https://a.example"]
    second.record_issuer(ISSUER)
    assert ProtectedResource.objects.get().known_issuers == ["https://a.example", ISSUER]


def test_a_resource_learns_nothing_of_the_client_of_another(mocked_responses: Stubs) -> None:
    """R-190: whatever it names, it is sent no header, no body and no parameter but its own."""
    registration = make_client()
    make_resource(resource="https://honest.example/mcp", known_issuers=[ISSUER])
    mocked_responses.get(PLACE, json=document())
    found = services.get_or_register_for(RESOURCE, "acme")
    assert found.pk == registration.pk
    [call] = mocked_responses.calls
    assert (call.request.url, call.request.body) == (PLACE, None)
    headers = set(call.request.headers)
    assert headers <= {"Accept", "Accept-Encoding", "Connection", "User-Agent", "Host"}


def test_a_resource_does_not_return_the_client_of_another_owner(mocked_responses: Stubs) -> None:
    make_client()
    make_resource()
    mocked_responses.post(ENDPOINT, json=client_information(client_id="c2"), status=201)
    assert services.get_or_register_for(RESOURCE, "evil").client_id == "c2"


@pytest.mark.parametrize(
    "issuers",
    [["https://me:s3cret@evil.example"], ["https://me:s3cret@evil.example"] * 2, [OTHER, ISSUER]],
    ids=["one", "twice", "two"],
)
def test_no_message_repeats_other_members_of_a_document(
    issuers: list[str], mocked_responses: Stubs
) -> None:
    mocked_responses.get(PLACE, json=document(*issuers, note="\u202es3cret"))
    error = refusal()
    assert "s3cret" not in f"{error} {error.attempts} {ProtectedResource.objects.get().last_error}"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404},
        {"json": {"resource": f"{RESOURCE}?key=s3cret&more"}},
        {"json": document()},
        {"status": 302, "headers": {"Location": "https://evil.example/"}},
        {"body": requests.ConnectionError()},
    ],
    ids=["404", "another", "several", "redirect", "silence"],
)
def test_no_message_contains_the_query_of_a_url(
    answer: Any, mocked_responses: Stubs, caplog: pytest.LogCaptureFixture
) -> None:
    """People put keys into addresses."""
    resource = f"{RESOURCE}?key=s3cret"
    if answer.get("json") == document():
        answer = {"json": document(ISSUER, OTHER, resource=resource)}
    mocked_responses.get(f"{PLACE}?key=s3cret", **answer)
    mocked_responses.assert_all_requests_are_fired = False
    mocked_responses.get(ROOT, status=404)
    caplog.set_level("DEBUG")
    for refresh in (False, False, True):
        with pytest.raises(DCRError) as caught:
            services.discover_resource(resource, refresh=refresh).choose_issuer()
        row = ProtectedResource.objects.get()
        said = f"{caught.value} {caught.value.attempts} {row} {row.last_error} {row.failure}"
        assert "s3cret" not in said + caplog.text
    assert row.resource == resource


def test_without_automatic_registration_no_server_is_sent_anything(settings: Any) -> None:
    settings.DCR_AUTO_REGISTER = False
    make_resource(OTHER)
    error = refusal()
    assert isinstance(error, NotAllowedError)
    assert f"dcr_register {OTHER}" in str(error)
    assert ProtectedResource.objects.get().known_issuers == []

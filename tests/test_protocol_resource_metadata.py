from __future__ import annotations

from typing import Any

import pytest

from django_dcr.exceptions import (
    InvalidResponseError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.protocol import (
    MAX_STEP_UPS,
    check_metadata_place,
    check_resource,
    check_resource_metadata,
    is_metadata_of,
    may_be_alias,
    named_servers,
    parse_challenge,
    resource_metadata_urls,
    scopes_for,
)
from django_dcr.protocol.resource_metadata import MAX_NAMED

HOST = "https://mcp.example"
RESOURCE = f"{HOST}/mcp"
PLACE = f"{HOST}/.well-known/oauth-protected-resource"


# --- what a resource is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resource",
    [
        RESOURCE,
        HOST,
        f"{HOST}/",
        f"{HOST}/mcp/",
        f"{HOST}/mcp?tenant=1",
        f"{HOST}?tenant=1",
        "https://MCP.Example/MCP",
        f"{HOST}:8443/mcp",
    ],
)
def test_a_resource_is_any_https_url_without_a_fragment(resource: str) -> None:
    check_resource(resource)


@pytest.mark.parametrize(
    ("resource", "reason"),
    {
        "fragment": (f"{RESOURCE}#a", "fragment"),
        "empty fragment": (f"{RESOURCE}#", "fragment"),
        "http": ("http://mcp.example/mcp", "not https"),
        "userinfo": ("https://me:pass@mcp.example/mcp", "user name"),
        "no scheme": ("mcp.example/mcp", "absolute"),
        "another scheme": ("ftp://mcp.example/", "absolute"),
        "space": (f"{RESOURCE} ", "absolute"),
        "newline": (f"{RESOURCE}\n", "absolute"),
        "not ASCII": ("https://mcp.exämple/", "absolute"),
        "dot segment": (f"{HOST}/a/../b", "dot segment"),
        "empty": ("", "not a URL"),
        "very long": (HOST + "/" + "a" * 9000, "longer"),
    }.values(),
)
def test_what_is_not_a_resource_is_refused_on_input(resource: str, reason: str) -> None:
    with pytest.raises(NotAllowedError, match=reason) as caught:
        check_resource(resource)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("end", "meant"), [("", ""), ("/mcp", "/mcp"), ("/mcp/", "/mcp/"), ("/mcp?key=1", "/mcp?…")]
)
def test_the_url_of_a_document_is_not_a_resource(end: str, meant: str) -> None:
    with pytest.raises(NotAllowedError) as caught:
        check_resource(f"{HOST}/.well-known/oauth-protected-resource{end}")
    assert f'the resource is probably "{HOST}{meant}"' in str(caught.value)


def test_a_url_that_only_begins_like_a_documents_is_a_resource() -> None:
    check_resource(f"{HOST}/.well-known/oauth-protected-resources")


def test_a_resource_in_the_sites_own_network_may_be_http() -> None:
    check_resource("http://mcp.internal/mcp", allow_http=True)


# --- where its metadata is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "places"),
    {
        "path": (RESOURCE, [f"{PLACE}/mcp", PLACE]),
        "no path": (HOST, [PLACE]),
        "final slash": (f"{HOST}/", [PLACE]),
        "path with a final slash": (f"{HOST}/mcp/", [f"{PLACE}/mcp/", PLACE]),
        "query": (f"{HOST}/mcp?a=1&b", [f"{PLACE}/mcp?a=1&b", PLACE]),
        "query without path": (f"{HOST}?a=1", [f"{PLACE}?a=1", PLACE]),
        "query after a slash": (f"{HOST}/?a=1", [f"{PLACE}?a=1", PLACE]),
        "port": ("https://mcp.example:8443/a", [
            "https://mcp.example:8443/.well-known/oauth-protected-resource/a",
            "https://mcp.example:8443/.well-known/oauth-protected-resource",
        ]),
        "upper case": ("https://MCP.Example/A", [f"{PLACE}/A", PLACE]),
    }.values(),
)  # fmt: skip
def test_the_well_known_part_is_inserted_before_path_and_query(
    resource: str, places: list[str]
) -> None:
    """R-030, R-145: the path first, then the root."""
    assert resource_metadata_urls(resource) == places


def refused_place(url: str, *trusted: str) -> str:
    with pytest.raises(UnsupportedError) as caught:
        check_metadata_place(url, resource=RESOURCE, trusted_origins=trusted)
    return str(caught.value)


def test_a_challenge_refers_to_the_resources_own_origin_or_a_trusted_one() -> None:
    """R-040."""
    check_metadata_place(f"{HOST}/elsewhere", resource=RESOURCE, trusted_origins=[])
    other = "https://api.example/metadata"
    check_metadata_place(other, resource=RESOURCE, trusted_origins=["https://api.example"])
    assert "trusted_origins" in refused_place(other)
    assert "https://api.example for" in refused_place(other, "https://third.example")


@pytest.mark.parametrize(
    "url",
    ["http://mcp.example/metadata", "https://", "file:///etc/passwd", "//mcp.example/x", "x", ""],
)
def test_a_challenge_without_an_https_url_is_not_followed(url: str) -> None:
    """R-040."""
    assert "operator" in refused_place(url)


# --- what of it may be used --------------------------------------------------------------------


def checked(document: dict[str, Any], *, resource: str = RESOURCE, alias: str = "") -> Any:
    return check_resource_metadata(document, resource=resource, alias=alias)


def test_unknown_members_of_a_document_are_kept() -> None:
    """R-031."""
    document = {"resource": RESOURCE, "authorization_servers": ["https://as"], "x": {"y": [1]}}
    assert checked(document) == document


def test_null_and_empty_members_are_absent_except_bearer_methods() -> None:
    document = {"resource": RESOURCE, "a": None, "b": "", "authorization_servers": []}
    assert checked({**document, "bearer_methods_supported": []}) == {
        "resource": RESOURCE,
        "bearer_methods_supported": [],
    }


@pytest.mark.parametrize(
    "stated",
    [
        HOST,
        f"{RESOURCE}/",
        f"{RESOURCE}?",
        "https://mcp.example:443/mcp",
        "https://MCP.example/mcp",
        "https://mcp.example/MCP",
        "https://mcp.example/%6dcp",
        "https://evil.example/mcp",
        "http://mcp.example/mcp",
        f"{RESOURCE} ",
        f"{RESOURCE}\x00",
        None,
        7,
        [RESOURCE],
        {"resource": RESOURCE},
        "x" * 100_000,
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_document_of_another_resource_is_not_used(stated: object) -> None:
    """R-032, R-033: compared character by character, without normalization."""
    with pytest.raises(InvalidResponseError, match="must not be used") as caught:
        checked({"resource": stated, "authorization_servers": ["https://as.example"]})
    assert len(str(caught.value)) <= 500


def test_the_error_for_a_documents_parent_resource_says_how_to_accept_it() -> None:
    with pytest.raises(InvalidResponseError, match="--alias NAME"):
        checked({"resource": HOST})
    with pytest.raises(InvalidResponseError, match="use exactly its address"):
        checked({"resource": "https://evil.example/"})


def test_an_alias_is_accepted_where_an_operator_says_so() -> None:
    """R-033: the exception is explicit, and for one identifier."""
    assert checked({"resource": HOST}, alias=HOST) == {"resource": HOST}
    assert checked({"resource": RESOURCE}, alias=HOST) == {"resource": RESOURCE}
    with pytest.raises(InvalidResponseError):
        checked({"resource": f"{HOST}/"}, alias=HOST)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [(RESOURCE, True), ("https://mcp.example.net/mcp", False), ("no address", False)],
)
def test_the_document_at_the_root_is_that_of_its_own_origin(resource: str, expected: bool) -> None:
    """R-032: whatever the row was changed to since."""
    place = f"{HOST}/.well-known/oauth-protected-resource"
    assert is_metadata_of(HOST, resource, place=place) is expected


@pytest.mark.parametrize(
    ("alias", "expected"),
    {
        "origin": (HOST, True),
        "origin with slash": (f"{HOST}/", True),
        "the same with slash": (f"{RESOURCE}/", True),
        "spelling of the host": ("https://MCP.example/mcp", True),
        "another path": (f"{HOST}/other", False),
        "a prefix that is not a parent": (f"{HOST}/mc", False),
        "a part of it": (f"{RESOURCE}/tool", False),
        "another host": ("https://evil.example", False),
        "another port": (f"{HOST}:8443", False),
        "another scheme": ("http://mcp.example", False),
        "query": (f"{HOST}/?a", False),
        "fragment": (f"{HOST}/#a", False),
        "no URL": ("mcp", False),
        "no text": (7, False),
    }.values(),
)
def test_an_alias_is_the_resource_or_a_parent_of_it(alias: object, expected: bool) -> None:
    assert may_be_alias(alias, RESOURCE) is expected


def test_signed_metadata_is_not_used_unverified() -> None:
    """R-034: without a key for the signature it is only text."""
    claims = {"resource": RESOURCE, "signed_metadata": "e30.eyJhdXRob3JpemF0aW9uX3NlcnZlcnMiOl0.x"}
    assert named_servers(checked(claims)) == []


@pytest.mark.parametrize(
    ("named", "issuers"),
    [
        (["https://a", "https://b", "https://a"], ["https://a", "https://b"]),
        (["https://a", None, 7, ["https://b"], {}], ["https://a"]),
        ("https://a", []),
        ({"issuer": "https://a"}, []),
        (None, []),
    ],
    ids=["twice", "no texts", "one text", "object", "null"],
)
def test_the_servers_of_a_resource(named: object, issuers: list[str]) -> None:
    assert named_servers({"authorization_servers": named}) == issuers


def test_only_the_first_of_very_many_servers_are_considered() -> None:
    """One document would slow down every call, and the admin's page would have megabytes."""
    issuers = [f"https://as{number}" for number in range(50_000)]
    assert named_servers({"authorization_servers": issuers}) == issuers[:MAX_NAMED]


def test_no_character_is_removed_from_the_name_of_a_server() -> None:
    """It would be another server."""
    document = {"resource": RESOURCE, "authorization_servers": ["https://a\x00s.example"]}
    assert named_servers(checked(document)) == ["https://a\ufffds.example"]


# --- which scope to request --------------------------------------------------------------------

SUPPORTED = {"scopes_supported": ["read", "write"]}


def test_the_scope_comes_from_the_challenge_or_the_metadata() -> None:
    """R-187, R-038: the metadata is used only where the challenge names no scope."""
    challenge = parse_challenge('Bearer scope="admin"')
    assert scopes_for(SUPPORTED, challenge) == "admin"
    assert scopes_for({}, challenge) == "admin"
    assert scopes_for(SUPPORTED, parse_challenge("Bearer")) == "read write"
    assert scopes_for(SUPPORTED) == "read write"
    assert scopes_for({}) == ""


@pytest.mark.parametrize(
    "supported",
    [None, "read", {"read": 1}, [], [None, 7, ["read"], "", "two words", 'a"b', "é", "\n"],
     ["x" * 5000], [f"scope-{n}" for n in range(5000)]],
    ids=["null", "text", "object", "empty", "no scopes", "long", "many"],
)  # fmt: skip
def test_what_is_not_a_list_of_scopes_is_none(supported: object) -> None:
    assert scopes_for({"scopes_supported": supported}) == ""


def test_a_scope_too_long_to_be_sent_counts_as_none() -> None:
    challenge = parse_challenge(f'Bearer scope="{" ".join(f"s{n}" for n in range(9000))}"')
    assert challenge.scope
    assert scopes_for(SUPPORTED, challenge) == "read write"


def test_a_step_up_requests_the_union() -> None:
    """R-188: what was requested before is not lost."""
    challenge = parse_challenge('Bearer error="insufficient_scope", scope="write admin"')
    assert scopes_for(SUPPORTED, challenge, requested=["read write"]) == "read write admin"
    assert scopes_for({}, challenge, requested="read") == "read write admin"
    assert scopes_for({}, challenge, requested=["read", "read x"]) == "read x write admin"
    assert scopes_for({}, challenge, requested=[""]) == "write admin"


def test_a_step_up_without_a_scope_in_the_challenge_requests_what_is_listed() -> None:
    """R-187, R-188: as servers of the MCP Python SDK do."""
    challenge = parse_challenge('Bearer error="insufficient_scope"')
    listed = {"scopes_supported": ["read", "write"]}
    assert scopes_for(listed, challenge, requested=["read"]) == "read write"


def test_a_step_up_that_adds_no_scope_is_refused() -> None:
    """R-188."""
    for header in ('Bearer scope="read"', "Bearer", f'Bearer scope="{"x" * 5000}"'):
        with pytest.raises(RequestRejectedError, match="scope it asked for") as caught:
            scopes_for(SUPPORTED, parse_challenge(header), requested=["read write"])
        assert (caught.value.status, caught.value.error) == (403, "insufficient_scope")


def test_a_union_that_grows_too_long_is_refused() -> None:
    """R-188."""
    challenge = parse_challenge(f'Bearer scope="{"x" * 4000}"')
    with pytest.raises(RequestRejectedError):
        scopes_for({}, challenge, requested=["y" * 4000])


def test_a_resource_that_keeps_asking_for_more_is_refused_after_a_few_attempts() -> None:
    """R-188: whatever scopes it names."""
    requested = ["s0"]
    for step in range(1, MAX_STEP_UPS + 1):
        challenge = parse_challenge(f'Bearer error="insufficient_scope", scope="s{step}"')
        requested.append(scopes_for({}, challenge, requested=requested))
    assert requested[-1].split() == [f"s{n}" for n in range(MAX_STEP_UPS + 1)]
    with pytest.raises(RequestRejectedError):
        scopes_for({}, parse_challenge('Bearer scope="one-more"'), requested=requested)

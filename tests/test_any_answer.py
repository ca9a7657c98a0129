"""Whatever bytes a server answers: a typed error, or a valid record that saves.

First through ``protocol`` alone, which does no more work than the answer is long; how much time
that takes is for ``make bench``. Then through the services
and into the database that DATABASE_URL names, for what one database takes another may refuse.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import responses
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from django_dcr import protocol
from django_dcr.exceptions import DCRError
from django_dcr.models import AuthorizationServer, ClientRegistration, ProtectedResource
from django_dcr.protocol.json import MAX_DEPTH
from django_dcr.services import discover, discover_resource, read, register, update
from tests.factories import (
    APPENDED_OPENID,
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WELL_KNOWN,
    WELL_KNOWN_OPENID,
    client_information,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

# --- what servers answer ------------------------------------------------------------------------

TEXTS = st.text() | st.sampled_from(
    ["", "c1", "s1", "t1", "**********", "a\0b", "a\ud800b", "\u202e", "none", URI, ISSUER, "0"]
)
NUMBERS = (
    st.integers(-(10**21), 10**21)
    | st.floats()
    | st.sampled_from([0, 1, -1, 10**10, 10**11, 10**13, 2**63, -(2**63) - 1, 1e18, 1e300, -0.0])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
NAMES = TEXTS | st.sampled_from(
    [
        *protocol.METADATA_MEMBERS,
        *client_information(),
        *("error", "issuer", "registration_endpoint", "scopes_supported", "client_name#ja", "pk"),
    ]
)


def documents(usual: dict[str, Any]) -> SearchStrategy[bytes]:
    """The usual document with some members changed, or any other JSON, or any bytes."""
    changes = st.dictionaries(NAMES, VALUES, max_size=6)
    changed = changes.map(lambda members: {**usual, **members})
    lacking = st.sampled_from(sorted(usual)).map(
        lambda name: {key: value for key, value in usual.items() if key != name}
    )
    encoded = (changed | lacking | changes | VALUES).flatmap(_encodings)
    return encoded | st.binary()


def _encodings(value: object) -> SearchStrategy[bytes]:
    plain = json.dumps(value).encode()
    raw = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    cut = st.integers(0, len(plain)).map(lambda length: plain[:length])
    return st.just(plain) | st.just(raw) | cut


def deep(levels: int) -> bytes:
    """A document nested so many levels deep, besides what a response needs."""
    nested: Any = 1
    for _ in range(levels - 1):
        nested = [nested]
    return json.dumps({**server_metadata(), **client_information(), "deep": nested}).encode()


def wide(members: int) -> bytes:
    """So many members, with the kinds of names and strings on which databases differ."""
    odd = {f"é\U0001f600'\"\\%{{}} {number}": "\uffff\x01\\u0000" for number in range(members)}
    return json.dumps({**server_metadata(), **client_information(), **odd}).encode()


ANSWERS = documents(client_information())
METADATA = documents(server_metadata())
RESOURCE = "https://mcp.example/mcp"
PLACE = "https://mcp.example/.well-known/oauth-protected-resource"
RESOURCE_METADATA = documents(
    {"resource": RESOURCE, "authorization_servers": [ISSUER], "scopes_supported": ["a", "b"]}
)
WISHES = st.just(GRANTED) | st.dictionaries(NAMES, VALUES, max_size=6)


def extremes(*beside: Any) -> Callable[[Any], Any]:
    """Let a test use the largest documents as well, with these other arguments."""

    def decorate(test: Any) -> Any:
        for body in (deep(MAX_DEPTH), deep(MAX_DEPTH + 1), wide(300), b"[" * 10**6, b"9" * 10**6):
            test = example(body, *beside)(test)
        return test

    return decorate


# --- through protocol alone ---------------------------------------------------------------------


def work(check: Callable[[bytes], None], body: bytes) -> int:
    """Check that this fails with an error of this app only; return how many calls it makes."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:  # pragma: no cover - untraceable
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with suppress(DCRError):
            check(body)
    finally:
        sys.setprofile(None)
    return calls


def check_metadata(body: bytes) -> None:
    document = protocol.parse_object(body)
    assert protocol.encode(protocol.storable(document))
    metadata = protocol.check_server_metadata(document, issuer=ISSUER)
    assert protocol.storable(metadata) == metadata
    protocol.warnings(GRANTED, metadata)
    protocol.registration_request(GRANTED, metadata)
    protocol.endpoint(metadata, "registration_endpoint", issuer=ISSUER)


def check_answer(body: bytes, wishes: dict[str, Any] = GRANTED) -> None:
    document = protocol.parse_object(body)
    for requested in (None, wishes):
        information = protocol.client_information(document, requested=requested)
        assert information.client_id is not None or information.faults
        assert protocol.storable(information.metadata) == information.metadata
        assert protocol.parse_object(protocol.encode(information.metadata)) == information.metadata
        assert all(sentence.isprintable() for sentence in information.deviations)
        protocol.differences(GRANTED, information.metadata)
        protocol.update_request(information.metadata, GRANTED, client_id="c1")


# The usual answer takes fewer than 2,000 calls.


@given(METADATA)
@extremes()
def test_any_metadata_is_checked_quickly(body: bytes) -> None:
    """Faults 58 to 69 and 71 to 99, step D."""
    assert work(check_metadata, body) < 4000 + 10 * len(body)


@given(ANSWERS, WISHES)
@extremes(GRANTED)
def test_any_response_about_a_client_is_parsed_quickly(body: bytes, wishes: dict[str, Any]) -> None:
    """Faults 58 to 69, 101 to 122 and 131 to 135, steps R, G and P."""
    size = len(body) + len(json.dumps(wishes))
    assert work(partial(check_answer, wishes=wishes), body) < 4000 + 10 * size


@pytest.mark.parametrize("check", [check_metadata, check_answer])
def test_the_work_grows_linearly_with_the_members(check: Callable[[bytes], None]) -> None:
    work(check, wide(1))  # fills what is cached, such as compiled patterns
    one, two, four = (work(check, wide(members)) for members in (200, 400, 800))
    assert four - two < 2.1 * (two - one)


@pytest.mark.parametrize("check", [check_metadata, check_answer])
@pytest.mark.parametrize("body", [b"[", b"9", b'"', b" ", b"\\"], ids=repr)
def test_what_is_not_a_document_is_refused_quickly(
    check: Callable[[bytes], None], body: bytes
) -> None:
    work(check, body)  # fills what is cached, such as compiled patterns
    assert work(check, body * 10**6) < 100


# --- into the database --------------------------------------------------------------------------

in_the_database = settings(
    max_examples=settings().max_examples // 4,
    # The rows and the stub are made once, and set back for each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Stub:
    """A server that answers the same to everything, and asks for no more."""

    body = b""

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        return 204 if request.method == "DELETE" else 200, {"ETag": '"1"'}, self.body


@pytest.fixture
def stub(db: None) -> Iterator[Stub]:
    stub = Stub()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as stubs:
        for url in (WELL_KNOWN, WELL_KNOWN_OPENID, APPENDED_OPENID, PLACE, f"{PLACE}/mcp"):
            stubs.add_callback("GET", url, stub.answer)
        stubs.add_callback("POST", ENDPOINT, stub.answer)
        for method in ("GET", "PUT", "DELETE"):
            stubs.add_callback(method, URI, stub.answer)
        yield stub


UNREGISTERED = {
    "status": "draft",
    "client_id": "",
    "client_digest": None,
    "client_secret": None,
    "registration_access_token": None,
    "registration_client_uri": "",
    "metadata": {},
}
REGISTERED = {
    "client_secret": "s1",
    "client_secret_expires_at": 0,
    "registration_access_token": "t1",
    "registration_client_uri": URI,
    "metadata": GRANTED,
}


def set_back(row: Any, values: dict[str, Any]) -> Any:
    """The row as it was at first."""
    rows = type(row).objects.filter(pk=row.pk)
    rows.update(**values)
    return rows.get()


def succeeds(service: Callable[[Any], Any], row: Any) -> bool:
    """Whether the service accepts the response; otherwise it raises an error of this app."""
    with suppress(DCRError):
        service(row)
        return True
    assert 0 < len(type(row).objects.get(pk=row.pk).last_error) <= 500
    return False


@in_the_database
@given(METADATA)
@extremes()
def test_any_metadata_is_refused_or_saved(stub: Stub, body: bytes) -> None:
    """Faults 58 to 69, step D."""
    stub.body = body
    server = AuthorizationServer.objects.first() or make_server()
    unasked = {"metadata": {}, "fresh_until": None, "etag": "", "failure": None, "retry_at": None}
    server = set_back(server, unasked)
    if succeeds(discover, server):
        row = AuthorizationServer.objects.get(pk=server.pk)
        assert row.metadata == server.metadata
        assert row.metadata["issuer"] == ISSUER
        assert row.is_fresh
    else:
        assert AuthorizationServer.objects.get(pk=server.pk).metadata == {}


@in_the_database
@given(RESOURCE_METADATA)
@extremes()
def test_any_metadata_of_a_resource_is_refused_or_saved(stub: Stub, body: bytes) -> None:
    """Faults 58 to 69, R-031: and what is stored leads to a server, or to an error."""
    stub.body = body
    row = ProtectedResource.objects.for_resource(RESOURCE)
    row = set_back(row, {"metadata": {}, "fresh_until": None, "failure": None, "retry_at": None})
    if succeeds(lambda row: discover_resource(row.resource), row):
        found = ProtectedResource.objects.get(pk=row.pk)
        assert found.metadata["resource"] == found.indicator == RESOURCE
        assert isinstance(protocol.scopes_for(found.metadata), str)
        with suppress(DCRError):
            assert found.choose_issuer() in found.servers
    else:
        assert ProtectedResource.objects.get(pk=row.pk).metadata == {}


@in_the_database
@given(ANSWERS)
@extremes()
def test_any_response_to_a_registration_is_refused_or_saved(stub: Stub, body: bytes) -> None:
    """Faults 58 to 69 and 101 to 122, step R."""
    stub.body = body
    draft = set_back(ClientRegistration.objects.first() or make_draft(), UNREGISTERED)
    if succeeds(register, draft):
        saved(draft)
    else:
        assert stored(draft).status in ("unknown", "rejected")


@in_the_database
@given(ANSWERS)
@extremes()
@pytest.mark.parametrize("service", [read, update])
def test_any_later_response_is_refused_or_saved(
    service: Callable[..., Any], stub: Stub, body: bytes
) -> None:
    """Faults 58 to 69, 101 to 122 and 128, steps G and P: the client stays the same."""
    stub.body = body
    row = ClientRegistration.objects.first() or make_registration()
    row = set_back(row, REGISTERED)
    if succeeds(service, row):
        saved(row)
    row = stored(row)
    assert (row.status, row.client_id, row.lease) == ("active", "c1", "")
    assert row.client_secret.reveal()
    assert row.registration_access_token.reveal()


def saved(row: ClientRegistration) -> None:
    """Check that another process finds what was stored here, and that it can be used."""
    found = stored(row)
    assert found.status == "active"
    for name in ("client_id", "metadata", "deviations", "client_secret_expires_at"):
        assert getattr(found, name) == getattr(row, name)
    assert found.client_secret == row.client_secret
    assert json.loads(json.dumps(found.drift)) == row.drift
    assert isinstance(found.secret_has_expired, bool)

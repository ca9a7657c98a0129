"""Registrations of clients that sign: what is sent, what is chosen, and what never is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import responses

from django_dcr.exceptions import DCRError, NotAllowedError, UnsupportedError
from django_dcr.fields import digest
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import get_or_register, register, rotate_client_key, update
from django_dcr.services.key_rotation import own_keys
from tests.factories import (
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
from tests.test_protocol_registration_requests import statement

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock

METHOD = {"token_endpoint_auth_method": "private_key_jwt"}
SIGNING = {**WISHES, **METHOD}
ALGORITHMS = "token_endpoint_auth_signing_alg_values_supported"
METHODS = "token_endpoint_auth_methods_supported"


def a_server(*algorithms: str, methods: list[str] | None = None, **values: Any) -> Any:
    offer = {ALGORITHMS: [*algorithms]} if algorithms else {}
    offer |= {METHODS: methods} if methods else {}
    return make_server(metadata=server_metadata(**offer), **values)


def registered(stubs: Stubs, **values: Any) -> tuple[dict[str, Any], ClientRegistration]:
    """Register a draft; return what was sent, and the row."""
    stubs.post(ENDPOINT, status=201, json=client_information(client_secret=..., **METHOD))
    draft = make_draft(**{"requested_metadata": SIGNING, **values})
    row = register(draft)
    return json.loads(stubs.calls[-1].request.body or ""), row


def test_the_keys_themselves_are_sent_where_servers_cannot_fetch_them(
    mocked_responses: Stubs,
) -> None:
    """R-185, R-191."""
    key = rotate_client_key()
    sent, row = registered(mocked_responses, server=a_server("RS256", "ES256"))
    assert sent == {
        **SIGNING,
        "token_endpoint_auth_signing_alg": "ES256",
        "jwks": {"keys": [key.public_key]},
    }
    assert "d" not in sent["jwks"]["keys"][0]
    assert stored(row).metadata["jwks"] == sent["jwks"]
    assert (row.drift, row.client_secret) == ({}, None)
    row.client_authentication()


def test_an_address_is_sent_where_servers_can(mocked_responses: Stubs, settings: Settings) -> None:
    settings.DCR_BASE_URL = "https://site.example"
    rotate_client_key()
    sent, row = registered(mocked_responses)
    assert sent == {**SIGNING, "jwks_uri": "https://site.example/oauth/jwks.json"}
    assert row.drift == {}
    row.client_authentication()


def test_an_owner_with_keys_has_an_address_of_its_own(
    mocked_responses: Stubs, settings: Settings
) -> None:
    settings.DCR_BASE_URL = "https://site.example"
    rotate_client_key()
    own = rotate_client_key("o", algorithm="EdDSA")
    sent, row = registered(mocked_responses, owner="o", server=a_server("ES256", "EdDSA"))
    assert sent["jwks_uri"] == f"https://site.example/oauth/jwks/{digest('o')}.json"
    assert sent["token_endpoint_auth_signing_alg"] == "EdDSA"
    assert own.kid
    row.client_authentication()


@pytest.mark.parametrize(
    ("base", "by_value", "urls"),
    [
        ("https://site.example", True, "tests.urls"),
        ("http://127.0.0.1:8000", False, "tests.urls"),
        ("nonsense", False, "tests.urls"),
        ("https://site.example", False, "tests.contrib.test_live_logins"),
    ],
    ids=["checked on the row", "no TLS", "no URL", "not in the site's URLs"],
)
def test_the_keys_are_sent_where_the_server_could_not_fetch_them(
    mocked_responses: Stubs, settings: Settings, base: str, by_value: bool, urls: str
) -> None:
    settings.DCR_BASE_URL, settings.ROOT_URLCONF = base, urls
    rotate_client_key()
    sent, _row = registered(mocked_responses, server=make_server(sends_jwks=by_value))
    assert "jwks" in sent
    assert "jwks_uri" not in sent


@pytest.mark.parametrize(
    ("listed", "made", "chosen"),
    [
        ([], ["RS256", "ES256"], None),
        (["RS256", "ES256"], ["RS256", "ES256"], "ES256"),
        (["RS256"], ["RS256", "ES256"], "RS256"),
        (["HS256", "PS256", "EdDSA"], ["PS256", "EdDSA"], "EdDSA"),
        (["RS384", "ES384"], ["RS384", "ES384"], "ES384"),
    ],
    ids=["not listed", "both", "RSA only", "no ES256", "SMART"],
)
def test_the_algorithm_is_one_that_the_server_lists_and_the_site_has_a_key_for(
    mocked_responses: Stubs, listed: list[str], made: list[str], chosen: str | None
) -> None:
    """R-183."""
    for algorithm in made:
        rotate_client_key(algorithm=algorithm)
    sent, row = registered(mocked_responses, server=a_server(*listed))
    assert sent.get("token_endpoint_auth_signing_alg") == chosen
    row.client_authentication()


@pytest.mark.parametrize("prefers", [False, True])
@pytest.mark.parametrize(
    ("methods", "otherwise"),
    [
        (["client_secret_basic", "private_key_jwt"], "client_secret_basic"),
        (["private_key_jwt"], "private_key_jwt"),
        (["client_secret_post"], None),
        (None, None),
    ],
    ids=["both", "keys only", "secrets only", "not said"],
)
def test_where_nothing_is_asked_the_site_says_whether_keys_are_preferred(
    mocked_responses: Stubs,
    settings: Settings,
    prefers: bool,
    methods: list[str] | None,
    otherwise: str | None,
) -> None:
    settings.DCR_PREFER_KEYS = prefers
    rotate_client_key()
    server = a_server("ES256", methods=methods)
    expected = "private_key_jwt" if otherwise and prefers else otherwise
    expected = expected or (methods or ["client_secret_basic"])[0]
    answer = client_information(token_endpoint_auth_method=expected)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    row = register(make_draft(server=server))
    sent = json.loads(mocked_responses.calls[-1].request.body or "")
    assert sent["token_endpoint_auth_method"] == expected
    assert ("jwks" in sent) == (expected == "private_key_jwt")
    assert not prefers or row.drift == {}


@pytest.mark.parametrize(
    ("made", "listed"), [([], ["ES256"]), (["ES256"], ["RS256"])], ids=["no key", "no such key"]
)
def test_what_is_preferred_and_cannot_be_is_not_asked_for(
    mocked_responses: Stubs, settings: Settings, made: list[str], listed: list[str]
) -> None:
    settings.DCR_PREFER_KEYS = True
    for algorithm in made:
        rotate_client_key(algorithm=algorithm)
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    server = a_server(*listed, methods=["private_key_jwt", "client_secret_basic"])
    register(make_draft(server=server))
    sent = json.loads(mocked_responses.calls[-1].request.body or "")
    assert sent["token_endpoint_auth_method"] == "client_secret_basic"


BAD: dict[str, tuple[dict[str, Any], list[str], list[str], type[DCRError], str]] = {
    "no key": ({}, [], [], NotAllowedError, "Make one first: manage.py dcr_client_keys --rotate$"),
    "no such key": (
        {"token_endpoint_auth_signing_alg": "RS256"},
        ["ES256"],
        [],
        NotAllowedError,
        "none for RS256. Make one first: manage.py dcr_client_keys --rotate --algorithm RS256",
    ),
    "no such algorithm": (
        {"token_endpoint_auth_signing_alg": "ES256K"},
        ["ES256"],
        [],
        NotAllowedError,
        "Choose another token_endpoint_auth_signing_alg: ES256, ",
    ),
    "none": (
        {"token_endpoint_auth_signing_alg": "none"},
        ["ES256"],
        [],
        NotAllowedError,
        'must not be "none"',
    ),
    "HS256": (
        {"token_endpoint_auth_signing_alg": "HS256"},
        ["ES256"],
        [],
        NotAllowedError,
        "cannot sign by HS256",
    ),
    "a key that the server does not take": (
        {},
        ["ES256"],
        ["RS256", "PS256"],
        UnsupportedError,
        "signatures by RS256, PS256, .* dcr_client_keys --rotate --algorithm PS256",
    ),
    "none of ours": (
        {},
        ["ES256"],
        ["ES512", "HS256"],
        UnsupportedError,
        "signatures by ES512, HS256, .* Use another token_endpoint_auth_method",
    ),
    "not of the list": (
        {"token_endpoint_auth_signing_alg": "ES256"},
        ["ES256"],
        ["RS256"],
        UnsupportedError,
        "does not offer ES256",
    ),
    "a private key": (
        {"jwks": {"keys": [{"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "S3cr3t"}]}},
        ["ES256"],
        [],
        NotAllowedError,
        "holds a private key",
    ),
}


@pytest.mark.parametrize(("asked", "made", "listed", "kind", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("service", ["register", "update"])
def test_what_cannot_be_signed_is_refused_before_anything_is_sent(
    mocked_responses: Stubs,
    service: str,
    asked: dict[str, Any],
    made: list[str],
    listed: list[str],
    kind: type[DCRError],
    message: str,
) -> None:
    """R-013, R-183, R-185."""
    for algorithm in made:
        rotate_client_key(algorithm=algorithm)
    wishes, server = {**SIGNING, **asked}, a_server(*listed)
    row = make_registration(server=server)
    if service == "register":
        row = make_draft(requested_metadata=wishes, server=server, owner="new")
    row.requested_metadata = wishes
    with pytest.raises(kind, match=message) as caught:
        (register if service == "register" else update)(row)
    assert len(mocked_responses.calls) == 0
    assert "S3cr3t" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert stored(row).lease == ""
    assert stored(row).status == ("draft" if service == "register" else "active")


def test_a_server_that_wants_signatures_alone_has_the_operator_make_a_key() -> None:
    server = a_server("ES256", methods=["private_key_jwt", "tls_client_auth"])
    with pytest.raises(UnsupportedError, match=r"manage\.py dcr_client_keys --rotate\.$"):
        register(make_draft(server=server))


def test_a_missing_key_is_no_reason_to_ask_a_new_server(mocked_responses: Stubs) -> None:
    with pytest.raises(NotAllowedError, match="this site has none"):
        get_or_register(ISSUER, metadata=SIGNING)
    assert len(mocked_responses.calls) == 0
    assert not ClientRegistration.objects.exists()


def test_a_new_server_is_registered_at_with_a_key(mocked_responses: Stubs) -> None:
    rotate_client_key()
    mocked_responses.get(WELL_KNOWN, json=server_metadata(**{METHODS: ["private_key_jwt"]}))
    answer = client_information(client_secret=..., **METHOD)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    row = get_or_register(ISSUER, metadata=WISHES)
    assert row.metadata["token_endpoint_auth_method"] == "private_key_jwt"
    row.client_authentication()


# --- updates ------------------------------------------------------------------------------------


def updated(stubs: Stubs, row: ClientRegistration) -> dict[str, Any]:
    """Update the row at a server that grants what is asked; return what was sent."""
    stubs.get(URI, json={"client_id": "c1"})
    stubs.put(URI, json={"client_id": "c1"})
    update(row)
    sent: dict[str, Any] = json.loads(stubs.calls[-1].request.body or "")
    return sent


def test_a_client_with_a_secret_is_given_keys(mocked_responses: Stubs) -> None:
    key = rotate_client_key()
    row = make_registration(server=a_server("ES256"))
    row.requested_metadata = SIGNING
    sent = updated(mocked_responses, row)
    assert sent["token_endpoint_auth_method"] == "private_key_jwt"
    assert sent["jwks"] == {"keys": [key.public_key]}
    headers, form = stored(row).client_authentication()
    assert headers == {}
    assert "client_assertion" in form


def test_an_update_sends_the_address_in_place_of_the_keys(
    mocked_responses: Stubs, settings: Settings
) -> None:
    """R-054."""
    key = rotate_client_key()
    metadata = {**GRANTED, **METHOD, "jwks": {"keys": [key.public_key]}}
    row = make_registration(requested_metadata=SIGNING, metadata=metadata)
    settings.DCR_BASE_URL = "https://site.example"
    sent = updated(mocked_responses, row)
    assert sent["jwks_uri"] == "https://site.example/oauth/jwks.json"
    assert "jwks" not in sent
    assert "jwks" not in stored(row).metadata


def test_the_sites_own_keys_are_sent_as_they_are(mocked_responses: Stubs) -> None:
    wishes = {**SIGNING, "jwks_uri": "https://keys.example/jwks"}
    sent, _row = registered(mocked_responses, requested_metadata=wishes)
    assert sent == wishes


def test_no_query_is_made_for_keys_where_no_client_signs(
    mocked_responses: Stubs, django_assert_num_queries: Any
) -> None:
    row = make_registration()
    with django_assert_num_queries(0):
        own_keys(row, row.requested)
    row.requested_metadata = SIGNING
    with django_assert_num_queries(1):
        own_keys(row, row.requested)
    assert AuthorizationServer.objects.count() == 1


def test_the_keys_that_were_chosen_for_a_client_are_known(
    mocked_responses: Stubs, settings: Settings
) -> None:
    settings.DCR_PREFER_KEYS = True
    key = rotate_client_key()
    server = a_server("RS256", "ES256", methods=["private_key_jwt", "client_secret_basic"])
    _sent, row = registered(mocked_responses, server=server, requested_metadata=WISHES)
    assert row.chosen == {
        **METHOD,
        "token_endpoint_auth_signing_alg": "ES256",
        "jwks": {"keys": [key.public_key]},
    }
    row.requested_metadata = {**SIGNING, "jwks_uri": "https://site.example/own.json"}
    assert "jwks" not in row.chosen


@pytest.mark.parametrize(("keys", "is_odd"), [({}, True), ({"jwks": {"keys": [{}]}}, False)])
def test_a_client_that_has_to_sign_and_has_no_keys_is_odd(
    mocked_responses: Stubs, keys: dict[str, Any], is_odd: bool
) -> None:
    granted = client_information(client_secret=..., **METHOD, **keys)
    mocked_responses.post(ENDPOINT, status=201, json=granted)
    row = register(make_draft())
    odd = [each for each in row.deviations if "the method private_key_jwt, which this app" in each]
    assert bool(odd) == is_odd


def test_what_a_software_statement_claims_is_signed_with_a_key(mocked_responses: Stubs) -> None:
    key = rotate_client_key()
    wishes = {**WISHES, "software_statement": statement(METHOD)}
    sent, _row = registered(mocked_responses, requested_metadata=wishes)
    assert sent == {**wishes, "jwks": {"keys": [key.public_key]}}

"""The bodies of requests, and how what was granted compares with what was asked."""

from __future__ import annotations

import base64
import json

import pytest

from django_dcr.exceptions import NotAllowedError, UnsupportedError
from django_dcr.protocol import (
    client_metadata,
    differences,
    registration_request,
    update_request,
    warnings,
)
from django_dcr.protocol.registration_requests import statement_conflicts

REDIRECT = "https://app.example/callback"
SERVER = {"issuer": "https://as.example"}


def web(**members: object) -> dict[str, object]:
    return {"redirect_uris": [REDIRECT], **members}


def server(**members: object) -> dict[str, object]:
    return {**SERVER, **members}


def statement(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2ln"


def test_later_layers_win():
    """Settings < server < registration."""
    layers = {"client_name": "a", "scope": "x"}, {"client_name": "b"}, {"contacts": ["c"]}
    assert client_metadata(*layers) == {"client_name": "b", "scope": "x", "contacts": ["c"]}


@pytest.mark.parametrize("value", [None, "", [], {}, ()], ids=repr)
def test_an_empty_value_removes_the_member(value):
    """R-064: nothing null or empty is ever sent."""
    assert client_metadata(web(jwks={"keys": []}), {"jwks": value}) == web()


def test_values_that_are_false_or_zero_are_kept():
    metadata = {"require_auth_time": False, "default_max_age": 0}
    assert client_metadata(metadata) == metadata


def test_language_tags_are_compared_without_regard_to_case():
    """R-060: the tags, not the member names."""
    merged = client_metadata({"client_name#pt-BR": "a", "X": 1}, {"client_name#PT-br": "b", "x": 2})
    assert merged == {"client_name#PT-br": "b", "X": 1, "x": 2}


@pytest.mark.parametrize(
    ("name", "owner", "filled"),
    [
        ("Acme for {owner}", "tenant 7", "Acme for tenant 7"),
        ("Acme for {owner}", "{owner.__class__} %s", "Acme for {owner.__class__} %s"),
        ("{0.__class__} %(x)s {other}", "t", "{0.__class__} %(x)s {other}"),
        ("Acme {owner}", "", "Acme"),
    ],
    ids=["filled", "format strings in the owner", "format strings in the name", "the site itself"],
)
def test_the_owner_is_inserted_into_the_name_literally(name, owner, filled):
    """Fault 135: a replacement, never a format."""
    metadata = {"client_name": name, "client_name#de": name, "client_uri": "{owner}"}
    assert client_metadata(metadata, owner=owner) == {
        "client_name": filled,
        "client_name#de": filled,
        "client_uri": "{owner}",
    }


def test_a_name_that_is_only_the_owner_is_omitted_for_the_site_itself():
    assert client_metadata({"client_name": "{owner}"}) == {}


def test_a_list_of_scopes_is_joined():
    """R-058: one string, however it was configured; other lists fail later."""
    assert client_metadata({"scope": ["a", "b"]}) == {"scope": "a b"}
    assert client_metadata({"scope": [1]}) == {"scope": [1]}
    assert client_metadata({"client_name": 7}) == {"client_name": 7}


@pytest.mark.parametrize("layer", [["a"], "a", 7, {1: 2}], ids=["list", "text", "number", "name"])
def test_a_layer_that_is_not_an_object_is_refused(layer):
    with pytest.raises(NotAllowedError, match="one JSON object"):
        client_metadata({}, layer)


def test_a_request_is_the_metadata_at_the_top_level():
    """R-050, R-056, R-059, R-061, R-153: all as given, with only the method added."""
    metadata = web(
        client_name="Zoë",
        client_uri="https://app.example/",
        software_id="s",
        software_version="1",
        software_statement=statement({"iss": "x"}),
        grant_types=["authorization_code", "refresh_token"],
        x_vendor={"a": 1},
    )
    expected = {**metadata, "token_endpoint_auth_method": "client_secret_basic"}
    assert registration_request(metadata, SERVER) == expected


def test_a_request_contains_nothing_null_or_empty():
    """R-064: servers reject nulls."""
    request = registration_request(web(contacts=[], scope="", jwks=None), SERVER)
    assert request.keys() == {"redirect_uris", "token_endpoint_auth_method"}


def test_an_invalid_request_is_refused():
    """R-065, with issuer and step on the error."""
    with pytest.raises(NotAllowedError, match="client_id is assigned"):
        registration_request(web(client_id="mine"), SERVER)


METHODS = {
    "R-011 not stated": (None, "client_secret_basic"),
    "basic first": (["none", "client_secret_post", "client_secret_basic"], "client_secret_basic"),
    "post second": (["private_key_jwt", "none", "client_secret_post"], "client_secret_post"),
    "public last": (["private_key_jwt", "none"], "none"),
    "99 text": ("client_secret_post", "client_secret_basic"),
    "99 numbers": ([1, "none"], "client_secret_basic"),
    "R-010 empty": ([], "client_secret_basic"),
    "99 50000 entries": (["x"] * 50_000 + ["none"], "none"),
    "99 substring": (["client_secret_basic_plus", "none"], "none"),
}


@pytest.mark.parametrize(("offered", "method"), METHODS.values(), ids=METHODS.keys())
def test_the_authentication_method_is_one_the_server_offers(offered, method):
    """R-011, R-136, R-142: exactly one method is requested."""
    request = registration_request(web(), server(token_endpoint_auth_methods_supported=offered))
    assert request["token_endpoint_auth_method"] == method


def test_a_server_that_offers_none_of_our_methods_is_unsupported():
    """R-141 has to be done by the site, and the message says how."""
    metadata = server(token_endpoint_auth_methods_supported=["private_key_jwt", "x\x1b[31m"])
    with pytest.raises(UnsupportedError, match=r"only private_key_jwt, .*jwks_uri"):
        registration_request(web(), metadata)


UNOFFERED = {
    "method": (
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_methods_supported": ["client_secret_basic"]},
        "client_secret_post in token_endpoint_auth_method. Choose .* offers: client_secret_basic",
    ),
    "grant": (
        {"grant_types": ["authorization_code", "refresh_token"]},
        {"grant_types_supported": ["authorization_code"]},
        "refresh_token in grant_types",
    ),
    "response type": (
        {"response_types": ["code"]},
        {"response_types_supported": ["id_token", "code token"]},
        "code in response_types",
    ),
    "substring of a grant": (
        {"grant_types": ["authorization_code"]},
        {"grant_types_supported": ["authorization_code_v2"]},
        "authorization_code in grant_types",
    ),
    "R-013 algorithm": (
        {
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "RS256",
        },
        {"token_endpoint_auth_signing_alg_values_supported": ["ES256"]},
        "RS256 in token_endpoint_auth_signing_alg",
    ),
}


@pytest.mark.parametrize(("asked", "offered", "reason"), UNOFFERED.values(), ids=UNOFFERED.keys())
def test_what_the_server_says_it_does_not_offer_is_not_requested(asked, offered, reason):
    """R-067, fault 99."""
    with pytest.raises(UnsupportedError, match=reason):
        registration_request(web(**asked), server(**offered))


@pytest.mark.parametrize(
    "offered",
    [
        {},
        {"grant_types_supported": "implicit", "response_types_supported": 7},
        {"grant_types_supported": [None], "response_types_supported": []},
        {
            "token_endpoint_auth_methods_supported": ["a", "private_key_jwt"],
            "grant_types_supported": ["implicit", "authorization_code"],
            "response_types_supported": ["id_token code"],
        },
    ],
    ids=["silent", "99 no lists", "99 lists of nothing", "offered in another order"],
)
def test_what_the_server_does_not_mention_is_requested(offered):
    """R-067: and the order of the words of a response type does not matter."""
    metadata = web(
        token_endpoint_auth_method="private_key_jwt",
        grant_types=["authorization_code", "implicit"],
        response_types=["code id_token"],
    )
    assert registration_request(metadata, server(**offered)) == metadata


@pytest.mark.parametrize(
    ("uris", "kind"),
    [
        (["http://127.0.0.1/cb", "http://localhost:8000/cb"], "native"),
        (["com.example.app:/cb", "http://[::1]/cb"], "native"),
        (["https://app.example/cb", "http://localhost/cb"], None),
        (["https://app.example/cb"], None),
    ],
    ids=["loopback", "private use", "mixed", "https"],
)
def test_the_application_type_is_native_where_all_redirects_are(uris, kind):
    """R-120, R-121, R-150: web is the default and need not be stated."""
    assert registration_request({"redirect_uris": uris}, SERVER).get("application_type") == kind


def test_a_stated_application_type_is_kept():
    metadata = {"redirect_uris": ["http://localhost/cb"], "application_type": "web"}
    assert registration_request(metadata, SERVER)["application_type"] == "web"


ALGORITHMS = {
    "private key": ("private_key_jwt", None, ["none", "ES256", "RS256"], "RS256"),
    "private key, elliptic": ("private_key_jwt", None, ["none", "ES256"], "ES256"),
    "shared secret": ("client_secret_jwt", None, ["RS256", "HS256"], "HS256"),
    "stated": ("private_key_jwt", "PS256", ["RS256", "PS256"], "PS256"),
    "stated, list missing": ("private_key_jwt", "ES256", None, "ES256"),
    "list missing": ("private_key_jwt", None, None, None),
    "none of ours": ("private_key_jwt", None, ["none"], None),
    "other method": ("client_secret_basic", None, ["RS256"], None),
}


@pytest.mark.parametrize(
    ("method", "stated", "offered", "chosen"), ALGORITHMS.values(), ids=ALGORITHMS.keys()
)
def test_the_signing_algorithm_is_one_the_server_offers_and_never_none(
    method, stated, offered, chosen
):
    """R-013."""
    metadata = web(token_endpoint_auth_method=method, token_endpoint_auth_signing_alg=stated)
    name = "token_endpoint_auth_signing_alg_values_supported"
    request = registration_request(metadata, server(**{name: offered}))
    assert request.get("token_endpoint_auth_signing_alg") == chosen


LOGOUT = {
    "post_logout_redirect_uris": ["https://app.example/bye"],
    "backchannel_logout_uri": "https://app.example/back",
    "backchannel_logout_session_required": True,
    "frontchannel_logout_uri": "https://app.example/front",
    "frontchannel_logout_session_required": True,
}


@pytest.mark.parametrize(
    ("announced", "sent"),
    [
        ({}, set()),
        ({"end_session_endpoint": "https://as.example/end"}, {"post_logout_redirect_uris"}),
        (
            {"backchannel_logout_supported": True, "frontchannel_logout_supported": False},
            {"backchannel_logout_uri", "backchannel_logout_session_required"},
        ),
        (
            {"frontchannel_logout_supported": True},
            {"frontchannel_logout_uri", "frontchannel_logout_session_required"},
        ),
    ],
    ids=["nothing", "RP-initiated", "back-channel", "front-channel"],
)
def test_logout_members_are_sent_where_support_is_announced(announced, sent):
    """R-130."""
    request = registration_request(web(**LOGOUT), server(**announced))
    assert request.keys() & LOGOUT.keys() == sent


def test_an_update_sends_what_was_granted_overridden_by_what_is_requested():
    """R-097, R-101, B2, B5: what a PUT leaves out is deleted, unknown members included."""
    granted = {
        "redirect_uris": [REDIRECT],
        "scope": "a b",
        "client_name": "old",
        "client_name#JA": "old",
        "x_vendor": {"a": 1},
    }
    wanted = {"client_name": "new", "client_name#ja": "new", "contacts": ["a@app.example"]}
    assert update_request(granted, wanted, client_id="c1") == {
        "redirect_uris": [REDIRECT],
        "scope": "a b",
        "client_name": "new",
        "client_name#ja": "new",
        "x_vendor": {"a": 1},
        "contacts": ["a@app.example"],
        "client_id": "c1",
    }


def test_an_update_sends_parsed_metadata_rather_than_an_echo():
    """R-098, R-099, R-100, settled point (c): RFC types, no management members, our client_id."""
    granted = {
        "scope": ["a", "b"],
        "redirect_uris": REDIRECT,
        "logo_uri": "",
        "contacts": None,
        "client_id": "another",
        "client_secret": "s",
        "client_secret_expires_at": 0,
        "client_id_issued_at": 1,
        "registration_access_token": "t",
        "registration_client_uri": "https://as.example/c",
    }
    wanted = {"client_id": "third", "registration_access_token": "t"}
    assert update_request(granted, wanted, client_id="c1") == {
        "scope": "a b",
        "redirect_uris": [REDIRECT],
        "client_id": "c1",
    }


def test_an_update_contains_the_secret_only_where_it_is_given():
    """R-100: the current one, exactly."""
    body = update_request({}, {}, client_id="c1", client_secret=" s ")
    assert body == {"client_id": "c1", "client_secret": " s "}


def test_an_update_omits_what_is_removed_or_empty():
    """R-101: omission is deletion."""
    granted = {"scope": "a", "client_name#DE": "b", "tos_uri": "https://a.example", "x": 1}
    body = update_request(
        granted, {"tos_uri": None}, client_id="c", removed=["client_name#de", "x"]
    )
    assert body == {"scope": "a", "client_id": "c"}


EQUAL = {
    "same": ({"scope": "a b"}, {"scope": "a b"}),
    "scope order": ({"scope": "a b"}, {"scope": "b a"}),
    "list order": ({"redirect_uris": ["a", "b"]}, {"redirect_uris": ["b", "a"]}),
    "list and tuple": ({"redirect_uris": ("a",)}, {"redirect_uris": ["a"]}),
    "word order": ({"response_types": ["code id_token"]}, {"response_types": ["id_token code"]}),
    "tag case": ({"client_name#DE": "a"}, {"client_name#de": "a"}),
    "unasked defaults": (
        {},
        {
            "application_type": "web",
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic",
            "subject_type": "public",
            "id_token_signed_response_alg": "RS256",
            "require_auth_time": False,
        },
    ),
    "unasked nothing": ({}, {"a": None, "b": [], "c": ""}),
    "switch off": ({"require_auth_time": False}, {}),
    "credentials": ({}, {"client_id": "a", "client_secret_expires_at": 0}),
    "statement": ({"software_statement": "a.b.c"}, {}),
    "131 not asked": ({}, {"admin": True, "a": 1}),
    "default not granted": ({}, {"grant_types": ["implicit"]}),
}


@pytest.mark.parametrize(("asked", "granted"), EQUAL.values(), ids=EQUAL.keys())
def test_equivalent_values_are_not_drift(asked, granted):
    assert differences(asked, granted) == {}


DRIFT = {
    "121 scope wider": ({"scope": "a"}, {"scope": "a b"}, {"scope": ("a", "a b")}),
    "120 redirect added": (
        {"redirect_uris": ["https://a"]},
        {"redirect_uris": ["https://a", "javascript:x"]},
        {"redirect_uris": (["https://a"], ["https://a", "javascript:x"])},
    ),
    "122 method": (
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": "none"},
        {"token_endpoint_auth_method": ("client_secret_basic", "none")},
    ),
    "missing": ({"client_name": "a"}, {}, {"client_name": ("a", None)}),
    "objects": ({"jwks": {"keys": []}}, {"jwks": {}}, {"jwks": ({"keys": []}, {})}),
}


@pytest.mark.parametrize(("asked", "granted", "drift"), DRIFT.values(), ids=DRIFT.keys())
def test_different_granted_values_are_drift(asked, granted, drift):
    """R-074, R-102, and faults 120 to 123 and 131."""
    expected = {name: {"asked": a, "granted": g} for name, (a, g) in drift.items()}
    assert differences(asked, granted) == expected
    assert list(differences(asked, granted)) == list(expected)


def test_a_statement_that_disagrees_is_reported_before_sending():
    """R-062: at the server the statement wins."""
    claims = {"iss": "x", "client_name": "theirs", "scope": "b a", "redirect_uris": ["https://z"]}
    metadata = web(client_name="ours", scope="a b", software_statement=statement(claims))
    assert statement_conflicts(metadata) == ["client_name", "redirect_uris"]
    assert [sentence for sentence in warnings(metadata, SERVER) if "client_name" in sentence]


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "a", "a.b", "a.é.c", "a.\ud800.c", "a.W10.c", "..", "a." + "x" * 100_000],
    ids=[
        "none",
        "number",
        "empty",
        "one part",
        "short",
        "non-ASCII",
        "surrogate",
        "list",
        "dots",
        "long",
    ],
)
def test_a_statement_that_cannot_be_read_conflicts_with_nothing(value):
    """R-061, R-062: the server may be able to read it."""
    assert statement_conflicts({"software_statement": value, "client_name": "a"}) == []


def test_plain_metadata_gives_no_warning():
    assert warnings(web(client_name="Acme"), SERVER) == []


WARNINGS = {
    "R-140 implicit": (
        web(grant_types=["implicit"], response_types=["token"]),
        "implicit grant is discouraged",
    ),
    "R-013 list missing": (
        web(token_endpoint_auth_method="private_key_jwt"),
        "does not state token_endpoint_auth_signing_alg_values_supported",
    ),
    "R-060 untagged missing": ({**web(), "client_name#de": "a"}, "client_name is sent in some"),
}


@pytest.mark.parametrize(("metadata", "sentence"), WARNINGS.values(), ids=WARNINGS.keys())
def test_what_should_be_changed_gives_a_warning(metadata, sentence):
    [warning] = warnings(metadata, SERVER)
    assert sentence in warning


def test_a_stated_list_of_algorithms_gives_no_warning():
    """R-013."""
    metadata = server(token_endpoint_auth_signing_alg_values_supported=["RS256"])
    assert warnings(web(token_endpoint_auth_method="private_key_jwt"), metadata) == []


@pytest.mark.parametrize(
    ("offered", "granted"),
    [
        (None, "client_secret_basic"),
        (["none"], "none"),
        (["client_secret_post"], "client_secret_post"),
        (None, "none"),
        (["tls_client_auth"], "client_secret_basic"),
    ],
    ids=["default", "public", "post", "122 not chosen", "nothing to choose"],
)
def test_a_chosen_default_is_not_drift(offered, granted):
    asked = {"redirect_uris": ["http://127.0.0.1/callback"], "application_type": "native"}
    held = {**asked, "token_endpoint_auth_method": granted}
    server = {"token_endpoint_auth_methods_supported": offered}
    assert differences(asked, held, server_metadata=server) == {}


def test_a_derived_application_type_is_not_drift():
    asked = {"redirect_uris": ["http://127.0.0.1/callback"]}
    held = {**asked, "application_type": "native"}
    assert differences(asked, held, server_metadata={}) == {}

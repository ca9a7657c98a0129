"""Client information responses: strict about credentials, tolerant in all else."""

from __future__ import annotations

import pytest

from django_dcr.protocol import (
    METADATA_MEMBERS,
    ClientInformation,
    client_information,
)
from django_dcr.protocol.responses import (
    MAX_ACCESS_TOKEN_LENGTH,
    MAX_CLIENT_ID_LENGTH,
    MAX_CLIENT_SECRET_LENGTH,
    MAX_DEVIATIONS,
)

REDIRECT = "https://app.example/callback"
REQUESTED = {
    "redirect_uris": [REDIRECT],
    "token_endpoint_auth_method": "client_secret_basic",
    "scope": "a b",
}
GOOD = {
    "client_id": "c1",
    "client_secret": "s3cr3t",
    "client_secret_expires_at": 0,
    "client_id_issued_at": 1_700_000_000,
    "registration_client_uri": "https://as.example/register/c1?x=1",
    "registration_access_token": "t0k3n",
    "redirect_uris": [REDIRECT],
}


def answer(**members: object) -> ClientInformation:
    return client_information({**GOOD, **members})


def deviates(information: ClientInformation, part: str) -> bool:
    return any(part in sentence for sentence in information.deviations)


def test_a_complete_response_has_no_deviations():
    """R-070, R-071, R-074, R-125, R-126, B16: exact member names; omitted members as requested."""
    assert client_information(GOOD, requested=REQUESTED) == ClientInformation(
        client_id="c1",
        client_secret="s3cr3t",
        client_secret_expires_at=0,
        client_id_issued_at=1_700_000_000,
        registration_client_uri="https://as.example/register/c1?x=1",
        registration_access_token="t0k3n",
        metadata=REQUESTED,
        deviations=(),
        faults=(),
    )


def test_a_later_response_without_credentials_is_usable():
    """R-095, B1, fault 115: absence is not a revocation, and nothing is filled in."""
    information = client_information({"client_id": "c1", "scope": "a"})
    assert (information.faults, information.deviations) == ((), ())
    assert information.client_secret is None
    assert information.registration_access_token is None
    assert information.registration_client_uri is None
    assert information.client_secret_expires_at is None
    assert information.client_id_issued_at is None
    assert information.metadata == {"scope": "a"}


def test_neither_secret_nor_token_is_in_the_repr():
    """R-137."""
    assert "s3cr3t" not in repr(answer())
    assert "t0k3n" not in repr(answer())


CLIENT_IDS = {
    "101-number": 7,
    "101-float": 1.5,
    "101-bool": True,
    "101-null": None,
    "101-list": ["c1"],
    "101-object": {"id": "c1"},
    "101-empty": "",
    "101-space": " \u00a0",
    "102-long": "a" * (MAX_CLIENT_ID_LENGTH + 1),
    "102-crlf": "a\r\nb",
    "102-nul": "a\x00",
    "102-delete": "a\x7f",
    "102-surrogate": "a\ud800",
}


@pytest.mark.parametrize("value", CLIENT_IDS.values(), ids=CLIENT_IDS.keys())
def test_an_unusable_client_id_is_a_fault_and_other_credentials_are_kept(value):
    """R-070, faults 101 and 102; a new token in the same response can still be stored."""
    information = answer(client_id=value)
    assert information.client_id is None
    assert len(information.faults) == 1
    assert information.faults[0].startswith("client_id is")
    assert information.registration_access_token == "t0k3n"
    assert information.client_secret == "s3cr3t"


def test_a_missing_client_id_is_a_fault():
    assert client_information({}).faults == ("client_id is missing",)


@pytest.mark.parametrize(
    "value",
    ["a" * 4096, "é日\U0001f600", "../../admin", "https://rp.example/?a#b", " a b ", "a" * 16_384],
    ids=["B8 4 kB", "103 non-ASCII", "103 path", "103 URL", "spaces", "longest"],
)
def test_a_client_id_is_kept_exactly(value):
    """R-070, B8, fault 103: any length, any characters, never a path."""
    information = answer(client_id=value)
    assert (information.client_id, information.faults) == (value, ())


SECRETS = {
    "106-number": 7,
    "106-list": ["s"],
    "106-object": {},
    "106-bool": False,
    "106-crlf": "a\r\nb",
    "106-nul": "a\x00",
    "106-surrogate": "\udc00",
    "109-too-long": "a" * (MAX_CLIENT_SECRET_LENGTH + 1),
}


@pytest.mark.parametrize("value", SECRETS.values(), ids=SECRETS.keys())
def test_an_unusable_secret_is_a_fault_and_other_credentials_are_kept(value):
    """Fault 106: refused, never repaired."""
    information = answer(client_secret=value)
    assert information.client_secret is None
    assert information.faults == ("client_secret is not usable text",)
    assert (information.client_id, information.registration_access_token) == ("c1", "t0k3n")


@pytest.mark.parametrize(
    "value",
    ["a" * 100_000, "\U0001f600é", "  a b  ", "a*b", "****x", "%20+", "a" * 262_144],
    ids=["109 long", "109 emoji", "109 spaces", "star", "nearly masked", "encoded", "longest"],
)
def test_a_secret_is_kept_exactly(value):
    """R-081, fault 109: no strip, no re-encoding, no cut."""
    assert answer(client_secret=value).client_secret == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwks_uri", "https://app.example\x00.evil.example/jwks"),
        ("logo_uri#ja", "https://app.example/\ud800"),
        ("redirect_uris", [REDIRECT, f"{REDIRECT}\x00"]),
        ("unknown_endpoint", "https://app.example/\x00"),
    ],
)
def test_a_url_that_cannot_be_stored_unchanged_is_dropped(name, value):
    information = answer(**{"redirect_uris": ..., name: value})
    assert name not in information.metadata
    assert deviates(information, f"The member {name} is not a URL and was dropped")


def test_other_strings_lose_characters_that_databases_refuse():
    assert answer(client_name="a\x00b").metadata["client_name"] == "ab"


@pytest.mark.parametrize("value", [None, ""], ids=["107-null", "106-empty"])
def test_a_secret_that_is_null_or_empty_is_absent(value):
    """R-080, R-095, faults 106 and 107: an absent secret never replaces ours."""
    information = answer(client_secret=value)
    assert (information.client_secret, information.faults, information.deviations) == (None, (), ())


@pytest.mark.parametrize("value", ["**********", "•••", "*"])
def test_a_masked_secret_is_absent_and_recorded(value):
    """Fault 108: keep ours."""
    information = answer(client_secret=value)
    assert (information.client_secret, information.faults) == (None, ())
    assert deviates(information, "client_secret is masked")


TOKENS = {
    "114-number": 7,
    "114-list": ["t"],
    "114-crlf": "a\r\nX: y",
    "114-final-newline": "a\n",
    "114-nul": "a\x00",
    "114-space": "a b",
    "114-latin-1": "é",
    "114-non-latin-1": "日",
    "114-surrogate": "\ud800",
    "114-60000": "a" * 60_000,
    "longest-and-one": "a" * (MAX_ACCESS_TOKEN_LENGTH + 1),
}


@pytest.mark.parametrize("value", TOKENS.values(), ids=TOKENS.keys())
def test_an_unusable_token_is_a_fault_and_other_credentials_are_kept(value):
    """Fault 114: never in a header."""
    information = answer(registration_access_token=value)
    assert information.registration_access_token is None
    assert information.faults == ("registration_access_token is not usable in a header",)
    assert (information.client_id, information.client_secret) == ("c1", "s3cr3t")


@pytest.mark.parametrize("value", ["!~", "eyJ.a-b_c=.d", "a" * 16_384], ids=["ends", "jwt", "long"])
def test_a_token_is_kept_exactly(value):
    """R-090, B19: opaque, and sent unchanged."""
    assert answer(registration_access_token=value).registration_access_token == value


def test_a_token_that_is_null_is_absent():
    """R-095."""
    information = answer(registration_access_token=None)
    assert (information.registration_access_token, information.faults) == (None, ())


URIS = {
    "116-relative": "/register/c1",
    "116-number": 7,
    "116-list": ["https://as.example/c1"],
    "116-space": " ",
    "116-long": "https://as.example/" + "a" * 100_000,
    "116-crlf": "https://as.example/\r\nX: y",
    "116-fragment": "https://as.example/c1#a",
    "116-userinfo": "https://user@as.example/c1",
    "116-javascript": "javascript:alert(1)",
    "116-file": "file:///etc/passwd",
    "117-double-slash": "//evil.example/c1",
}


@pytest.mark.parametrize("value", URIS.values(), ids=URIS.keys())
def test_an_unusable_configuration_uri_is_dropped_and_recorded(value):
    """R-092, fault 116: the client cannot be managed, but it can be used."""
    information = answer(registration_client_uri=value)
    assert (information.registration_client_uri, information.faults) == (None, ())
    assert deviates(information, "registration_client_uri was dropped")


@pytest.mark.parametrize("value", [None, ""], ids=["116-null", "116-empty"])
def test_a_configuration_uri_that_is_null_or_empty_is_absent(value):
    """R-095: Hydra sends "" for omitted members."""
    information = answer(registration_client_uri=value)
    assert (information.registration_client_uri, information.deviations) == (None, ())


TIMESTAMPS = {
    "never B11 B14": (0, 0, None),
    "111-past": (1, 1, None),
    "seconds B12": (1_800_000_000, 1_800_000_000, None),
    "largest": (10**11, 10**11, None),
    "111-digits": ("1800000000", 1_800_000_000, "came as str"),
    "111-text-zero": ("0", 0, "came as str"),
    "111-integral-float": (1.8e9, 1_800_000_000, "came as float"),
    "111-negative": (-1, None, "was dropped"),
    "111-milliseconds": (1_800_000_000_000, None, "was dropped"),
    "111-milliseconds-text": ("180000000000", None, "was dropped"),
    "111-13-digits-of-text": ("0000000000001", None, "was dropped"),
    "111-float": (1.5, None, "was dropped"),
    "111-never": ("never", None, "was dropped"),
    "111-iso": ("2030-01-01T00:00:00Z", None, "was dropped"),
    "111-negative-text": ("-1", None, "was dropped"),
    "111-empty": ("", None, "was dropped"),
    "111-true": (True, None, "was dropped"),
    "111-false": (False, None, "was dropped"),
    "111-20-digits": (10**20, None, "was dropped"),
    "111-1e308": (1e308, None, "was dropped"),
    "111-list": ([0], None, "was dropped"),
    "111-object": ({}, None, "was dropped"),
    "111-arabic-digits": ("٣", None, "was dropped"),
}


@pytest.mark.parametrize("name", ["client_secret_expires_at", "client_id_issued_at"])
@pytest.mark.parametrize(
    ("value", "seconds", "deviation"), TIMESTAMPS.values(), ids=TIMESTAMPS.keys()
)
def test_a_timestamp_is_seconds_or_unknown(name, value, seconds, deviation):
    """R-071, R-080, fault 111: 0 is never, True is not 1, milliseconds are not seconds."""
    information = answer(**{name: value})
    assert getattr(information, name) == seconds
    assert type(getattr(information, name)) is type(seconds)
    assert information.faults == ()
    assert deviates(information, f"{name} {deviation}") is (deviation is not None)
    assert bool(information.deviations) is (deviation is not None)


@pytest.mark.parametrize("document", [{"client_secret_expires_at": None}, {}], ids=["null", "none"])
def test_a_missing_expiry_is_unknown_and_recorded(document):
    """R-071, settled point (e), faults 111 and 112: unknown is not never."""
    information = client_information({"client_id": "c1", "client_secret": "s", **document})
    assert (information.client_secret_expires_at, information.faults) == (None, ())
    assert deviates(information, "client_secret_expires_at is missing")


def test_a_missing_expiry_without_a_secret_is_not_recorded():
    assert client_information({"client_id": "c1"}).deviations == ()


@pytest.mark.parametrize("value", ["invalid_client_metadata", {"code": 1}, 7, True])
def test_a_successful_response_with_an_error_is_a_fault(value):
    """R-073."""
    assert answer(error=value).faults == ("the answer is an error",)


@pytest.mark.parametrize("value", [None, "", 0], ids=repr)
def test_an_empty_error_member_is_not_a_fault(value):
    """R-072: decided on the body."""
    assert answer(error=value).faults == ()


MEMBERS = {
    "121-scope-list": ({"scope": ["a", "b"]}, {"scope": "a b"}, "scope came as a list"),
    "R-080-scopes": ({"scopes": ["a"]}, {"scopes": ["a"]}, "scopes came beside"),
    "scope-number": ({"scope": 7}, {}, "scope came as int and was dropped"),
    "119-text": ({"redirect_uris": "https://a"}, {"redirect_uris": ["https://a"]}, "single string"),
    "119-null": ({"redirect_uris": None}, {}, None),
    "119-objects": (
        {"redirect_uris": [{"uri": "x"}, "https://a", 7]},
        {"redirect_uris": ["https://a"]},
        "redirect_uris had entries that are not strings",
    ),
    "119-only-objects": ({"redirect_uris": [{}]}, {}, "not strings"),
    "119-number": ({"redirect_uris": 7}, {}, "redirect_uris came as int and was dropped"),
    "122-grant-text": ({"grant_types": "implicit"}, {"grant_types": ["implicit"]}, "single string"),
    "response-text": ({"response_types": "code"}, {"response_types": ["code"]}, "single string"),
    "contacts-text": ({"contacts": "a@b"}, {"contacts": ["a@b"]}, "single string"),
    "R-080-integer-text": ({"default_max_age": "60"}, {"default_max_age": 60}, "came as text"),
    "integer-words": ({"default_max_age": "long"}, {}, "came as str and was dropped"),
    "integer-true": ({"default_max_age": True}, {}, "came as bool and was dropped"),
    "bool-text": ({"require_auth_time": "true"}, {}, "came as str and was dropped"),
    "B17-jwks-object": (
        {"jwks": {"keys": [{"kty": "RSA", "n": "a"}]}},
        {"jwks": {"keys": [{"kty": "RSA", "n": "a"}]}},
        None,
    ),
    "R-080-jwks-empty": ({"jwks": ""}, {}, None),
    "jwks-text": ({"jwks": "{}"}, {}, "jwks came as str and was dropped"),
    "Hydra nulls": (
        {"contacts": None, "client_uri": "", "grant_types": [], "jwks": {}},
        {},
        None,
    ),
    "method unknown": (
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"token_endpoint_auth_method": "tls_client_auth"},
        None,
    ),
    "tagged": ({"client_name#ja": "a"}, {"client_name#ja": "a"}, None),
    "tagged number": ({"client_name#ja": 7}, {}, "client_name#ja came as int"),
    "131 134 unknown": (
        {"issuer": "x", "id": 1, "owner": "y", "status": "z", "key": "k", "": 0, "pk": [None]},
        {"issuer": "x", "id": 1, "owner": "y", "status": "z", "key": "k", "": 0, "pk": [None]},
        None,
    ),
    "135 client_name": (
        {"client_name": "<script>%s{0}\x1b\u202e\x00\ud800"},
        {"client_name": "<script>%s{0}\x1b\u202e"},
        None,
    ),
    "URLs and switches that only sound secret": (
        {"credential_offer_endpoint": "https://a", "tls_bound_access_tokens": True},
        {"credential_offer_endpoint": "https://a", "tls_bound_access_tokens": True},
        None,
    ),
    "68 names": ({"a\x00": 1, "b\ud800": 2, "c": 2**70}, {"c": str(2**70)}, None),
}


@pytest.mark.parametrize(("members", "metadata", "deviation"), MEMBERS.values(), ids=MEMBERS.keys())
def test_members_are_converted_to_their_rfc_types(members, metadata, deviation):
    """R-080, B17, faults 119 to 122, 131, 134 and 135: parsed, kept, noted."""
    information = client_information({"client_id": "c1", **members})
    assert information.faults == ()
    assert information.metadata == metadata
    if deviation is None:
        assert information.deviations == ()
    else:
        assert deviates(information, deviation)


SECRET_MEMBERS = {
    "tokens": ["access_token", "refresh_token", "accessToken", "initial_access_token", "token"],
    "keys": ["private_key", "privateKeyPem", "api_key", "apikey", "API-Key"],
    "secrets": ["client_secret_hash", "clientSecret", "previous_secret", "webhook_secrets"],
    "passwords": ["password", "Passwd", "passphrase", "db_password", "credentials"],
}


@pytest.mark.parametrize("names", SECRET_MEMBERS.values(), ids=SECRET_MEMBERS.keys())
def test_secrets_under_any_name_stay_out_of_the_metadata(names):
    """Fault 132: at any depth."""
    secret = dict.fromkeys(names, "s3cr3t")
    document = {"client_id": "c1", **secret, "scope": "a", "x": [{"y": {"z": 1, **secret}}]}
    information = client_information(document, requested=secret)
    assert information.metadata == {"scope": "a", "x": [{"y": {"z": 1}}]}


def test_what_the_server_assigns_stays_out_of_the_metadata():
    """Fault 132, R-061: the row has columns for them, and the statement is what the site sent."""
    information = answer(software_statement="a.b.c")
    assert information.metadata == {"redirect_uris": [REDIRECT]}


def test_private_key_members_stay_out_of_the_metadata():
    """Fault 132: only the public members of a key."""
    private = dict.fromkeys(["d", "p", "q", "dp", "dq", "qi", "oth", "k"], "x")
    key = {"kty": "RSA", "kid": "1", "n": "a", "e": "AQAB"}
    information = answer(jwks={"keys": [{**key, **private}]}, spare_key={"kty": "oct", "k": "x"})
    assert information.metadata["jwks"] == {"keys": [key]}
    assert information.metadata["spare_key"] == {"kty": "oct"}


@pytest.mark.parametrize("name", sorted(METADATA_MEMBERS.keys() - {"software_statement"}))
def test_no_standard_member_counts_as_a_secret(name):
    values = {str: "a", list: ["a"], dict: {"a": 1}, bool: True, int: 1}
    value = values[METADATA_MEMBERS[name]]
    assert client_information({"client_id": "c1", name: value}).metadata == {name: value}


def test_the_response_overrides_what_was_requested():
    """R-074: replaced values count, missing ones fall back, language tags ignore case."""
    requested = {"client_name": "a", "client_name#JA": "b", "scope": "a b", "contacts": ["x"]}
    document = {"client_id": "c1", "client_name#ja": "c", "scope": "a", "contacts": None, "n": 1}
    information = client_information(document, requested=requested)
    assert information.metadata == {
        "client_name": "a",
        "client_name#ja": "c",
        "scope": "a",
        "contacts": ["x"],
        "n": 1,
    }


REGISTERED = {
    "R-075 secret missing": ({"client_secret": None}, {}, "client_secret_basic needs"),
    "R-075 secret masked": ({"client_secret": "***"}, {}, "client_secret_basic needs"),
    "R-075 default method": (
        {"client_secret": None},
        {"token_endpoint_auth_method": None},
        "client_secret_basic needs",
    ),
    "R-075 the answer's method": (
        {"client_secret": None, "token_endpoint_auth_method": "client_secret_jwt"},
        {"token_endpoint_auth_method": "none"},
        "client_secret_jwt needs",
    ),
}


@pytest.mark.parametrize(
    ("members", "requested", "fault"), REGISTERED.values(), ids=REGISTERED.keys()
)
def test_a_registration_without_the_secret_it_needs_is_a_fault(members, requested, fault):
    """R-075, fault 107."""
    document = {**GOOD, **members}
    information = client_information(document, requested={**REQUESTED, **requested})
    assert any(fault in sentence for sentence in information.faults)


@pytest.mark.parametrize(
    ("answered", "requested"),
    [(None, "none"), ("none", "client_secret_basic"), (None, "private_key_jwt"), ("x", None)],
    ids=["public", "122 made public", "keys", "122 unknown method"],
)
def test_a_registration_with_a_method_without_a_secret_is_usable(answered, requested):
    """R-075, B24, fault 122: the method in the response counts, and unknown ones are stored."""
    information = client_information(
        {"client_id": "c1", "token_endpoint_auth_method": answered},
        requested={"token_endpoint_auth_method": requested},
    )
    assert information.faults == ()
    assert information.metadata == {"token_endpoint_auth_method": answered or requested}


def test_a_secret_for_a_public_client_is_kept_and_recorded():
    """R-081, fault 110: Atlassian wants it back."""
    document = {**GOOD, "token_endpoint_auth_method": "none"}
    information = client_information(document, requested=REQUESTED)
    assert (information.client_secret, information.faults) == ("s3cr3t", ())
    assert deviates(information, "although the client is public")


@pytest.mark.parametrize(
    ("missing", "manageable"),
    [
        ({"registration_client_uri"}, False),
        ({"registration_access_token"}, False),
        ({"registration_client_uri", "registration_access_token"}, True),
    ],
    ids=["token alone", "URI alone", "115 neither"],
)
def test_a_token_or_a_uri_alone_is_recorded(missing, manageable):
    """R-125, fault 115: neither is plain RFC 7591 and fine."""
    document = {name: value for name, value in GOOD.items() if name not in missing}
    information = client_information(document, requested=REQUESTED)
    assert information.faults == ()
    assert deviates(information, "cannot be managed") is not manageable


@pytest.mark.parametrize(
    ("members", "deviation"),
    [
        ({"redirect_uris": ["https://evil.example/"]}, "redirect_uris lacks"),
        ({"grant_types": ["client_credentials"]}, "grant_types lacks"),
        ({"software_statement": "a.b.x"}, "software_statement came back changed"),
    ],
    ids=["R-075 redirects", "R-075 122 grants", "R-076 statement"],
)
def test_a_response_that_grants_less_than_requested_is_recorded(members, deviation):
    """R-075, R-076: stored nevertheless, so that it can be deleted."""
    requested = {
        **REQUESTED,
        "grant_types": ["authorization_code"],
        "software_statement": "a.b.c",
    }
    information = client_information({**GOOD, **members}, requested=requested)
    assert information.faults == ()
    assert deviates(information, deviation)


@pytest.mark.parametrize("sent_back", ["a.b.c", None], ids=["unchanged", "left out"])
def test_a_statement_that_is_returned_unchanged_is_not_recorded(sent_back):
    """R-076."""
    document = {**GOOD, "software_statement": sent_back}
    information = client_information(document, requested={"software_statement": "a.b.c"})
    assert information.deviations == ()


def test_deviations_are_limited_and_cleaned():
    """Fault 135: names are text from the server, shown on one line and shortened."""
    document = {f"client_name#\x1b\n{number}{'x' * 500}": 7 for number in range(200)}
    information = answer(**document)
    assert len(information.deviations) == MAX_DEVIATIONS
    assert all(
        sentence.isprintable() and len(sentence) <= 200 for sentence in information.deviations
    )


SERVERS = {
    "Matrix Authentication Service": {"client_id": "01H", "client_id_issued_at": 1_700_000_000},
    "Ory Hydra": {
        "client_id": "a",
        "client_secret": "b",
        "client_secret_expires_at": 0,
        "contacts": None,
        "client_uri": "",
        "jwks": {},
        "grant_types": None,
        "metadata": {},
        "created_at": "2024-01-01T00:00:00Z",
    },
    "WSO2": {
        "client_id": "a",
        "client_secret": "b",
        "client_secret_expires_at": "0",
        "client_name": "Acme",
        "jwks_uri": None,
    },
    "Gluu": {"client_id": "a", "client_secret": "b", "scopes": ["openid"], "scope": None},
    "django-oauth-toolkit": {
        "client_id": "a",
        "client_secret": "b",
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "client_secret_basic",
        "registration_access_token": "t",
        "registration_client_uri": "https://as.example/o/register/a/",
    },
}


@pytest.mark.parametrize("document", SERVERS.values(), ids=SERVERS.keys())
def test_responses_like_those_of_named_servers_are_usable(document):
    """Each deviation is tolerated."""
    information = client_information(document)
    assert information.faults == ()
    assert information.client_id == document["client_id"]

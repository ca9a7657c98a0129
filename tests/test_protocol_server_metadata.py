"""Issuers, well-known URLs, and what of a server's metadata may be used."""

from __future__ import annotations

import json

import pytest

from django_dcr.exceptions import InvalidResponseError, NotAllowedError, UnsupportedError
from django_dcr.protocol import (
    check_issuer,
    check_server_metadata,
    check_trusted_origin,
    endpoint,
    well_known_urls,
)

ISSUER = "https://as.example/tenant"
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    "issuer",
    [
        "https://as.example",
        "https://as.example/",
        "https://as.example/a/b",
        "https://as.example:8443/a/",
        "https://keycloak:8443",
        "https://AS.example",
        "https://as.example/@tenant",
        "https://[2001:db8::1]/a",
    ],
)
def test_an_https_issuer_is_accepted_unchanged(issuer):
    check_issuer(issuer)


BAD_ISSUERS = {
    "R-007-http": ("http://as.example", "is not https"),
    "75-query": ("https://as.example/?tenant=1", "has a query"),
    "75-empty-query": ("https://as.example?", "has a query"),
    "75-fragment": ("https://as.example/#a", "has a fragment"),
    "75-userinfo": ("https://user:hunter2@as.example", "has a user name"),
    "template": ("https://login.example/{tenantid}/v2.0", "is a template"),
    "78-newline": ("https://as.example\n", "plain characters: character 19 is a space"),
    "78-space": ("https://as.example ", "plain characters: character 19 is a space"),
    "78-nul": ("https://as.example\x00", "plain characters: character 19 is invisible"),
    "76-dot-segment": ("https://as.example/./a", "dot segment"),
    "74-cyrillic": (
        "https://\u0430s.example",
        "plain characters.* write https://xn--s-7sb.example",
    ),
    "no-scheme": ("as.example", "plain characters"),
    "other-scheme": ("ftp://as.example", "plain characters"),
    "empty": ("", "is not a URL"),
    "number": (7, "is not a URL"),
    "long": ("https://as.example/" + "a" * 10_000, "longer than"),
}


@pytest.mark.parametrize(("issuer", "reason"), BAD_ISSUERS.values(), ids=BAD_ISSUERS.keys())
def test_what_is_not_an_issuer_is_refused_with_an_example(issuer, reason):
    """R-007, R-023: https, without query, fragment and userinfo; refused at entry."""
    with pytest.raises(NotAllowedError, match=reason) as caught:
        check_issuer(issuer)
    assert "https://login.example/realm" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_http_issuer_is_accepted_only_where_that_is_allowed():
    """R-007: the development exception."""
    check_issuer("http://localhost:8000", allow_http=True)
    with pytest.raises(NotAllowedError, match="has a query"):
        check_issuer("http://localhost:8000/?", allow_http=True)


WELL_KNOWN = {
    "R-002 B20 inserted between host and path, then OpenID": (
        "https://h.example/a/b",
        [f"{OAUTH}/a/b", f"{OPENID}/a/b", f"/a/b{OPENID}"],
    ),
    "R-003 R-020 the final slash of a path is removed": (
        "https://h.example/a/",
        [f"{OAUTH}/a", f"{OPENID}/a", f"/a{OPENID}"],
    ),
    "R-003 only one slash is removed": (
        "https://h.example/a//",
        [f"{OAUTH}/a/", f"{OPENID}/a/", f"/a/{OPENID}"],
    ),
    "R-003 root": ("https://h.example", [OAUTH, OPENID]),
    "R-003 root with slash": ("https://h.example/", [OAUTH, OPENID]),
}


@pytest.mark.parametrize(("issuer", "paths"), WELL_KNOWN.values(), ids=WELL_KNOWN.keys())
def test_well_known_urls_are_in_the_order_of_the_specifications(issuer, paths):
    """R-002, R-003, R-017, R-020."""
    assert well_known_urls(issuer) == ["https://h.example" + path for path in paths]


def test_well_known_urls_keep_the_port():
    assert well_known_urls("https://h.example:8443/a")[0] == f"https://h.example:8443{OAUTH}/a"


OTHER_ISSUERS = {
    "71-missing": None,
    "71-number": 7,
    "71-list": [ISSUER],
    "71-object": {"issuer": ISSUER},
    "71-empty": "",
    "72-slash-more": ISSUER + "/",
    "73-scheme-capitals": "HTTPS://as.example/tenant",
    "73-path-capitals": "https://as.example/Tenant",
    "73-port-0443": "https://as.example:0443/tenant",
    "73-default-port": "https://as.example:443/tenant",
    "73-other-port": "https://as.example:8443/tenant",
    "73-dot-after-host": "https://as.example./tenant",
    "74-cyrillic": "https://\u0430s.example/tenant",
    "74-punycode": "https://xn--s-7sb.example/tenant",
    "74-full-width": "https://as.example/ten\uff41nt",
    "74-zero-width": "https://as.example/tenant\u200b",
    "75-query": ISSUER + "?a=b",
    "75-empty-query": ISSUER + "?",
    "75-fragment": ISSUER + "#",
    "75-userinfo": "https://user@as.example/tenant",
    "76-dot": "https://as.example/./tenant",
    "76-two-slashes": "https://as.example//tenant",
    "76-percent": "https://as.example/ten%61nt",
    "77-longer": ISSUER + "/evil",
    "77-prefix": ISSUER + "evil",
    "77-one-level-up": "https://as.example",
    "77-other-tenant": "https://as.example/other",
    "78-space": ISSUER + " ",
    "78-newline": ISSUER + "\n",
    "78-nul": ISSUER + "\x00",
    "78-surrogate": ISSUER + "\ud800",
    "79-honest-other": "https://honest.example",
    "79-ansi-and-long": "https://evil.example/\x1b[31m\u202e" + "a" * 10_000,
}


@pytest.mark.parametrize("stated", OTHER_ISSUERS.values(), ids=OTHER_ISSUERS.keys())
def test_metadata_of_another_issuer_is_never_used(stated):
    """R-005, R-006, R-022: compared code point by code point."""
    with pytest.raises(InvalidResponseError, match="issuer") as caught:
        check_server_metadata({"issuer": stated}, issuer=ISSUER)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 500


def test_metadata_without_an_issuer_member_is_refused():
    """Fault 71: the member itself is missing."""
    with pytest.raises(InvalidResponseError, match="names no issuer"):
        check_server_metadata({}, issuer=ISSUER)


@pytest.mark.parametrize(
    ("stated", "configured"),
    [("https://as.example/", "https://as.example"), ("https://as.example", "https://as.example/")],
)
def test_an_issuer_that_differs_in_a_slash_gets_advice(stated, configured):
    """Fault 72: identical means identical, and the message says what to enter."""
    with pytest.raises(InvalidResponseError, match=f'exactly the issuer "{stated}"\\.$'):
        check_server_metadata({"issuer": stated}, issuer=configured)


def test_unknown_members_are_kept():
    """R-009, R-015, R-016, R-025: nothing in the document is lost."""
    document = {
        "issuer": ISSUER,
        "op_policy_uri": "https://as.example/policy",
        "signed_metadata": "a.b.c",
        "x": {"y": [1, None]},
    }
    assert check_server_metadata(document, issuer=ISSUER) == document


@pytest.mark.parametrize("value", [[], None], ids=["R-010-empty", "99-null"])
def test_empty_lists_are_absent(value):
    """R-010: a server that offers nothing omits the member."""
    document = {"issuer": ISSUER, "scopes_supported": value, "claims_parameter_supported": False}
    checked = check_server_metadata(document, issuer=ISSUER)
    assert checked == {"issuer": ISSUER, "claims_parameter_supported": False}


def test_stored_metadata_contains_nothing_that_a_database_refuses():
    """Fault 68, and faults 96 and 97: dangerous URLs stay text that nobody calls."""
    document = {
        "issuer": ISSUER,
        "op_tos_uri": "javascript:alert(1)",
        "a\x00": 1,
        "b": "x\x00\ud800",
        "authorization_endpoint": "a:$(calc.exe)",
    }
    assert check_server_metadata(document, issuer=ISSUER) == {
        "issuer": ISSUER,
        "op_tos_uri": "javascript:alert(1)",
        "b": "x",
        "authorization_endpoint": "a:$(calc.exe)",
    }


def registration_endpoint(url: object, **options: object) -> str:
    metadata = {"registration_endpoint": url}
    arguments = {"issuer": ISSUER, **options}
    return endpoint(metadata, "registration_endpoint", **arguments)


@pytest.mark.parametrize(
    "url",
    [
        "https://as.example/register",
        "https://as.example:443/register/",
        "https://AS.example/register",
        "https://as.example/register?tenant=a%20b&x[]=1",
        "https://as.example",
    ],
    ids=["plain", "default port", "capitals", "86-query", "root"],
)
def test_an_endpoint_on_the_issuers_origin_is_returned_verbatim(url):
    """R-092, B10, fault 86: used unchanged, including its query."""
    assert registration_endpoint(url) == url


@pytest.mark.parametrize("metadata", [{}, {"registration_endpoint": None}], ids=["70", "83-null"])
def test_a_server_without_registration_endpoint_is_unsupported(metadata):
    """Fault 70: /register is not guessed; the message says what to do instead."""
    with pytest.raises(UnsupportedError, match=r"offers no dynamic registration.*by hand"):
        endpoint(metadata, "registration_endpoint", issuer=ISSUER)


def test_another_missing_endpoint_is_named():
    with pytest.raises(UnsupportedError, match="has no token_endpoint"):
        endpoint({}, "token_endpoint", issuer=ISSUER)


MALFORMED = {
    "83-number": 7,
    "83-list": ["https://as.example/register"],
    "83-object": {},
    "83-relative": "/register",
    "83-no-scheme": "as.example/register",
    "83-double-slash": "//as.example/register",
    "85-userinfo": "https://user@as.example/register",
    "85-good-at-evil": "https://as.example@evil.example/register",
    "85-backslash": "https://as.example\\@evil.example/register",
    "85-fragment": "https://as.example/register#a",
    "87-file": "file:///etc/passwd",
    "87-ftp": "ftp://as.example/register",
    "87-gopher": "gopher://as.example/register",
    "87-javascript": "javascript:alert(1)",
    "87-data": "data:text/plain,a",
    "87-unix": "unix:/run/docker.sock",
    "87-ws": "ws://as.example/register",
    "87-jar": "jar:https://as.example/a!/b",
    "88-crlf": "https://as.example/\r\nHost: evil",
    "88-newline-in-host": "https://as.exa\nmple/register",
    "88-tab": "https://as.example/\tregister",
    "88-space-in-front": " https://as.example/register",
    "88-space-inside": "https://as.example/reg ister",
    "88-control-in-front": "\x01https://as.example/register",
    "88-nul": "https://as.example/\x00",
    "89-port-0": "https://as.example:0/register",
    "89-port-99999": "https://as.example:99999/register",
    "89-port-text": "https://as.example:https/register",
    "89-port-arabic": "https://as.example:٤٤٣/register",
    "89-no-host": "https:///register",
    "89-unclosed-bracket": "https://[::1/register",
    "89-name-in-brackets": "https://[as.example]/register",
    "89-zone": "https://[fe80::1%25eth0]/register",
    "90-long": "https://as.example/" + "a" * 100_000,
    "91-decimal": "https://2130706433/register",
    "91-hex": "https://0x7f000001/register",
    "91-octal": "https://0177.0.0.1/register",
    "91-short": "https://127.1/register",
    "91-full-width": "https://\uff11\uff12\uff17.0.0.1/register",
    "91-circled": "https://①②⑦.0.0.1/register",
    "91-ideographic-dot": "https://127。0。0。1/register",
    "91-percent": "https://%31%32%37.0.0.1/register",
    "91-trailing-dot": "https://127.0.0.1./register",
    "93-http": "http://as.example/register",
    "dot-segments": "https://as.example/a/%2e%2e/register",
}


@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_endpoint_is_an_invalid_response(url):
    """R-014, R-154 and faults 83 to 93: refused before any connection."""
    with pytest.raises(InvalidResponseError, match="an address"):
        registration_endpoint(url)


FOREIGN = {
    "84-other-host": "https://evil.example/register",
    "84-subdomain": "https://login.as.example/register",
    "84-other-port": "https://as.example:8443/register",
    "91-loopback": "https://127.0.0.1/register",
    "91-metadata-service": "https://169.254.169.254/latest",
    "91-private": "https://10.0.0.1/",
    "91-cgnat": "https://100.64.0.1/",
    "91-ula": "https://[fd00:ec2::254]/",
    "91-mapped": "https://[::ffff:127.0.0.1]/",
    "91-nat64": "https://[64:ff9b::7f00:1]/",
    "91-6to4": "https://[2002:7f00:1::]/",
    "91-teredo": "https://[2001:0:7f00:1::]/",
    "95-ssh": "https://as.example:22/",
}


@pytest.mark.parametrize("url", FOREIGN.values(), ids=FOREIGN.keys())
def test_an_endpoint_on_an_untrusted_origin_is_not_allowed(url):
    """Faults 84, 91, 95 and 117, settled point (d): the message names origin and remedy."""
    with pytest.raises(NotAllowedError, match="trusted_origins"):
        check_trusted_origin(url, issuer=ISSUER, trusted_origins=["https://other.example"])


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://api.example/register", "https://api.example"),
        ("https://api.example/register", "https://API.example:443/"),
        ("http://internal.example:8080/register", "http://internal.example:8080"),
    ],
    ids=["plain", "other spelling", "http by the operator's word"],
)
def test_an_origin_that_the_operator_trusts_is_accepted(url, trusted):
    """R-092: other origins only by configuration; malformed entries allow nothing."""
    assert registration_endpoint(url, trusted_origins=["nonsense", trusted]) == url


def test_an_http_issuer_has_http_endpoints_on_its_own_origin_only():
    issuer = "http://localhost:8000"
    check_trusted_origin("http://localhost:8000/o/register", issuer=issuer, trusted_origins=())
    with pytest.raises(NotAllowedError, match=r"http://localhost:9000, which is not"):
        check_trusted_origin("http://localhost:9000/", issuer=issuer, trusted_origins=())


@pytest.mark.parametrize("character", ["\x00", "\ud800"])
@pytest.mark.parametrize("name", ["registration_endpoint", "jwks_uri"])
def test_a_url_is_used_unchanged_or_refused(name: str, character: str) -> None:
    """Without the character that databases refuse it would be another URL."""
    document = {"issuer": ISSUER, name: f"https://as.example/regi{character}ster"}
    metadata = check_server_metadata(document, issuer=ISSUER)
    json.dumps(metadata).encode()  # can be stored
    with pytest.raises(InvalidResponseError, match="gave an address that is not an absolute"):
        endpoint(metadata, name, issuer=ISSUER)

"""Dates, caching and challenges in the header fields of responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dcr.protocol import entity_tag, freshness, parse_challenge
from django_dcr.protocol.headers import MAX_LENGTH, delta_seconds

URL = "https://mcp.example/.well-known/oauth-protected-resource/mcp"

#: The header, and what it says: scheme and parameters of each challenge.
HEADERS = {
    "Bearer": (f'Bearer resource_metadata="{URL}"', [("bearer", {"resource_metadata": URL})]),
    "DPoP": (f'DPoP algs="ES256", resource_metadata="{URL}"',
             [("dpop", {"algs": "ES256", "resource_metadata": URL})]),
    "case": ('BEARER Scope="a b",ERROR="x"', [("bearer", {"scope": "a b", "error": "x"})]),
    "several": (
        'Basic realm="a, Bearer error=\\"no\\"", Bearer scope="a", Negotiate YWJjZA==, DPoP',
        [("basic", {"realm": 'a, Bearer error="no"'}), ("bearer", {"scope": "a"}),
         ("negotiate", {}), ("dpop", {})],
    ),
    "quoted pairs": (r'Bearer scope="\a\"\\b"', [("bearer", {"scope": 'a"\\b'})]),
    "token68 with signs": ("Negotiate a+/b-._~==, Bearer a=b",
                           [("negotiate", {}), ("bearer", {"a": "b"})]),
    "token68 alone": ("NTLM TlRMTVNTUAAC=", [("ntlm", {})]),
    "spaces around": ('Bearer \t scope\t=  "a" ,, error = x ,',
                      [("bearer", {"scope": "a", "error": "x"})]),
    "no commas": ('Bearer scope="a" error="b"', [("bearer", {"scope": "a", "error": "b"})]),
    "folded": ('Bearer scope="a",\r\n error="b"', [("bearer", {"scope": "a", "error": "b"})]),
    "unquoted URL": (f"Bearer resource_metadata={URL}", [("bearer", {"resource_metadata": URL})]),
    "twice the same name": ('Bearer scope="a", scope="b"', [("bearer", {"scope": "a"})]),
    "scheme alone": ("Bearer", [("bearer", {})]),
    "no scheme": ('scope="a"', []),
    "breaks off": (f'Bearer scope="a", resource_metadata="{URL}', [("bearer", {"scope": "a"})]),
    "breaks off in a pair": ('Bearer scope="a", error="b\\', [("bearer", {"scope": "a"})]),
    "quotation mark first": ('" Bearer scope="a"', []),
    "empty value": ('Bearer error=, scope="a"', [("bearer", {"scope": "a"})]),
    "empty text": ('Bearer error="", scope="a"', [("bearer", {"error": "", "scope": "a"})]),
    "junk between": ('Bearer ;é=, scope="a"', [("bearer", {"scope": "a"})]),
    "nothing": ("", []),
    "junk": (",,=;\x00é", []),
}  # fmt: skip


@pytest.mark.parametrize(("header", "parts"), HEADERS.values(), ids=HEADERS.keys())
def test_the_challenges_of_a_header(header: str, parts: object) -> None:
    """R-035: any scheme, several challenges, quoted pairs, token68, names in any case."""
    assert list(parse_challenge(header).parts) == parts


def test_several_headers_are_parsed_as_one() -> None:
    """R-035: and of a parameter in several challenges the first counts."""
    challenge = parse_challenge(
        ['Basic realm="x"', f'DPoP resource_metadata="{URL}", scope="a"', 'Bearer scope="b"']
    )
    assert [scheme for scheme, _parameters in challenge.parts] == ["basic", "dpop", "bearer"]
    assert (challenge.resource_metadata, challenge.scope, challenge.error) == (URL, "a", "")
    assert challenge.parameter("realm") == "x"


def test_a_challenge_of_64_kib_is_parsed_and_a_longer_one_is_ignored() -> None:
    """Half of a URL would be another URL."""
    rest = 'Bearer error="invalid_token", realm="'
    whole = rest + "x" * (MAX_LENGTH - len(rest) - 1) + '"'
    assert len(whole) == 64 * 1024
    assert parse_challenge(whole).error == "invalid_token"
    assert parse_challenge(whole + " ").parts == ()


@pytest.mark.parametrize(
    "filling",
    [
        "a",
        " ",
        ",",
        "=",
        '"',
        '\\"',
        'a="',
        "a=b,",
        "a ",
        'a="b" ',
        "a" + " " * 99,
        "=a",
        "é",
        "\\",
    ],
)
def test_a_long_header_is_parsed_in_linear_time(filling: str) -> None:
    """Quadratic parsing would take minutes for each of these."""
    header = "Bearer " + filling * ((MAX_LENGTH - 7) // len(filling))
    assert len(parse_challenge(header).parts) <= MAX_LENGTH


@given(st.text(alphabet=st.sampled_from('Ba ,="\\\t/é1'), max_size=60) | st.text(max_size=200))
def test_no_header_raises_an_error(header: str) -> None:
    challenge = parse_challenge(header)
    for scheme, parameters in challenge.parts:
        assert scheme == scheme.lower() != ""
        assert all(name == name.lower() for name in parameters)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 30\t", 30.0),
        ("9" * 5_000, float("inf")),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("1_0", None),
        ("٣", None),
        ("soon", None),
    ],
    ids=["0", "spaces", "5000 digits", "none", "-1", "1.5", "1_0", "Arabic digit", "text"],
)
def test_delta_seconds_accepts_only_digits(text, seconds):
    assert delta_seconds(text) == seconds


@pytest.mark.parametrize("tag", ['"1"', 'W/"a-b"', '""', '"\'{}\\"'])
def test_an_entity_tag_is_kept_exactly(tag):
    assert entity_tag({"ETag": tag}) == tag


@pytest.mark.parametrize(
    "tag",
    ["1", '"1', "\xa0", '"\xe9"', '"a b"', '"a"b"', '"1"\n', '"\x1b"', '"' + "x" * 251 + '"'],
    ids=ascii,
)
def test_a_malformed_entity_tag_is_dropped(tag):
    """Fault 23: it would be sent with every later request, and make it fail."""
    assert entity_tag({"ETag": tag}) == ""


FRESHNESS = {
    "nothing said": ({}, 3600),
    "max-age": ({"Cache-Control": "public, max-age=60"}, 60),
    "max-age in capitals": ({"Cache-Control": "Max-Age=60"}, 60),
    "max-age in quotes": ({"Cache-Control": 'max-age="60"'}, 60),
    "max-age 0": ({"Cache-Control": "max-age=0"}, 0),
    "100 max-age above the limit": ({"Cache-Control": "max-age=999999999999"}, 3600),
    "100 max-age of 5000 digits": ({"Cache-Control": "max-age=" + "9" * 5000}, 3600),
    "100 max-age negative": ({"Cache-Control": "max-age=-1"}, 3600),
    "max-age text": ({"Cache-Control": "max-age=Mon, 01 Jan 2035 00:00:00 GMT"}, 3600),
    "age": ({"Cache-Control": "max-age=60", "Age": "50"}, 10),
    "age under the limit": ({"Cache-Control": "max-age=9000", "Age": "9"}, 3600),
    "age beyond max-age": ({"Cache-Control": "max-age=60", "Age": "600"}, 0),
    "100 age negative": ({"Cache-Control": "max-age=60", "Age": "-1"}, 60),
    "age of 5000 digits": ({"Cache-Control": "max-age=" + "9" * 5000, "Age": "9" * 5000}, 0),
    "no-store": ({"Cache-Control": "max-age=60, no-store"}, 0),
    "no-cache": ({"Cache-Control": "No-Cache"}, 0),
    "only commas": ({"Cache-Control": ",,=,"}, 3600),
}


@pytest.mark.parametrize(("headers", "seconds"), FRESHNESS.values(), ids=FRESHNESS.keys())
def test_freshness_is_what_the_server_says_up_to_the_limit(headers, seconds):
    """Fault 100."""
    assert freshness(headers, 3600) == seconds

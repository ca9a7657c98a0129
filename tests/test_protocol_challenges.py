from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dcr.protocol import parse_challenge
from django_dcr.protocol.challenges import MAX_LENGTH

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


def test_several_headers_are_read_as_one() -> None:
    """R-035: and of a parameter in several challenges the first counts."""
    challenge = parse_challenge(
        ['Basic realm="x"', f'DPoP resource_metadata="{URL}", scope="a"', 'Bearer scope="b"']
    )
    assert [scheme for scheme, _parameters in challenge.parts] == ["basic", "dpop", "bearer"]
    assert (challenge.resource_metadata, challenge.scope, challenge.error) == (URL, "a", "")
    assert challenge.parameter("realm") == "x"


def test_a_challenge_of_64_kib_is_read_and_a_longer_one_says_nothing() -> None:
    """Half of a URL would be another one."""
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
def test_a_long_header_is_walked_through_once(filling: str) -> None:
    """A quadratic reader would take minutes for each of these."""
    header = "Bearer " + filling * ((MAX_LENGTH - 7) // len(filling))
    assert len(parse_challenge(header).parts) <= MAX_LENGTH


@given(st.text(alphabet=st.sampled_from('Ba ,="\\\t/é1'), max_size=60) | st.text(max_size=200))
def test_no_header_is_an_error(header: str) -> None:
    challenge = parse_challenge(header)
    for scheme, parameters in challenge.parts:
        assert scheme == scheme.lower() != ""
        assert all(name == name.lower() for name in parameters)

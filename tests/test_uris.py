from __future__ import annotations

import pytest

from django_dcr.uris import MAX_LENGTH, URL, origin, parse


def test_a_url_is_parsed_into_its_parts() -> None:
    assert parse("HTTPS://As.Example:8443/Path;a=1?q=%20&r[]=/") == URL(
        "https", "as.example", 8443, "/Path;a=1", "q=%20&r[]=/", True
    )


def test_omitted_parts_of_a_url_have_defaults() -> None:
    assert parse("http://as.example") == URL("http", "as.example", 80, "", None, False)
    assert parse("https://as.example/?").query == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://as.example/path?query", "https://as.example"),
        ("HTTPS://AS.EXAMPLE:443/", "https://as.example"),
        ("https://as.example:0443/", "https://as.example"),
        ("https://as.example:80", "https://as.example:80"),
        ("http://as.example:80", "http://as.example"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000"),
        ("https://[2001:DB8:0::1]:8443/", "https://[2001:db8::1]:8443"),
        ("https://keycloak:8443", "https://keycloak:8443"),
        ("https://a_b.example", "https://a_b.example"),
    ],
)
def test_an_origin_is_scheme_host_and_unusual_port(url: str, expected: str) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param(None, "is not a URL", id="null"),
        pytest.param(7, "is not a URL", id="number"),
        pytest.param(["https://as.example"], "is not a URL", id="list"),
        pytest.param("", "is not a URL", id="empty"),
        pytest.param("https://as.example/" + "a" * MAX_LENGTH, "longer than", id="too long"),
        pytest.param("/register", "not an absolute", id="relative"),
        pytest.param("//as.example/register", "not an absolute", id="no scheme"),
        pytest.param("as.example", "not an absolute", id="host alone"),
        pytest.param("https:as.example", "not an absolute", id="no slashes"),
        pytest.param("https:///path", "not an absolute", id="no host"),
        pytest.param("https://user@as.example", "not an absolute", id="userinfo"),
        pytest.param("https://good@evil.example", "not an absolute", id="good@evil"),
        pytest.param("https://good\\@evil.example", "not an absolute", id="backslash"),
        pytest.param("https://as.example/a\\b", "not an absolute", id="backslash in the path"),
        pytest.param("https://as.example/#f", "not an absolute", id="fragment"),
        pytest.param("https://as.example/?#", "not an absolute", id="empty fragment"),
        pytest.param("file:///etc/passwd", "not an absolute", id="file"),
        pytest.param("ftp://as.example/", "not an absolute", id="ftp"),
        pytest.param("gopher://as.example/", "not an absolute", id="gopher"),
        pytest.param("javascript:alert(1)", "not an absolute", id="javascript"),
        pytest.param("data:text/html,x", "not an absolute", id="data"),
        pytest.param("unix://as.example/", "not an absolute", id="unix"),
        pytest.param("ws://as.example/", "not an absolute", id="ws"),
        pytest.param("jar:https://as.example/", "not an absolute", id="jar"),
        pytest.param("https://as.example/\r\nX: y", "not an absolute", id="CR LF"),
        pytest.param("https://as.example/\n", "not an absolute", id="newline at the end"),
        pytest.param("https://as\n.example/", "not an absolute", id="newline in the host"),
        pytest.param("https://as.exa\tmple/", "not an absolute", id="tab"),
        # Regardless of letter case these match s and k.
        pytest.param("http\u017f://as.example/", "not an absolute", id="long s in the scheme"),
        pytest.param("https://a\u017f.example/", "not an absolute", id="long s in the host"),
        pytest.param("https://\u212aey.example/", "not an absolute", id="Kelvin in the host"),
        pytest.param("https://as.example/\u212a", "not an absolute", id="Kelvin in the path"),
        pytest.param(" https://as.example/", "not an absolute", id="space in front"),
        pytest.param("https://as.example/a b", "not an absolute", id="space inside"),
        pytest.param("\x01https://as.example/", "not an absolute", id="U+0001 in front"),
        pytest.param("https://as.example/\0", "not an absolute", id="NUL"),
        pytest.param("https://as.example:0/", "port that does not exist", id="port 0"),
        pytest.param("https://as.example:65536/", "port that does not exist", id="port 65536"),
        pytest.param("https://as.example:99999/", "port that does not exist", id="port 99999"),
        pytest.param("https://as.example:443443/", "not an absolute", id="six digits of port"),
        pytest.param("https://as.example:port/", "not an absolute", id="port in words"),
        pytest.param("https://as.example:٤٤٣/", "not an absolute", id="Arabic digits"),
        pytest.param("https://as.example:/", "not an absolute", id="empty port"),
        pytest.param("https://\u0430s.example/", "not an absolute", id="Cyrillic"),
        pytest.param("https://as.example/ö", "not an absolute", id="non-ASCII path"),
        pytest.param("https://①27.0.0.1/", "not an absolute", id="circled digit"),
        pytest.param("https://127。0。0。1/", "not an absolute", id="ideographic dots"),
        pytest.param("https://%31%32%37.0.0.1/", "not an absolute", id="percent-encoded host"),
        pytest.param("https://[::1/", "not an absolute", id="unclosed bracket"),
        pytest.param("https://[as.example]/", "not an absolute", id="name in brackets"),
        pytest.param("https://[fe80::1%25eth0]/", "not an absolute", id="zone"),
        pytest.param("https://[1::2::3]/", "malformed IPv6", id="no IPv6 address"),
        pytest.param("https://as.example./", "not an absolute", id="dot at the end"),
        pytest.param("https://.as.example/", "not an absolute", id="dot in front"),
        pytest.param("https://as..example/", "malformed host", id="empty label"),
        pytest.param("https://-as.example/", "not an absolute", id="hyphen in front"),
        pytest.param(f"https://{'a' * 64}.example/", "malformed host", id="label too long"),
        pytest.param(f"https://{'a.' * 126}ab/", "malformed host", id="name too long"),
        pytest.param("https://127.1/", "malformed IPv4", id="short IPv4"),
        pytest.param("https://2130706433/", "malformed IPv4", id="decimal IPv4"),
        pytest.param("https://0x7f000001/", "malformed IPv4", id="hex IPv4"),
        pytest.param("https://0x7f.0.0.0x1/", "malformed IPv4", id="dotted hex IPv4"),
        pytest.param("https://as.0x/", "malformed IPv4", id="hex without digits"),
        pytest.param("https://0177.0.0.1/", "malformed IPv4", id="octal IPv4"),
        pytest.param("https://256.0.0.1/", "malformed IPv4", id="number too large"),
        pytest.param("https://as.example/a/../b", "dot segment", id="dot dot"),
        pytest.param("https://as.example/./b", "dot segment", id="dot"),
        pytest.param("https://as.example/a/%2E%2e/b", "dot segment", id="encoded dots"),
        pytest.param("https://as.example/..", "dot segment", id="dots at the end"),
    ],
)
def test_what_is_not_a_plain_url_is_refused_with_the_reason(url: object, reason: str) -> None:
    """Faults 83, 85 and 87 to 91."""
    with pytest.raises(ValueError, match=reason):
        parse(url)


def test_what_is_not_a_url_has_no_origin() -> None:
    with pytest.raises(ValueError, match="not an absolute"):
        origin("as.example")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1/", True),
        ("http://127.8.8.8:1/", True),
        ("http://[::1]/", True),
        ("http://LocalHost/", True),
        ("http://localhost.example/", False),
        ("http://10.0.0.1/", False),
        ("https://as.example/", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, expected: bool) -> None:
    assert parse(url).is_loopback is expected

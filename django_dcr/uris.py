"""A strict grammar for URLs from servers and operators (RFC 3986, narrowed), and public hosts.

Library parsers drop tabs, fold Unicode and accept ``good\\@evil``; here a URL is plain ASCII of
the strict form, or it is refused.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

MAX_LENGTH = 8192
_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    # No fragment, userinfo, space, quote, backslash or non-ASCII character can match.
    r"(?P<path>(?:/[a-z0-9._~!$&'()*+,;=:@%-]*)*)"
    r"(?:\?(?P<query>[a-z0-9._~!$&'()*+,;=:@%/?\[\]-]*))?",
    # Without ASCII, the long s and the Kelvin sign would match as s and k.
    re.ASCII | re.IGNORECASE,
)

_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
# Blocks that is_global misses in some Python versions (IANA special-purpose registries).
_SPECIAL = [
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]


class URL(NamedTuple):
    """The parts of an absolute http or https URL; scheme and host in lower case."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None
    explicit_port: bool

    @property
    def origin(self) -> str:
        """Scheme, host and, where it is not the default, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == _DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{host}" if default else f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host names this machine (RFC 8252 section 7.3, and ``localhost``)."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse(url: object) -> URL:
    """Parse an absolute http(s) URL; the text of a ValueError says why it is not one."""
    if not isinstance(url, str) or not url:
        raise ValueError("is not a URL")
    if len(url) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    return _parsed(url)


# A site has few issuers and origins, and checks them with every registration that it uses.
@lru_cache(maxsize=256)
def _parsed(url: str) -> URL:
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("is not an absolute http or https URL of plain characters")
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise ValueError("has a port that does not exist")
    path = match["path"].lower().replace("%2e", ".")
    # The libraries that send requests would resolve dot segments, and request another URL.
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("has a dot segment in its path")
    host = _host(match["host"].lower())
    return URL(scheme, host, port, match["path"], match["query"], bool(match["port"]))


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError("has a malformed IPv6 address") from None
    labels = host.split(".")
    if not all(0 < len(label) <= 63 for label in labels) or len(host) > 253:
        raise ValueError("has a malformed host name")
    # "127.1", "0x7f.0.0.1" and "2130706433" are numbers to a resolver, so only the one
    # canonical spelling of an IPv4 address may end in a number (WHATWG URL, "ends in a number").
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("has a malformed IPv4 address") from None
    return host


def without_query(url: str) -> str:
    """Return ``url`` as it may be shown: its query may contain a key."""
    before, mark, _query = url.partition("?")
    return f"{before}?…" if mark else url


def origin(url: str) -> str:
    """Return the origin of ``url``; raise ValueError where it is not a URL."""
    return parse(url).origin


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet (RFC 9728 section 7.7)."""
    parsed = ipaddress.ip_address(address)
    # Mapped, compatible and NAT64 addresses are outside of 2000::/3.
    return (
        parsed.is_global
        and not parsed.is_multicast
        and (parsed.version == 4 or parsed in _IPV6_UNICAST)
        and not any(parsed in block for block in _SPECIAL)
    )

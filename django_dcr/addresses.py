"""Which IP addresses are public: those that a tenant's server may have (RFC 9728 section 7.7)."""

from __future__ import annotations

import ipaddress

_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
# What is_global leaves out in one Python version or another (IANA special-purpose registries).
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


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's, and leads nowhere else."""
    parsed = ipaddress.ip_address(address)
    # Mapped, compatible and NAT64 addresses are outside of 2000::/3.
    return (
        parsed.is_global
        and not parsed.is_multicast
        and (parsed.version == 4 or parsed in _IPV6_UNICAST)
        and not any(parsed in block for block in _SPECIAL)
    )

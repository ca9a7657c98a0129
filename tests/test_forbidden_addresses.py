"""The addresses that no server may lead to, in every spelling and at every place of a URL.

Fault 91. None of them is connected to nor looked up, whoever names it: a caller, an issuer, a
document, or an answer; and not even where an operator trusts the origin. Each of them
is tried in transport; in each way to it one of each kind is, and all with CASES=all.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import responses

from django_dcr import transport, uris
from django_dcr.exceptions import DCRError, NetworkError, NotAllowedError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import discover, get_or_register, read, register, revoke, update
from django_dcr.uris import is_address, is_public
from tests import hostile
from tests.cases import all_or
from tests.factories import (
    ENDPOINT,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

HOSTS = {
    "loopback": "127.0.0.1",
    "loopback, another": "127.8.8.8",
    "loopback by name": "localhost",
    "this host": "0.0.0.0",  # noqa: S104 - nothing listens there
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.0.1",
    "carrier-grade NAT": "100.64.0.1",
    "link-local": "169.254.0.1",
    "metadata service": "169.254.169.254",
    "metadata service of Alibaba": "100.100.100.200",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "documentation": "192.0.2.1",
    "benchmarking": "198.18.0.1",
    "IPv6 loopback": "[::1]",
    "IPv6 loopback in full": "[0:0:0:0:0:0:0:1]",
    "IPv6 unspecified": "[::]",
    "IPv6 link-local": "[fe80::1]",
    "IPv6 link-local with a zone": "[fe80::1%25eth0]",
    "IPv6 unique local": "[fc00::1]",
    "IPv6 metadata service": "[fd00:ec2::254]",
    "IPv6 multicast": "[ff02::1]",
    "mapped loopback": "[::ffff:127.0.0.1]",
    "mapped loopback in hex": "[::ffff:7f00:1]",
    "mapped metadata service": "[::ffff:169.254.169.254]",
    "compatible loopback": "[::127.0.0.1]",
    "NAT64 of loopback": "[64:ff9b::7f00:1]",
    "NAT64 of the metadata service": "[64:ff9b::a9fe:a9fe]",
    "6to4 of loopback": "[2002:7f00:1::]",
    "Teredo of loopback": "[2001:0:7f00:1::]",
    "decimal": "2130706433",
    "hex": "0x7f000001",
    "octal": "017700000001",
    "dotted hex": "0x7f.0x0.0x0.0x1",
    "dotted octal": "0177.0.0.01",
    "short": "127.1",
    "shorter": "127.0.1",
    "zero": "0",
    "padded": "127.000.000.001",
    "overflowing": "127.0.0.257",
    "full-width digits": "\uff11\uff12\uff17.0.0.1",
    "circled digits": "\u2460\u2461\u2466.0.0.1",
    "Arabic digits": "\u0661\u0662\u0667.0.0.1",
    "ideographic dots": "127\u30020\u30020\u30021",
    "full-width name": "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54",
    "percent-encoded": "%31%32%37.0.0.1",
    "percent-encoded dots": "127%2e0%2e0%2e1",
    "trailing dot": "127.0.0.1.",
    "trailing dot after a name": "localhost.",
}

pytestmark = pytest.mark.django_db
every_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
#: An address, one that is known by another, a name without a dot, and what is not a host of a URL.
KINDS = all_or(
    HOSTS, "metadata service", "mapped loopback", "loopback by name", "decimal", "circled digits"
)
each_kind = pytest.mark.parametrize("host", KINDS.values(), ids=KINDS.keys())


@pytest.fixture(autouse=True)
def _no_packet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is looked up is found to be public, and nothing may be looked up."""
    monkeypatch.setattr(socket, "getaddrinfo", lookup := hostile.found("93.184.215.14"))
    with hostile.recorded_connects() as connects:
        yield
    assert (connects, lookup.names) == ([], [])  # type: ignore[attr-defined]


def is_forbidden(host: str) -> bool:
    return not is_public(host) if is_address(host) else "." not in host


def test_there_are_51_spellings() -> None:
    """Fault 91."""
    assert len(HOSTS) == len({*HOSTS.values()}) == 51


@every_host
def test_each_spelling_is_not_a_url_or_has_a_forbidden_address(host: str) -> None:
    """Fault 91: the grammar allows one spelling of each address, which is then checked."""
    try:
        url = uris.parse(f"https://{host}/")
    except ValueError:
        return
    assert is_forbidden(url.host)


@pytest.mark.network
@every_host
def test_nothing_is_sent_to_a_forbidden_address(host: str) -> None:
    """Fault 91."""
    for port in ("", ":443", ":8443"):
        with pytest.raises((NotAllowedError, NetworkError)) as caught:
            transport.send("GET", f"https://{host}{port}/", token="t1")
        assert getattr(caught.value, "sent", False) is False


@pytest.mark.network
@each_kind
def test_a_forbidden_address_is_not_requested_as_an_issuer(host: str) -> None:
    """Fault 91: such a row may exist, but nothing is requested."""
    with pytest.raises((NotAllowedError, NetworkError)):
        discover(AuthorizationServer.objects.for_issuer(f"https://{host}/tenant"))
    with pytest.raises((NotAllowedError, NetworkError)):
        get_or_register(f"https://{host}/tenant", metadata=WISHES)
    assert not ClientRegistration.objects.exclude(status="draft").exists()


@pytest.mark.network
@each_kind
@pytest.mark.parametrize("trusted", [False, True], ids=["", "vouched for"])
def test_a_forbidden_address_is_not_a_registration_endpoint(host: str, trusted: bool) -> None:
    """Fault 91: and the row can be registered later."""
    origin = f"https://{host}"
    server = make_server(
        metadata=server_metadata(registration_endpoint=f"{origin}/register"),
        trusted_origins=[origin] if trusted else [],
        initial_access_token="iat",
    )
    draft = make_draft(server=server)
    with pytest.raises(DCRError):
        register(draft)
    assert stored(draft).status == "draft"


@pytest.mark.network
@each_kind
@pytest.mark.parametrize("trusted", [False, True], ids=["", "vouched for"])
def test_no_token_is_sent_to_a_forbidden_address(host: str, trusted: bool) -> None:
    """Faults 91 and 117: as a stored registration_client_uri."""
    origin = f"https://{host}"
    row = make_registration(
        server=make_server(trusted_origins=[origin] if trusted else []),
        registration_client_uri=f"{origin}/register/c1",
    )
    for service in (read, update, revoke):
        with pytest.raises(DCRError):
            service(row)
        assert (stored(row).status, stored(row).live, stored(row).lease) == ("active", True, "")
    assert stored(row).registration_access_token.reveal() == "t1"


@each_kind
def test_a_response_that_names_a_forbidden_address_is_not_followed(
    host: str, mocked_responses: responses.RequestsMock
) -> None:
    """Faults 91 and 117: not even to delete a client that cannot be used."""
    uri = f"https://{host}/register/c1"
    answer = client_information(registration_client_uri=uri, client_secret=...)
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    draft = make_draft()
    with pytest.raises(DCRError, match="client_secret is missing"):
        register(draft)
    assert stored(draft).status == "unknown"
    assert len(mocked_responses.calls) == 1

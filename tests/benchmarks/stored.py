"""The rows that are measured with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from django.contrib.auth.models import User
from django.core.management import call_command

from django_dcr import services
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.benchmarks.peers.answering import WISHES
from tests.benchmarks.server import SECRET, TOKEN
from tests.many import fill, multiply

BASE = os.environ["BENCHMARK_SERVER"]
SLOW, RENEWING, REFUSING = f"{BASE}/slow", f"{BASE}/renewing", f"{BASE}/refusing"
FEW, SERVERS = 1000, 10
#: Rows of each mechanism, which are in both tables.
OWNERS = {"dynamic": 414, "pre_registered": 431, "metadata_document": 427}

_numbers = itertools.count(1)


def make(rows: int) -> None:
    """Make the tables, the rows of the servers, and so many registrations."""
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("admin")
    for issuer in (BASE, SLOW, RENEWING, REFUSING):
        services.discover(AuthorizationServer.objects.for_issuer(issuer))
    services.rotate_client_key(algorithm="ES256")
    fill(FEW, SERVERS, f"{BASE}/t{{}}")
    multiply(rows // FEW)


def issuer_of(number: int) -> str:
    """The server at which the owner of this number has a registration."""
    return f"{BASE}/t{number % SERVERS}"


def store(issuer: str, count: int, expires_at: int = 0) -> list[int]:
    """Store registrations as they are after registering; return their primary keys."""
    server = AuthorizationServer.objects.for_issuer(issuer)
    # Sealed once, and then moved into each row.
    sample = ClientRegistration(client_secret=SECRET, registration_access_token=TOKEN)
    unique = os.urandom(4).hex()
    names = [f"f{unique}{next(_numbers)}" for _ in range(count)]
    rows = ClientRegistration.objects.bulk_create(
        ClientRegistration(
            server=server,
            owner=name,
            status="active",
            requested_metadata=WISHES,
            metadata=WISHES,
            client_id=name,
            client_secret=sample.client_secret,
            client_secret_expires_at=expires_at,
            client_id_issued_at=1_700_000_000,
            registration_client_uri=f"{issuer}/register/{name}",
            registration_access_token=sample.registration_access_token,
        )
        for name in names
    )
    return [row.pk for row in rows]


def repeated(act: Callable[[], object], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            act()

    return run

"""The rows that are measured with."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

from django_dcr import services
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.benchmarks.peers.answering import WISHES
from tests.benchmarks.server import SECRET, TOKEN
from tests.many import DAY, fill, multiply

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
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous = OFF")
            cursor.execute("PRAGMA cache_size = -400000")
    # An index is made much faster when all rows are there.
    indexes = ClientRegistration._meta.indexes
    with connection.schema_editor() as editor:
        for index in indexes:
            editor.remove_index(ClientRegistration, index)
    multiply(rows // FEW)
    with connection.schema_editor() as editor:
        for index in indexes:
            editor.add_index(ClientRegistration, index)
    connection.close()


def issuer_of(number: int) -> str:
    """The server at which the owner of this number has a registration."""
    return f"{BASE}/t{number % SERVERS}"


def store(issuer: str, count: int) -> list[int]:
    """Store registrations as they are after registering; return their primary keys."""
    return _insert([AuthorizationServer.objects.for_issuer(issuer)] * count)


def _insert(servers: Sequence[AuthorizationServer], expires_at: int = 0) -> list[int]:
    # Sealed once, and then moved into each row.
    sample = ClientRegistration(client_secret=SECRET, registration_access_token=TOKEN)
    unique = os.urandom(4).hex()
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
            registration_client_uri=f"{server.issuer}/register/{name}",
            registration_access_token=sample.registration_access_token,
        )
        for server in servers
        for name in [f"f{unique}{next(_numbers)}"]
    )
    return [row.pk for row in rows]


def copy_server(issuer: str, **values: Any) -> None:
    """Store a server like the one that renews secrets, but for its issuer and these values."""
    server = AuthorizationServer.objects.for_issuer(issuer)
    for name, value in values.items():
        setattr(server, name, value)
    server.save()
    sample = AuthorizationServer.objects.for_issuer(RENEWING)
    metadata = {name: _at(issuer, value) for name, value in sample.metadata.items()}
    server.store(metadata, url=f"{issuer}/metadata", etag="", lifetime=DAY)


def _at(issuer: str, value: Any) -> Any:
    return value.replace(RENEWING, issuer) if isinstance(value, str) else value


def let_expire(issuers: Sequence[str], count: int) -> None:
    """Let the secrets of so many rows at each server expire tomorrow, and no others.

    They are in no order, as on a site, and in the same one each time.
    """
    ClientRegistration.objects.filter(server__issuer__startswith=RENEWING).delete()
    due = ClientRegistration.objects.filter(client_secret_expires_at__gt=0)
    due = due.filter(client_secret_expires_at__lt=int(time.time()) + 10 * DAY, status="active")
    due.update(client_secret_expires_at=0)
    tomorrow = int(time.time()) + DAY
    servers = [AuthorizationServer.objects.for_issuer(issuer) for issuer in issuers]
    servers *= count
    random.Random(1).shuffle(servers)  # noqa: S311
    _insert(servers, tomorrow)


def repeated(act: Callable[[], object], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            act()

    return run

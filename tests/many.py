"""As many registrations as a large site has, for tests of indexes and for ``make bench``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import GRANTED, WISHES, server_metadata

DAY = 86_400
_CHUNK = 2000
#: Of so many rows one is about to expire, and one is in each of the states that need a person.
ONE_IN = 1000


def fill(rows: int, servers: int = 100, base: str = "https://as{}.example") -> None:
    """Store registrations of every mechanism and state, at so many servers."""
    found = [_server(base.format(number)) for number in range(servers)]
    sample = ClientRegistration(client_secret="s" * 40, registration_access_token="t" * 40)
    for first in range(0, rows, _CHUNK):
        numbers = range(first, min(first + _CHUNK, rows))
        ClientRegistration.objects.bulk_create(_row(number, found, sample) for number in numbers)


def multiply(times: int) -> None:
    """Copy what ``fill`` has stored, in the database itself: a million rows in a minute or two."""
    names = [field.column for field in ClientRegistration._meta.concrete_fields]
    random = {
        "sqlite": "lower(hex(randomblob(32)))",
        "postgresql": "md5(random()::text) || md5(random()::text)",
        "mysql": "concat(md5(rand()), md5(rand()))",
    }[connection.vendor]
    digests = dict.fromkeys(("key_digest", "owner_digest", "client_id_digest"), random)
    # Those of documents and of past rows stay empty.
    digests["client_digest"] = f"CASE WHEN client_digest IS NULL THEN NULL ELSE {random} END"
    names.remove("id")
    values = ", ".join(digests.get(name, name) for name in names)
    table = ClientRegistration._meta.db_table
    # Those with something to do stay as few as they were.
    usual = (
        "status = 'active' AND live AND NOT has_drift AND lease_until IS NULL AND last_error = '' "
        "AND (client_secret_expires_at IS NULL OR client_secret_expires_at > %s)"
    )
    statement = f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {table}")  # noqa: S608
        parameters = [*cursor.fetchone(), int(time.time()) + 14 * DAY]
        for _ in range(times - 1):
            cursor.execute(f"{statement} WHERE id <= %s AND {usual}", parameters)
        if connection.vendor == "postgresql":  # pragma: no cover - coverage is SQLite's
            # PostgreSQL does so by itself, a minute later.
            cursor.execute("ANALYZE")


def _server(issuer: str) -> AuthorizationServer:
    metadata = server_metadata(
        issuer=issuer,
        registration_endpoint=f"{issuer}/register",
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
    )
    return AuthorizationServer.objects.create(
        issuer=issuer,
        metadata=metadata,
        metadata_url=f"{issuer}/.well-known/openid-configuration",
        fresh_until=timezone.now() + timedelta(days=1),
    )


def _row(
    number: int, servers: list[AuthorizationServer], sample: ClientRegistration
) -> ClientRegistration:
    server = servers[number % len(servers)]
    row = ClientRegistration(
        server=server, owner=f"owner {number}", requested_metadata=WISHES, metadata=GRANTED
    )
    values = _values(number, server.issuer, sample)
    for name, value in values.items():
        setattr(row, name, value)
    return row


def _values(number: int, issuer: str, sample: ClientRegistration) -> dict[str, Any]:
    if number % 10 == 7:
        slug = f"{number:016d}"
        client_id = f"https://site.example/oauth/clients/{slug}"
        return {
            "status": "active",
            "mechanism": "metadata_document",
            "document_slug": slug,
            "client_id": client_id,
            "metadata": {**GRANTED, "token_endpoint_auth_method": "none"},
        }
    values = {
        "status": "active",
        "mechanism": "pre_registered" if number % 10 == 1 else "dynamic",
        "client_id": f"client-{number}",
        "client_secret": sample.client_secret,
        "client_secret_expires_at": int(time.time()) + DAY * (15 + number % 75),
        "registration_client_uri": f"{issuer}/register/client-{number}",
        "registration_access_token": sample.registration_access_token,
        "has_drift": number % ONE_IN == 2,
    }
    return {**values, **_RARE.get(number % ONE_IN, dict)()}


_RARE: dict[int, Callable[[], dict[str, Any]]] = {
    500: lambda: {"client_secret_expires_at": int(time.time()) + DAY},
    501: lambda: {"status": "gone", "live": None},
    502: lambda: {"status": "unknown", "mechanism": "dynamic"},
    503: lambda: {"status": "revoked", "live": None},
    504: lambda: {
        "client_secret_expires_at": int(time.time()) - DAY,
        "last_error": "It was refused.",
    },
    505: lambda: {"lease": "x", "lease_until": timezone.now() - timedelta(hours=1)},
}

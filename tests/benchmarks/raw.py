"""The same by Django and ``requests`` alone: as many requests and writes, and no promises.

A registration is an insert before the request, and an update and an event after it. What else
changes a client marks the row as being worked on first, which excludes nobody here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import requests
from cryptography.fernet import Fernet
from django.conf import settings
from django.test import RequestFactory
from django.utils import timezone

from django_dcr.fields import digest
from django_dcr.models import AuthorizationServer, ClientKey, ClientRegistration, RegistrationEvent
from tests.benchmarks.bare import bare_document, bare_keys
from tests.benchmarks.models import Bare
from tests.benchmarks.peers.answering import WISHES
from tests.benchmarks.stored import OWNERS, issuer_of, repeated, store

BASE = os.environ["BENCHMARK_SERVER"]
_fernet = Fernet(settings.DCR_ENCRYPTION_KEYS[0])
_thread = threading.local()


def hit(mechanism: str, count: int) -> Callable[[], None]:
    owner = OWNERS[mechanism]
    key = digest(issuer_of(owner), f"owner {owner}")
    rows = ClientRegistration.objects

    def act() -> None:
        row = rows.select_related("server").get(key_digest=key, live=True)
        if row.client_secret is not None:
            row.client_secret.reveal()

    return repeated(act, count)


def register(count: int) -> Callable[[], None]:
    return repeated(partial(_register, AuthorizationServer.objects.for_issuer(BASE)), count)


def _register(server: AuthorizationServer) -> None:
    owner = f"raw {os.urandom(8).hex()}"
    row = Bare.objects.create(
        server=server,
        owner=owner,
        key_digest=digest(server.issuer, owner),
        status="registering",
        requested_metadata=WISHES,
    )
    _save(row, _sent("POST", server.metadata["registration_endpoint"], WISHES), "register")


def managed(name: str, methods: str, count: int) -> Callable[[], None]:
    rows = list(Bare.objects.filter(pk__in=store(BASE, count)))

    def run() -> None:
        for row in rows:
            _manage(row, name, methods.split())

    return run


def _manage(row: Bare, name: str, methods: list[str]) -> None:
    Bare.objects.filter(pk=row.pk).update(lease="x", lease_until=timezone.now())
    token = _fernet.decrypt(row.registration_access_token or "").decode().partition("\0")[2]
    for method in methods:
        body = {**WISHES, "client_id": row.client_id} if method == "PUT" else None
        issued = _sent(method, row.registration_client_uri, body, token)
    if issued:
        _save(row, issued, name)
        return
    closed = Bare.objects.filter(pk=row.pk)
    closed.update(
        status="revoked", live=None, client_secret=None, client_digest=None, lease_until=None
    )
    _record(row, name, "revoked")


def _sent(method: str, url: str, body: Any = None, token: str = "") -> Any:
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
        _thread.session.trust_env = False
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = _thread.session.request(method, url, json=body, headers=headers, timeout=10)
    response.raise_for_status()
    return response.json() if response.content else None


def _save(row: Bare, issued: dict[str, Any], action: str) -> None:
    Bare.objects.filter(pk=row.pk).update(
        status="active",
        lease_until=None,
        metadata=issued,
        client_id=issued["client_id"],
        client_digest=digest(BASE, issued["client_id"]),
        client_secret=_sealed(issued["client_secret"]),
        client_secret_expires_at=issued["client_secret_expires_at"],
        registration_client_uri=issued["registration_client_uri"],
        registration_access_token=_sealed(issued["registration_access_token"]),
    )
    _record(row, action, "active")


def _record(row: Bare, action: str, outcome: str) -> None:
    RegistrationEvent.objects.create(registration_id=row.pk, action=action, outcome=outcome)


def _sealed(value: str) -> str:
    return _fernet.encrypt(value.encode()).decode()


def sign(count: int) -> Callable[[], None]:
    """The signature alone, with the key in memory."""
    key = ClientKey.objects.filter(algorithm="ES256")[0]
    return repeated(partial(key.sign, b"x" * 300), count)


def document(count: int) -> Callable[[], None]:
    pk = ClientRegistration.objects.get(owner=f"owner {OWNERS['metadata_document']}").pk
    request = RequestFactory().get("/bare.json", {"pk": pk})
    return repeated(partial(bare_document, request), count)


def keys(count: int) -> Callable[[], None]:
    return repeated(partial(bare_keys, RequestFactory().get("/keys.json")), count)

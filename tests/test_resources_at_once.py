"""Many processes that ask for a client of one resource: one row, one document, one client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from django_dcr import services
from django_dcr.models import ClientRegistration, ProtectedResource
from tests.authorization_server import AuthorizationServer as FakeServer
from tests.factories import WISHES, in_threads

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("database_file")]


class ResourceServer(FakeServer):
    """A server that is a resource, too, and has one document for both."""

    @property
    def resource(self) -> str:
        return f"{self.issuer}/mcp"

    def metadata(self) -> dict[str, Any]:
        return {
            **super().metadata(),
            "code_challenge_methods_supported": ["S256"],
            "resource": self.resource,
            "authorization_servers": [self.issuer],
        }

    def asked_for(self, document: str) -> int:
        """How often a document was fetched, by the name of its well-known place."""
        return sum(f"/.well-known/{document}" in request for request in self.requests)


@pytest.fixture
def server(settings: Any) -> Iterator[ResourceServer]:
    with ResourceServer() as server:
        settings.DCR_INTERNAL_ORIGINS = [server.issuer]
        settings.DCR_CLIENT_METADATA = WISHES
        yield server


def test_callers_at_once_get_one_client(server: ResourceServer) -> None:
    """Promise 1, R-148."""
    server.while_handling["POST"] = lambda document: time.sleep(0.2)

    def call() -> str:
        return services.get_or_register_for(server.resource, "bob").client_id

    assert in_threads(*[call] * 8) == ["c1"] * 8
    assert server.asked("POST") == 1
    assert ClientRegistration.objects.get().status == "active"
    assert ProtectedResource.objects.get().known_issuers == [server.issuer]


def test_a_stale_document_is_fetched_by_one_of_many(server: ResourceServer) -> None:
    """The others are served the last good one, and wait for nobody."""
    services.get_or_register_for(server.resource, "bob")
    ProtectedResource.objects.update(fresh_until=now() - timedelta(seconds=1))
    server.requests.clear()
    server.while_handling["GET"] = lambda document: time.sleep(0.3)

    def call() -> str:
        return services.get_or_register_for(server.resource, "bob").client_id

    assert in_threads(*[call] * 6) == ["c1"] * 6
    assert server.asked_for("oauth-protected-resource") == 1
    assert server.asked("POST") == 0
    assert ProtectedResource.objects.get().is_fresh


def test_callers_at_once_note_every_server(server: ResourceServer) -> None:
    row = services.discover_resource(server.resource)
    rows = [ProtectedResource.objects.get(pk=row.pk) for _ in range(4)]
    issuers = [f"https://as{number}.example" for number in range(4)]
    calls = [lambda r=r, i=i: r.record_issuer(i) for r, i in zip(rows, issuers, strict=True)]
    in_threads(*calls)
    assert sorted(ProtectedResource.objects.get().known_issuers) == issuers

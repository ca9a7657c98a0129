from __future__ import annotations

from typing import Any

import pytest
import responses

from django_dcr import services
from django_dcr.models import ProtectedResource
from tests.factories import ISSUER, WELL_KNOWN, server_metadata

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock

RESOURCE = "https://mcp.example/mcp"
PLACE = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
ROOT = "https://mcp.example/.well-known/oauth-protected-resource"


def resource_metadata(**changes: Any) -> dict[str, Any]:
    return {"resource": RESOURCE, "authorization_servers": [ISSUER], **changes}


def test_a_resource_leads_to_a_client(mocked_responses: Stubs, settings: Any) -> None:
    settings.DCR_CLIENT_METADATA = {"redirect_uris": ["https://site.example/callback"]}
    mocked_responses.get(PLACE, json=resource_metadata())
    pkce = {"code_challenge_methods_supported": ["S256"]}
    mocked_responses.get(WELL_KNOWN, json=server_metadata(**pkce))
    mocked_responses.post(
        "https://as.example/register", json={"client_id": "c1", "client_secret": "s1"}, status=201
    )
    registration = services.get_or_register_for(RESOURCE, "acme")
    assert (registration.client_id, registration.server.issuer) == ("c1", ISSUER)
    assert services.get_or_register_for(RESOURCE, "acme").pk == registration.pk
    row = ProtectedResource.objects.get()
    assert (row.metadata_url, row.known_issuers) == (PLACE, [ISSUER])

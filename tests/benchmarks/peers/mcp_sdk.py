"""The MCP Python SDK's registration, with two Fernet values of each client stored in SQLite."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial

from answering import IN_FLIGHT, WISHES, Store, answer, in_flight
from mcp.client.auth.utils import (
    create_client_registration_request,
    create_oauth_metadata_request,
    handle_auth_metadata_response,
    handle_registration_response,
)
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientMetadata, OAuthMetadata

server, folder = sys.argv[1:]
store = Store(f"{folder}/mcp.sqlite3")
wishes = OAuthClientMetadata.model_validate(WISHES)
loop = asyncio.new_event_loop()
client = create_mcp_http_client()


async def _discover(issuer: str, path: str) -> OAuthMetadata:
    url = f"{server}/.well-known/oauth-authorization-server{path}"
    _, metadata = await handle_auth_metadata_response(
        await client.send(create_oauth_metadata_request(url))
    )
    assert metadata
    return metadata


async def _register(metadata: OAuthMetadata) -> None:
    request = create_client_registration_request(metadata, wishes, server)
    issued = await handle_registration_response(await client.send(request))
    token = f"token of {issued.client_id}"  # the SDK keeps none
    store.insert(
        issued.client_id or "", issued.client_secret or "", token, issued.model_dump_json()
    )


def register(path: str, limit: int, count: int) -> Callable[[], None]:
    metadata = loop.run_until_complete(_discover(server + path, path))
    return lambda: loop.run_until_complete(in_flight(count, partial(_register, metadata), limit))


answer(
    {
        "register": partial(register, "", 1),
        "register at once": partial(register, "/slow", IN_FLIGHT),
    }
)

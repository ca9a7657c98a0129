"""The MCP Python SDK's registration, with two Fernet values of each client stored in SQLite."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from answering import IN_FLIGHT, PROCESSES, WISHES, Store, answer, in_flight
from mcp.client.auth.utils import (
    create_client_registration_request,
    create_oauth_metadata_request,
    handle_auth_metadata_response,
    handle_registration_response,
)
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientMetadata, OAuthMetadata

server, folder = sys.argv[1:]
wishes = OAuthClientMetadata.model_validate(WISHES)


class Client:
    """The SDK's client, with its own connections to servers and to the database."""

    def __init__(self, path: str) -> None:
        self.store = Store(f"{folder}/mcp.sqlite3")
        self.loop = asyncio.new_event_loop()
        self.http = create_mcp_http_client()
        self.metadata = self.loop.run_until_complete(self._discover(server + path, path))

    async def _discover(self, issuer: str, path: str) -> OAuthMetadata:
        url = f"{server}/.well-known/oauth-authorization-server{path}"
        _, metadata = await handle_auth_metadata_response(
            await self.http.send(create_oauth_metadata_request(url))
        )
        assert metadata
        return metadata

    async def _register(self) -> None:
        request = create_client_registration_request(self.metadata, wishes, server)
        issued = await handle_registration_response(await self.http.send(request))
        token = f"token of {issued.client_id}"  # the SDK keeps none
        self.store.insert(
            issued.client_id or "", issued.client_secret or "", token, issued.model_dump_json()
        )

    def register(self, count: int, limit: int = 1) -> None:
        self.loop.run_until_complete(in_flight(count, self._register, limit))


def register(count: int) -> Callable[[], None]:
    return partial(Client("").register, count)


def register_at_once(count: int) -> Callable[[], None]:
    """In as many processes as ours, which are there already, and have clients."""
    pool = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("fork"), _begin)
    share, limit = count // PROCESSES, IN_FLIGHT // PROCESSES
    list(pool.map(time.sleep, [0.5] * PROCESSES))

    def run() -> None:
        list(pool.map(_in_process, [share] * PROCESSES, [limit] * PROCESSES))
        pool.shutdown()

    return run


def _begin() -> None:
    global _client
    _client = Client("/slow")


def _in_process(count: int, limit: int) -> None:
    _client.register(count, limit)


answer({"register": register, "register at once": register_at_once})

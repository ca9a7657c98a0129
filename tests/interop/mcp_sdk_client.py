"""The MCP Python SDK's own client, at one tool server: connects, consents, calls a tool.

A program of its own, run in an environment of its own. Takes the tool server's address, its
redirect URI, and the URL of a metadata document that is its client, or nothing.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)


class Memory:
    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Person:
    """Goes where they are sent, and comes back: the server consents for everybody."""

    place = ""

    async def leave(self, url: str) -> None:
        async with httpx2.AsyncClient() as browser:
            self.place = (await browser.get(url)).headers["location"]

    async def come_back(self) -> AuthorizationCodeResult:
        query = parse_qs(urlsplit(self.place).query)
        return AuthorizationCodeResult(**{name: values[0] for name, values in query.items()})


async def main(url: str, redirect_uri: str, document: str | None = None) -> None:
    person = Person()
    auth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="Shop",
            redirect_uris=[redirect_uri],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="none" if document else "client_secret_post",
        ),
        storage=Memory(),
        redirect_handler=person.leave,
        callback_handler=person.come_back,
        client_metadata_url=document,
    )
    async with create_mcp_http_client(auth=auth) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode="legacy") as client:
            print((await client.call_tool("double", {"number": 21})).content[0].text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

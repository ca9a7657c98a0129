"""A tool server and its authorization server, both of the MCP Python SDK, on a free loopback port.

A program of its own, run in an environment of its own. With a tool, and with a door for the tests
under /-/: what was asked for, what was issued, and what the tool server says of itself from now
on. Prints one line of JSON when it is ready. The argument is "registration"; "no default scopes",
the same without that option of the SDK; or "documents": then clients are the documents at their
URLs, which this program fetches, for the SDK does not.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs

import httpx2
import uvicorn
from mcp.server.auth.handlers.metadata import MetadataHandler
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_metadata
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, ProtectedResourceMetadata
from mcp_server import Memory
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What a client may ask for that did not say so.
SCOPES = "read write"


class Provider(Memory):
    """What the SDK asks of a server, with documents and with the tokens of another server."""

    def __init__(self, *, documents: bool) -> None:
        super().__init__()
        self.documents = documents
        #: The other servers whose tokens count here, as the tool server's metadata says.
        self.others: list[str] = []

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        if not self.documents or not client_id.startswith("https://"):
            return await super().get_client(client_id)
        # SSL_CERT_FILE names the authority.
        async with httpx2.AsyncClient(verify=ssl.create_default_context()) as client:
            answer = await client.get(client_id)
        document = OAuthClientInformationFull(**{**answer.json(), "scope": SCOPES})
        return document if document.client_id == client_id else None

    async def load_access_token(self, token: str) -> AccessToken | None:
        for other in self.others:
            async with httpx2.AsyncClient() as client:
                answer = await client.get(f"{other}/-/tokens/{token}")
            if answer.status_code == 200:
                return AccessToken(**answer.json())
        return self.tokens.get(token)


class Records:
    """Keeps what was asked for: the method, the path, and the names of the parameters."""

    def __init__(self, app: ASGIApp, records: list[dict[str, Any]]) -> None:
        self.app = app
        self.records = records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self.app(scope, receive, send)
            return
        received = [await receive()]
        while received[-1].get("more_body"):
            received.append(await receive())
        body = b"".join(message.get("body", b"") for message in received)
        self.records.append(_record(Request(scope), body))
        waiting = iter(received)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        await self.app(scope, again, send)


def _record(request: Request, body: bytes) -> dict[str, Any]:
    parameters = dict(request.query_params)
    if request.url.path == "/register":
        parameters = json.loads(body)
    elif request.method == "POST" and request.url.path != "/mcp":
        parameters = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    return {
        "method": request.method,
        "path": request.url.path,
        "parameters": parameters,
        "authorization": request.headers.get("authorization", "").partition(" ")[0],
    }


def main(variant: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    place = f"http://127.0.0.1:{listener.getsockname()[1]}"
    provider = Provider(documents=variant == "documents")
    registration = ClientRegistrationOptions(
        enabled=not provider.documents,
        default_scopes=None if variant == "no default scopes" else SCOPES.split(),
    )
    settings = AuthSettings(
        issuer_url=place,
        resource_server_url=f"{place}/mcp",
        required_scopes=["read"],
        client_registration_options=registration,
        validate_token_resource=True,
    )
    server = MCPServer("Tools", auth_server_provider=provider, auth=settings, log_level="WARNING")

    @server.tool()
    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    # What the tool server says of itself: changed through the door.
    said: dict[str, Any] = {"authorization_servers": [place], "scopes_supported": ["read"]}
    records: list[dict[str, Any]] = []

    async def resource_metadata(_request: Request) -> JSONResponse:
        document = ProtectedResourceMetadata(resource=f"{place}/mcp", **said)
        return JSONResponse(document.model_dump(mode="json", exclude_none=True))

    async def change(request: Request) -> JSONResponse:
        said.update(await request.json())
        guard.required_scopes = said["scopes_supported"]
        provider.others = [url for url in said["authorization_servers"] if url != place]
        return JSONResponse(said)

    async def requests(_request: Request) -> JSONResponse:
        found, records[:] = list(records), []
        return JSONResponse(found)

    async def token(request: Request) -> JSONResponse:
        known = provider.tokens.get(request.path_params["token"])
        return JSONResponse(known.model_dump() if known else {}, 200 if known else 404)

    app = server.streamable_http_app()
    guard = next(
        route.endpoint
        for route in app.routes
        if isinstance(getattr(route, "endpoint", None), RequireAuthMiddleware)
    )
    app.routes[:0] = [
        Route("/.well-known/oauth-protected-resource/mcp", resource_metadata),
        Route("/-/resource", change, methods=["PATCH"]),
        Route("/-/requests", requests),
        Route("/-/tokens/{token}", token),
    ]
    if provider.documents:
        metadata = build_metadata(settings.issuer_url, None, registration, RevocationOptions())
        metadata.client_id_metadata_document_supported = True
        metadata.token_endpoint_auth_methods_supported = ["none"]
        well_known = "/.well-known/oauth-authorization-server"
        app.routes.insert(0, Route(well_known, MetadataHandler(metadata).handle))
    app.user_middleware.insert(0, Middleware(Records, records=records))
    print(json.dumps({"version": version("mcp"), "url": f"{place}/mcp"}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])

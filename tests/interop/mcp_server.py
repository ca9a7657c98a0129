"""The authorization server of the MCP Python SDK, on a free loopback port, in one variant.

A program of its own, run in an environment of its own. The SDK has the endpoints, and leaves it
to a server to keep clients and tokens, here in memory. Has a door for the tests under /-/, and
prints one line of JSON when it is ready.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time
from importlib.metadata import version

import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

LIFETIME = 3600


class Memory:
    """What the SDK asks of a server: everybody is logged in and consents."""

    def __init__(self) -> None:
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.tokens: dict[str, AccessToken] = {}

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(
        self, client: OAuthClientInformationFull, params: AuthorizationParams
    ) -> str:
        code = secrets.token_urlsafe(32)
        self.codes[code] = AuthorizationCode(
            code=code,
            client_id=client.client_id,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        token = secrets.token_urlsafe(32)
        self.tokens[token] = AccessToken(
            token=token,
            client_id=str(client.client_id),
            scopes=authorization_code.scopes,
            resource=authorization_code.resource,
        )
        scope = " ".join(authorization_code.scopes)
        return OAuthToken(access_token=token, expires_in=60, scope=scope or None)


memory = Memory()


async def client(request: Request) -> JSONResponse:
    known = memory.clients.get(request.path_params["client_id"])
    if known is None:
        return JSONResponse({}, 404)
    if request.method == "DELETE":
        del memory.clients[known.client_id]
    if request.method == "PATCH":
        known.client_secret_expires_at = 1
    return JSONResponse({"client_name": known.client_name})


def main(variant: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    place = f"http://127.0.0.1:{listener.getsockname()[1]}"
    lifetime = LIFETIME if variant == "secret lifetime" else None
    # The URL type adds the slash; the SDK's own settings keep an issuer as it was written.
    issuer = AnyHttpUrl(place)
    if variant != "trailing-slash issuer":
        issuer = AuthSettings(issuer_url=place, resource_server_url=None).issuer_url
    routes = create_auth_routes(
        memory,
        issuer,
        client_registration_options=ClientRegistrationOptions(
            enabled=True, client_secret_expiry_seconds=lifetime
        ),
    )
    door = Route("/-/clients/{client_id}", client, methods=["GET", "PATCH", "DELETE"])
    app = Starlette(routes=[*routes, door])
    print(json.dumps({"version": version("mcp"), "issuer": str(issuer)}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])

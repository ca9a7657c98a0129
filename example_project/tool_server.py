"""A tool server (MCP) whose tokens the authorization server of the example site issues.

It stands for a third party's: it shares nothing with the site, and asks the authorization server
about each token (RFC 7662). Needs the MCP Python SDK (the extra "example-mcp"). Prints a line of
JSON with its address when it is ready, and another for each call.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

import anyio.to_thread
import requests
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The scope that every call needs, and the one that changes need, too.
READ, WRITE = "tools", "tools:write"
#: The tools that change something.
CHANGING = {"remember"}

notes: dict[str, list[str]] = {}


def whoami() -> str:
    """Say whose token this is."""
    token = _called("whoami")
    return f"You are {token.subject}."


def remember(text: str) -> str:
    """Keep a note of yours."""
    mine = notes.setdefault(str(_called("remember").subject), [])
    mine.append(text)
    return f"Noted. You have {len(mine)}."


def recall() -> str:
    """Read your notes."""
    mine = notes.get(str(_called("recall").subject), [])
    return "\n".join(mine) or "You have no notes."


def _called(tool: str) -> AccessToken:
    """Record the call; return the token, which the SDK has checked."""
    token = get_access_token()
    if token is None:
        raise PermissionError("no token")
    _print({"tool": tool, "user": token.subject, "client_id": token.client_id})
    return token


class Introspection:
    """Asks the authorization server whether a token is valid, and for whom and what."""

    def __init__(self, issuer: str, resource: str) -> None:
        self.endpoint = f"{issuer}/introspect/"
        self.resource = resource
        self.credentials = os.environ["TOOL_SERVER_CLIENT"], os.environ["TOOL_SERVER_SECRET"]

    async def verify_token(self, token: str) -> AccessToken | None:
        claims = await anyio.to_thread.run_sync(self._ask, token)
        if not claims.get("active"):
            return None
        audience = claims.get("aud") or []
        return AccessToken(
            token=token,
            client_id=claims.get("client_id", ""),
            scopes=claims.get("scope", "").split(),
            expires_at=claims.get("exp"),
            # The SDK refuses a token that was issued for another resource (RFC 8707).
            resource=self.resource if self.resource in audience else None,
            subject=claims.get("username"),
        )

    def _ask(self, token: str) -> dict[str, Any]:
        form = {"token": token}
        answer = requests.post(self.endpoint, form, auth=self.credentials, timeout=10)
        answer.raise_for_status()
        claims: dict[str, Any] = answer.json()
        return claims


class StepUp:
    """Refuses to call a tool that changes something with a token that may only read.

    The challenge names all scopes that the call needs (RFC 6750 section 3.1).
    """

    def __init__(self, app: ASGIApp, metadata_url: str) -> None:
        self.app = app
        self.challenge = (
            f'Bearer error="insufficient_scope", scope="{READ} {WRITE}", '
            f'resource_metadata="{metadata_url}"'
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or "auth" not in scope:
            await self.app(scope, receive, send)
            return
        received = await _body(receive)
        changes = _tool(b"".join(message.get("body", b"") for message in received)) in CHANGING
        if changes and READ in scope["auth"].scopes and WRITE not in scope["auth"].scopes:
            headers = {"WWW-Authenticate": self.challenge}
            await JSONResponse({"error": "insufficient_scope"}, 403, headers)(scope, receive, send)
            return
        waiting = iter(received)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        await self.app(scope, again, send)


async def _body(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _tool(body: bytes) -> str:
    try:
        message = json.loads(body)
        return str(message["params"]["name"]) if message["method"] == "tools/call" else ""
    except (ValueError, LookupError, TypeError):
        return ""


def _print(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


def _end_at_eof() -> None:
    """End when the process that started this one has ended, in whatever way."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--port", type=int, default=0, help="if it is free; else any")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin is closed")
    options = parser.parse_args()
    if options.until_eof:
        threading.Thread(target=_end_at_eof, daemon=True).start()
    try:
        listener = socket.create_server(("127.0.0.1", options.port))
    except OSError:  # the port is taken
        listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    resource = f"{origin}/mcp"
    server = MCPServer(
        "Notes",
        tools=[],
        token_verifier=Introspection(options.issuer, resource),
        log_level="WARNING",
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(options.issuer),
            resource_server_url=AnyHttpUrl(resource),
            required_scopes=[READ],
            validate_token_resource=True,
        ),
    )
    for tool in (whoami, remember, recall):
        server.add_tool(tool)
    app = server.streamable_http_app()
    # The innermost, where the token is known.
    place = f"{origin}/.well-known/oauth-protected-resource/mcp"
    app.user_middleware.append(Middleware(StepUp, metadata_url=place))
    _print({"url": resource})
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

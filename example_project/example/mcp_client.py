"""The messages of MCP that a site needs to use the tools of a server (revision 2025-11-25).

Synchronous, over ``requests``, whose session django-dcr limits: allowed addresses, seconds, bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from django_dcr.services import parse_challenge
from django_dcr.transport import harden_session

REVISION = "2025-11-25"


class ToolError(Exception):
    """The server's response is an error, or not one of this protocol."""


class AuthorizationNeededError(Exception):
    """The server requires a token, another one, or one with more scopes."""

    def __init__(self, challenge: str, *, is_step_up: bool) -> None:
        #: The header WWW-Authenticate (RFC 6750 section 3).
        self.challenge = challenge
        #: Whether the token is valid, but lacks a scope.
        self.is_step_up = is_step_up
        super().__init__("The tool server requires a token.")


class ToolServer:
    """An MCP server at an address, called with a token for it, or without any."""

    def __init__(self, url: str, access_token: str = "") -> None:
        self.url = url
        self.session = harden_session(requests.Session(), url)
        self.session.headers["Accept"] = "application/json, text/event-stream"
        if access_token:
            self.session.headers["Authorization"] = f"Bearer {access_token}"
        self._requests = 0

    def connect(self) -> dict[str, Any]:
        """Begin a session; return the server's description of itself."""
        about = {"name": "django-dcr example", "version": "1"}
        capabilities: dict[str, Any] = {}
        offer = {"protocolVersion": REVISION, "capabilities": capabilities, "clientInfo": about}
        result = self.ask("initialize", offer)
        self.session.headers["MCP-Protocol-Version"] = result.get("protocolVersion", REVISION)
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return result

    def tools(self) -> list[dict[str, Any]]:
        result = self.ask("tools/list")
        with _understood():
            return [tool for tool in result["tools"] if isinstance(tool["name"], str)]

    def call(self, tool: str, arguments: dict[str, Any]) -> str:
        """Call a tool; return the text of its answer."""
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        with _understood():
            parts = [part["text"] for part in result["content"] if part.get("type") == "text"]
            text = "\n".join(parts)
        if result.get("isError"):
            raise ToolError(text)
        return text

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request (JSON-RPC 2.0); return its result."""
        self._requests += 1
        message = {"jsonrpc": "2.0", "id": self._requests, "method": method, "params": params or {}}
        response = self._post(message)
        with _understood():
            answers = [each for each in _messages(response) if each.get("id") == self._requests]
            answer = answers[0]
            if "error" in answer:
                raise ToolError(str(answer["error"]["message"]))
            result: dict[str, Any] = {**answer["result"]}
        return result

    def _post(self, message: dict[str, Any]) -> requests.Response:
        response = self.session.post(self.url, json=message)
        challenge = response.headers.get("WWW-Authenticate", "")
        wants_more = parse_challenge(challenge).error == "insufficient_scope"
        if response.status_code == 401 or (response.status_code == 403 and wants_more):
            raise AuthorizationNeededError(challenge, is_step_up=response.status_code == 403)
        if not response.ok:
            raise ToolError(
                f"No tool server answers at this address (status {response.status_code}). Check "
                "that it is the whole address, with its path."
            )
        if session_id := response.headers.get("Mcp-Session-Id"):
            self.session.headers["Mcp-Session-Id"] = session_id
        return response


@contextmanager
def _understood() -> Iterator[None]:
    """Raise ToolError for any response that is malformed."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise ToolError("The tool server's response is not MCP. Check the address.") from exc


def _messages(response: requests.Response) -> list[dict[str, Any]]:
    """Return the messages in a response: one, or those of a stream."""
    text = response.content.decode()
    if response.headers.get("Content-Type", "").startswith("text/event-stream"):
        events = text.replace("\r\n", "\n").split("\n\n")
        return [json.loads(data) for data in map(_data, events) if data]
    return [json.loads(text)] if text else []


def _data(event: str) -> str:
    lines = [line[5:] for line in event.split("\n") if line.startswith("data:")]
    return "\n".join(lines).strip()

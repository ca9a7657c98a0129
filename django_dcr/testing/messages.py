"""Requests to the server, and its responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django_dcr.transport import Reply

#: The endpoints of a server.
ENDPOINTS = (
    "metadata",
    "registration",
    "configuration",
    "authorization",
    "token",
    "userinfo",
    "jwks",
)

#: A status and a document, which is sent as JSON.
Answer = tuple[int, dict[str, Any]]


class LoginRefusedError(AssertionError):
    """The server shows the user an error and does not redirect them (RFC 6749 section 4.1.2.1)."""


@dataclass(frozen=True)
class Request:
    """A request as the server received it."""

    #: One of ``ENDPOINTS``, or "" for an address that is none of them.
    endpoint: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters in the URL."""
        return dict(parse_qsl(urlsplit(self.url).query))

    @cached_property
    def form(self) -> dict[str, str]:
        """The parameters of a form, as sent to the token endpoint."""
        return dict(parse_qsl(self.body.decode()))

    @cached_property
    def json(self) -> Any:
        """The document in the body, as sent to the registration endpoint; {} for none."""
        return json.loads(self.body or b"{}")

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")

    @property
    def bearer_token(self) -> str:
        """The bearer token (RFC 6750 section 2.1), or ""."""
        scheme, _, token = self.authorization.partition(" ")
        return token if scheme == "Bearer" else ""


def reply(status: int, document: Mapping[str, Any]) -> Reply:
    """Return a response with a JSON document, or with none where the status is 204."""
    if status == 204:
        return Reply(status, {}, b"")
    body = json.dumps(document).encode()
    return Reply(status, {"Content-Type": "application/json", "Cache-Control": "no-store"}, body)


def error(status: int, code: str, description: str = "") -> Answer:
    """Return an OAuth error response (RFC 6749 section 5.2)."""
    words = {"error_description": description} if description else {}
    return status, {"error": code, **words}

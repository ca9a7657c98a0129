"""A fast authorization server on loopback, for clients to be measured against.

::

    python -m tests.benchmarks.server CORE

It keeps nothing: what it says of a client follows from the client's id and the request. An
issuer identifier with the path "/slow" answers after 20 ms, one with "/renewing" issues, at
each update, a new secret that lasts a year, one with "/refusing" registers nobody, and one with
"/silent" never answers. When those with "/paced" got their requests is told at "/moments". The
base of the issuers is its first line of output.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sys
import time
from typing import Any

SECRET, TOKEN = "a client secret of some length, as usual", "a-registration-access-token"
SLOW = 0.02  # seconds
DAY = 86_400
YEAR = 365 * DAY

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REASONS = {200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request"}
_numbers = itertools.count(1)
_moments: dict[str, list[float]] = {}


class Connection(asyncio.Protocol):
    """One client's connection, on which requests follow each other."""

    base = ""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(_HEAD_END)
        length = _LENGTH.search(head)
        missing = int(length[1]) - len(rest) if length else 0
        if not end or missing > 0:
            return
        self.received = b""
        method, path, _version = head.partition(b"\r\n")[0].decode().split(" ")
        answer = _answer(self.base, method, path, json.loads(rest) if rest else {})
        if "/silent" in path:
            return
        if "/slow" in path:
            asyncio.get_running_loop().call_later(SLOW, self.transport.write, answer)
        else:
            self.transport.write(answer)


def _answer(base: str, method: str, path: str, wishes: dict[str, Any]) -> bytes:
    if path.startswith("/.well-known/"):
        _, _, _document, *issuer = path.split("/", 3)
        return _http(200, _metadata("/".join([base, *issuer])))
    if path == "/moments":
        return _http(200, _moments)
    endpoint, _, client_id = path.partition("/register")
    if "/paced" in endpoint:
        _moments.setdefault(base + endpoint, []).append(time.time())
    if method == "POST" and endpoint.endswith("/refusing"):
        return _http(400, {"error": "invalid_client_metadata"})
    if method == "POST":
        return _http(201, _client(base + endpoint, f"c{next(_numbers)}", wishes))
    if method == "DELETE":
        return _http(204, None)
    return _http(200, _client(base + endpoint, client_id.strip("/"), wishes))


def _metadata(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "registration_endpoint": f"{issuer}/register",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "mcp:read"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "jwks_uri": f"{issuer}/jwks",
    }


def _client(issuer: str, client_id: str, wishes: dict[str, Any]) -> dict[str, Any]:
    secret, expires = SECRET, 0
    if "/renewing" in issuer:
        expires = int(time.time()) + (YEAR if wishes else DAY)
        secret += f" {next(_numbers)}" if wishes else ""
    return {
        "redirect_uris": ["https://site.example/callback"],
        "client_name": "Benchmark",
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
        **wishes,
        "client_id": client_id,
        "client_id_issued_at": 1_700_000_000,
        "client_secret": secret,
        "client_secret_expires_at": expires,
        "registration_client_uri": f"{issuer}/register/{client_id}",
        "registration_access_token": TOKEN,
    }


def _http(status: int, document: dict[str, Any] | None) -> bytes:
    body = b"" if document is None else json.dumps(document).encode()
    kind = "Content-Type: application/json\r\n" if body else ""
    length = f"Content-Length: {len(body)}\r\n" if status != 204 else ""
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{kind}{length}\r\n".encode() + body


async def main(core: int) -> None:
    os.sched_setaffinity(0, {core})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=512)
    Connection.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(Connection.base, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

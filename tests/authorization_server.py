"""A small authorization server on loopback, with a memory that tests can look into.

It registers, shows, updates and deletes clients by RFC 7591 and RFC 7592. While it handles a
request, after doing what was asked and before it answers, it calls what a test has put into
``while_handling``: the place to look into the client's database, or to break something.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFUSAL = {"error": "invalid_client_metadata", "error_description": "not on the list"}


class AuthorizationServer(ThreadingHTTPServer):
    """A server on a free port, started and stopped by ``with``."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        #: The metadata and credentials of each client, by its client_id.
        self.clients: dict[str, dict[str, Any]] = {}
        #: Method and path of each request, in order.
        self.requests: list[str] = []
        #: By method: called with the document that will be answered, which it may change.
        self.while_handling: dict[str, Callable[[dict[str, Any]], None]] = {}
        #: Whether each response about a client issues a new token, and revokes the old one.
        self.rotates_tokens = False
        #: Whether an update issues a new secret.
        self.rotates_secrets = False
        #: The answer's client_secret_expires_at.
        self.secret_expires_at = 0
        #: Whether every registration is refused.
        self.refuses = False
        self.lock = threading.Lock()
        self._numbers = itertools.count(1)

    def __enter__(self) -> AuthorizationServer:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def metadata(self) -> dict[str, Any]:
        return {"issuer": self.issuer, "registration_endpoint": f"{self.issuer}/register"}

    def asked(self, method: str) -> int:
        """Return how many requests of this method were received."""
        return sum(request.startswith(f"{method} ") for request in self.requests)

    def register(self, wishes: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            client_id = f"c{next(self._numbers)}"
            self.clients[client_id] = client = {
                **wishes,
                "client_id": client_id,
                "registration_client_uri": f"{self.issuer}/register/{client_id}",
            }
            self._rotate(client, "client_secret", "registration_access_token")
            return dict(client)

    def manage(
        self, method: str, client_id: str, token: str, wishes: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        with self.lock:
            client = self.clients.get(client_id, {})
            if not client or token != client["registration_access_token"]:
                return 401, {"error": "invalid_token"}
            if method == "DELETE":
                return 204, self.clients.pop(client_id)
            client.update(wishes)
            if self.rotates_tokens:
                self._rotate(client, "registration_access_token")
            if self.rotates_secrets and method == "PUT":
                self._rotate(client, "client_secret")
            return 200, dict(client)

    def _rotate(self, client: dict[str, Any], *names: str) -> None:
        for name in names:
            client[name] = f"{name}-{next(self._numbers)}"
        if "client_secret" in names:  # no old secret gets a new lifetime
            client["client_secret_expires_at"] = self.secret_expires_at


class _Handler(BaseHTTPRequestHandler):
    server: AuthorizationServer

    def handle_any(self) -> None:
        server, method = self.server, self.command
        server.requests.append(f"{method} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wishes = json.loads(body) if body else {}
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.path.startswith("/.well-known/"):
            status, document = 200, server.metadata()
        elif method == "POST" and server.refuses:
            status, document = 400, REFUSAL
        elif method == "POST":
            status, document = 201, server.register(wishes)
        else:
            status, document = server.manage(method, self.path.split("/")[-1], token, wishes)
        server.while_handling.get(method, lambda document: None)(document)
        self.send_response(status)
        self.end_headers()
        if status != 204:
            self.wfile.write(json.dumps(document).encode())

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""

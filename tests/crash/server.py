"""An authorization server as a process of its own, slow and faulty as it is told to be.

It answers ``/inspect/...`` and ``/configure`` for the tests, promptly and without faults.
"""

# ruff: noqa: S311
from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.authorization_server import REFUSAL, AuthorizationServer

#: What a faulty server does; all but the first after it has done what was asked.
FAULTS = ("ignore", "hang up", "cut", "fail", "garbage", "wrong")


class FaultyServer(AuthorizationServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = _Handler
        #: Seconds from doing what was asked to the answer: at least, at most.
        self.latency = [0.0, 0.0]
        #: The method of the requests that are carried out and not answered, until the gate behind
        #: which they wait, whose name this is when they come, is among those that are open.
        self.held = ""
        self.gate = ""
        self.opened: list[str] = []
        #: The share of answers that are wrong.
        self.fault_rate = 0.0
        #: What a wrong answer may be.
        self.faults = FAULTS
        #: When each request came, in seconds of this process's clock.
        self.moments: list[float] = []
        #: POSTs by the client_name they asked for.
        self.posts: Counter[str] = Counter()
        self.methods: Counter[str] = Counter()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: those who ask are killed now and then."""

    def perform(self, method: str, path: str, token: str, wishes: Any) -> tuple[int, Any]:
        with self.lock:
            self.methods[method] += 1
            if method == "POST":
                self.posts[wishes["client_name"]] += 1
        if path.startswith("/.well-known/"):
            return 200, self.metadata()
        if method == "POST" and self.refuses:
            return 400, REFUSAL
        if method == "POST":
            return 201, self.register(wishes)
        return self.manage(method, path.split("/")[-1], token, wishes)


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wishes = json.loads(body) if body else {}
        if self.path == "/configure":
            vars(self.server).update(wishes)
            self._answer(200, {})
        elif self.path.startswith("/inspect/"):
            with self.server.lock:
                self._answer(200, getattr(self.server, self.path.removeprefix("/inspect/")))
        else:
            self._exchange(wishes)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _exchange(self, wishes: Any) -> None:
        server = self.server
        server.moments.append(time.monotonic())
        gate = server.gate if self.command == server.held else ""
        fault = random.choice(server.faults) if random.random() < server.fault_rate else ""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if fault == "ignore":
            server.requests.append(f"{self.command} {self.path} ignored")
            return
        status, document = server.perform(self.command, self.path, token, wishes)
        server.requests.append(f"{self.command} {self.path} {status} {fault}")
        if "register" in self.path:
            time.sleep(random.uniform(*server.latency))
        while gate and gate not in server.opened:
            time.sleep(0.01)
        if fault == "fail":
            status, document = 500, {}
        elif fault == "wrong":
            document = {**document, "client_id": "another"} if status == 200 else []
        if fault != "hang up":
            self._answer(status, document, fault)

    def _answer(self, status: int, document: Any, fault: str = "") -> None:
        body = b"" if status == 204 else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "garbage":
            body = random.randbytes(len(body))
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


if __name__ == "__main__":
    with FaultyServer() as running:
        print(running.issuer, flush=True)
        sys.stdin.read()  # until the tests are done

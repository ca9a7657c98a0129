"""A proxy before a database server, that loses COMMITs or the replies to them."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
import time
from urllib.parse import urlsplit, urlunsplit

# As PostgreSQL's protocol ends a statement, and as MariaDB's begins one.
_COMMIT = re.compile(rb"COMMIT\0|\x03COMMIT$")


class Proxy:
    """Listens on a free port; ``url`` leads through it to the server that ``behind`` names."""

    def __init__(self, behind: str) -> None:
        parts = urlsplit(behind)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        account, _at, _place = parts.netloc.rpartition("@")
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{account}@127.0.0.1:{port}"))
        #: How many COMMITs to lose, whether after the server has carried them out, and whether
        #: to refuse new connections from then on.
        self.losing = 0
        self.after_the_fact = False
        self.then_down = False
        self.is_down = False
        #: After how many more messages of a client to break all connections, and for how long.
        self.messages_left = 0
        self.outage = 0.0
        self._down_until = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def lose(self, number: int, *, after_the_fact: bool, then_down: bool) -> None:
        self.losing, self.after_the_fact, self.then_down = number, after_the_fact, then_down

    def cut(self, after: int, seconds: float) -> None:
        """Let the database be out of reach for a while, from a certain message on."""
        self.messages_left, self.outage = after, seconds

    def restore(self) -> None:
        self.losing, self.is_down = 0, False

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if not self.is_down and time.monotonic() >= self._down_until:
                with socket.create_connection(self._server) as server:
                    self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                if source is client and self.messages_left:
                    self.messages_left -= 1
                    if not self.messages_left:
                        self._down_until = time.monotonic() + self.outage
                        return
                if source is client and self.losing and _COMMIT.search(data):
                    self.losing -= 1
                    self.is_down = self.then_down and not self.losing
                    if self.after_the_fact:
                        server.sendall(data)
                        server.recv(65536)
                    return
                (server if source is client else client).sendall(data)

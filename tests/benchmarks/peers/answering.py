"""What each program that is measured does: it times what it is asked for, and says how long.

It stands alone: the peers run it in environments of their own.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping

from cryptography.fernet import Fernet

#: From a number of operations, outside of the time measured, to what performs them.
Workload = Callable[[int], Callable[[], object]]

#: How many registrations at once, and in how many processes.
IN_FLIGHT, PROCESSES = 16, 2
WISHES = {
    "client_name": "Benchmark",
    "redirect_uris": ["https://site.example/callback"],
    "grant_types": ["authorization_code"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "client_secret_basic",
}


def answer(workloads: Mapping[str, Workload]) -> None:
    """Read a name and a number a line; write how many nanoseconds that many operations took.

    Or "failed", with the reason on standard error.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        name, count = json.loads(line)
        try:
            perform = workloads[name](count)
            started = time.perf_counter_ns()
            perform()
            said = str(time.perf_counter_ns() - started)
        except Exception:  # noqa: BLE001 - the next operations may succeed
            traceback.print_exc()
            said = "failed"
        print(said, file=out, flush=True)


async def in_flight(count: int, act: Callable[[], Awaitable[object]], limit: int) -> None:
    """Await ``act()`` so many times, ``limit`` at once."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await act()

    await asyncio.gather(*(work() for _ in range(limit)))


class Store:
    """One table in SQLite, for peers that leave it to their users to store anything."""

    def __init__(self, file: str) -> None:
        self.fernet = Fernet(Fernet.generate_key())
        self.connection = sqlite3.connect(file, timeout=60, isolation_level=None)
        self.connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS client (id INTEGER PRIMARY KEY, client_id TEXT UNIQUE,"
            " secret TEXT, token TEXT, metadata TEXT)"
        )

    def insert(self, client_id: str, secret: str, token: str, metadata: str) -> None:
        sealed = [self.fernet.encrypt(value.encode()).decode() for value in (secret, token)]
        self.connection.execute(
            "INSERT INTO client (client_id, secret, token, metadata) VALUES (?, ?, ?, ?)",
            (client_id, *sealed, metadata),
        )

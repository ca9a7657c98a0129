"""What each program that is measured does: it times what it is asked for, and says how long.

It stands alone: the peers run it in environments of their own.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cryptography.fernet import Fernet

#: From a number of operations, outside of the time measured, to what performs them.
Workload = Callable[[int], Callable[[], object]]

IN_FLIGHT = 16
WISHES = {
    "client_name": "Benchmark",
    "redirect_uris": ["https://site.example/callback"],
    "grant_types": ["authorization_code"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "client_secret_basic",
}


def answer(workloads: Mapping[str, Workload]) -> None:
    """Read a name and a number a line; write how long that many took, and the memory they did.

    In nanoseconds, and KiB above what the process had before, or what a workload says itself.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        name, count = json.loads(line)
        perform = workloads[name](count)
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back: proc(5)
        before = memory("VmRSS")
        started = time.perf_counter_ns()
        said = perform()
        took = time.perf_counter_ns() - started
        grown = said if isinstance(said, int) else memory("VmHWM") - before
        print(took, grown, file=out, flush=True)


def memory(name: str) -> int:
    """Return what proc(5) says of this process under ``name``, in KiB."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


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
        self.connection = sqlite3.connect(file, isolation_level=None)
        self.connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE client (id INTEGER PRIMARY KEY, client_id TEXT UNIQUE,"
            " secret TEXT, token TEXT, metadata TEXT)"
        )

    def insert(self, client_id: str, secret: str, token: str, metadata: str) -> None:
        sealed = [self.fernet.encrypt(value.encode()).decode() for value in (secret, token)]
        self.connection.execute(
            "INSERT INTO client (client_id, secret, token, metadata) VALUES (?, ?, ?, ?)",
            (client_id, *sealed, metadata),
        )

"""The processes of the crash tests, seen from the test: one server, many workers."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.utils import timezone

from django_dcr.models import ClientRegistration
from tests.crash import worker

#: Seconds, that pass only where something hangs.
HANG = 900
ROOT = Path(__file__).parents[2]
CALLBACK = "https://site.example/callback"


# Forked from one process that has loaded Django: starting costs a worker hardly anything.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.crash.worker"])


class Server:
    """``tests.crash.server`` in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout
        self.issuer = self._process.stdout.readline().strip()
        self._gates = (f"gate {number}" for number in itertools.count())
        self._opened: list[str] = []

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def configure(self, **values: Any) -> None:
        """Set attributes of ``FaultyServer``."""
        self._ask("configure", json.dumps(values).encode())

    def hold(self, method: str) -> str:
        """Carry requests of this method out and do not answer; return the name of the gate."""
        gate = next(self._gates)
        self.configure(held=method, gate=gate)
        return gate

    def hold_no_more(self) -> None:
        """Answer what comes from now on."""
        self.configure(held="", gate="")

    def open(self, gate: str) -> None:
        """Answer what has waited at the gate."""
        self._opened.append(gate)
        self.configure(opened=self._opened)

    def inspect(self, name: str) -> Any:
        """Read such an attribute, now."""
        return self._ask(f"inspect/{name}")

    def count(self, method: str) -> int:
        """How many requests of this method have been carried out."""
        found: int = self.inspect("methods").get(method, 0)
        return found

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"{self.issuer}/{path}", body, timeout=HANG) as reply:  # noqa: S310
            return json.load(reply)


class Worker:
    """A process of the site, that does the jobs of ``tests.crash.worker``."""

    def __init__(self, *arguments: Any) -> None:
        self._pipe, other = _context.Pipe()
        self._process = _context.Process(target=worker.main, args=(other, *arguments))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid
        other.close()

    def start(self, job: str, *, at: float = 0, **arguments: Any) -> None:
        """Send it to work, at that time of the monotonic clock."""
        self._pipe.send({"job": job, "at": at, **arguments})

    def tell(self) -> None:
        """Say a word to a job that waits for one."""
        self._pipe.send(None)

    def result(self, seconds: float = HANG) -> dict[str, Any]:
        """What came of it: ``took`` seconds, and a ``value``, or the ``error`` and its text."""
        assert self._pipe.poll(seconds), f"No word from a worker for {seconds} s."
        outcome: dict[str, Any] = self._pipe.recv()
        assert "crash" not in outcome, outcome["crash"]
        return outcome

    def value(self) -> Any:
        """What a job brought that must succeed."""
        outcome = self.result()
        assert "value" in outcome, outcome
        return outcome["value"]

    def do(self, job: str, **arguments: Any) -> Any:
        """Do a job that must succeed, and return its value."""
        self.start(job, **arguments)
        return self.value()

    @property
    def is_working(self) -> bool:
        """Whether it has not reported yet."""
        return not self._pipe.poll()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


class Site:
    """A site that runs in many processes on one database, and its authorization server."""

    def __init__(self, database: str, stack: ExitStack, *, full: bool) -> None:
        self.database = database
        self.full = full
        self._stack = stack
        self.server = Server()
        stack.callback(self.server.stop)

    def size(self, *, short: int, full: int) -> int:
        return full if self.full else short

    def worker(self, database: str = "", **settings: Any) -> Worker:
        """Start a process of the site, with these settings beside the usual ones."""
        chosen = {
            "DCR_INTERNAL_ORIGINS": [self.server.issuer],
            "DCR_CLIENT_METADATA": {"client_name": "{owner}", "redirect_uris": [CALLBACK]},
            # A lease runs out when the test says so, and an exchange not at all.
            "DCR_TIMEOUT": HANG / 2,
            "DCR_LEASE": 2 * HANG,
            **settings,
        }
        process = Worker(database or self.database, self.server.issuer, chosen)
        self._stack.callback(process.kill)
        return process

    def expire_leases(self, **chosen: Any) -> int:
        """Let the leases run out that are held now; return how many those are."""
        held = ClientRegistration.objects.exclude(lease="").filter(**chosen)
        return held.update(lease_until=timezone.now().replace(year=2020, day=1))

    def workers(self, number: int, **settings: Any) -> list[Worker]:
        return [self.worker(**settings) for _ in range(number)]


def wait_until(
    condition: Callable[[], object], seconds: float = HANG, *, every: float = 0.01
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "What was waited for did not come about."
        time.sleep(every)


def busiest(moments: list[float], window: float) -> int:
    """The most of ``moments`` that are in any window of so many seconds."""
    first = most = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def moments(number: int, end: int) -> Iterator[int]:
    """So many numbers below ``end``, at random, in order."""
    yield from sorted(random.sample(range(end), number))

"""Measure this app against what it cannot be faster than, and beside its peers.

::

    python -m tests.benchmarks [NAME ...] [--rounds N] [--scale X] [--rows N]
        [--databases KIND,...] [--instructions] [--write FILE]

NAME is a workload of ``workloads.py``, or how some of their names begin, such as ``hit`` or
``grown``; also ``memory`` and ``peers``. Without one, everything is measured. Each program runs
in a process of its own and waits until it is asked. In each round ours does a workload and then
the other does it, so that a slow moment of the machine hits both; what counts are their ratios.
With ``--instructions``, cachegrind counts those of each operation as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import databases
from tests.benchmarks.counting import counted
from tests.benchmarks.processes import PEER_COMMANDS, Process, running, server
from tests.benchmarks.report import Report
from tests.benchmarks.workloads import COMMANDS, DATABASES, PEERS, WORKLOADS, Workload

SITE = [sys.executable, "-m", "tests.benchmarks.site"]
FEW = 1000
#: Up to so many operations a round are too slow for warming up.
_SINGLE = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some workloads instead of all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the operations a round")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the large tables")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--instructions", action="store_true", help="count them by cachegrind")
    parser.add_argument("--write", type=Path, help="the document; its figures go beside it")
    Run(parser.parse_args()).measure()


class Run:
    """One run: which workloads, on which databases, with which processes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.report = Report(options.rounds, options.rows)
        self.workloads = [each for each in WORKLOADS if self._is_meant(each.name)]
        self.peers = PEERS if self._is_meant("peers") else ()
        self.processes: dict[str, Process] = {}

    def _is_meant(self, name: str) -> bool:
        names = self.options.names
        return not names or any(name.startswith(each) for each in names)

    def measure(self) -> None:
        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            core = min(os.sched_getaffinity(0))
            self.base = stack.enter_context(server(core))
            self._start(stack)
            for number in range(self.options.rounds):
                self._round(number)
                took = time.monotonic() - started
                print(f"round {number + 1} after {took:.0f} s", file=sys.stderr)
        print(self.report.text())
        if self.options.write:
            self.report.write(self.options.write)

    # -- the processes -------------------------------------------------------------------------

    def _start(self, stack: contextlib.ExitStack) -> None:
        sizes = {"few": FEW}
        if any(each.process == "many" for each in self.workloads) or self._is_meant("memory"):
            sizes["many"] = self.options.rows
        for kind in self.options.databases.split(","):
            for name, rows in sizes.items():
                self._start_site(stack, f"{kind} {name}", kind, rows)
        wanted = {each.process for each in self.peers}
        wanted |= {each.other_process for each in self.workloads}
        for name, command in PEER_COMMANDS.items():
            if name in wanted:
                with self._excused(name):
                    log = self.folder / f"{name}.log"
                    program = running([*command(), self.base, self.folder], log)
                    self.processes[name] = stack.enter_context(program)

    def _start_site(self, stack: contextlib.ExitStack, name: str, kind: str, rows: int) -> None:
        with self._excused(name):
            url = stack.enter_context(databases.SERVERS[kind]())
            environment = {"BENCHMARK_SERVER": self.base, "DATABASE_URL": url}
            program = running([*SITE, str(rows)], self.folder / f"{name}.log", environment)
            self.processes[name] = stack.enter_context(program)
            if name == "sqlite few" and self.options.instructions:
                self._count(environment)
            if name.endswith("many") and self._is_meant("memory"):
                self._measure_memory(kind, environment)

    @contextlib.contextmanager
    def _excused(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
            print(f"{name}: {exc}", file=sys.stderr)
            self.report.absent[name] = type(exc).__name__

    def _count(self, environment: dict[str, str]) -> None:
        for workload in self.workloads:
            if workload.instructions:
                names = (workload.ours, workload.other)
                ours, other = counted(names, workload.instructions, environment)
                self.report.instructions[workload.name] = ours, other

    def _measure_memory(self, kind: str, environment: dict[str, str]) -> None:
        for line in COMMANDS:
            arguments = line.format(issuer=f"{self.base}/t7").split()
            command = [sys.executable, "-m", "tests.benchmarks.peak", *arguments]
            env = {**os.environ, **environment}
            said = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout
            self.report.memory[line.partition(" --issuer")[0], kind] = int(said) / 1024

    # -- a round -------------------------------------------------------------------------------

    def _round(self, number: int) -> None:
        for kind in self.options.databases.split(","):
            for workload in self.workloads:
                if number < workload.rounds:
                    with self._excused(f"{workload.name} on {kind}"):
                        self._measure(workload, kind)
        for peer in self.peers:
            key = f"{peer.name}: {peer.title}"
            ours, theirs = self.processes.get("sqlite few"), self.processes.get(peer.process)
            if ours and theirs:
                few = self._count_of(200)
                pair = _measured(ours, peer.ours, few), _measured(theirs, peer.does, peer.count)
                self.report.add(key, "sqlite", few, *pair)

    def _measure(self, workload: Workload, kind: str) -> None:
        other_name = workload.other_process
        ours = self.processes.get(f"{kind} {workload.process}")
        other = self.processes.get(f"{kind} {other_name}") or self.processes.get(other_name)
        if ours is None or other is None:
            return
        count = self._count_of(workload.count)
        theirs = workload.other.partition(": ")[2] or workload.other
        pair = _measured(ours, workload.ours, count), _measured(other, theirs, count)
        self.report.add(workload.name, kind, count, *pair)

    def _count_of(self, count: int) -> int:
        return max(1, int(count * self.options.scale))


def _measured(process: Process, workload: str, count: int) -> float:
    if _SINGLE < count <= 1000:  # the first operations after a rest find the caches cold
        process.measured(workload, max(1, count // 20))
    microseconds, _mebibytes = process.measured(workload, count)
    return microseconds


if __name__ == "__main__":
    main()

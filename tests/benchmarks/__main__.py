"""Measure this app against what it cannot be faster than, and beside its peers.

::

    python -m tests.benchmarks [NAME ...] [--rounds N] [--minutes N] [--scale X] [--rows N]
        [--databases KIND,...] [--write FILE]

NAME is a workload of ``workloads.py``, or how some of their names begin, such as ``hit`` or
``grown``; also ``memory``, ``jobs``, ``instructions`` and ``peers``. Without one, everything is
measured. Each program runs in a process of its own and waits until it is asked. In each round
ours does a workload and then the other does it, so that a slow moment of the machine hits both;
what counts are their ratios. What fails is reported, and the rest goes on.

The first round does everything once; the others are left out when the minutes are over, and what
does not depend on how busy the machine is comes last, in another ten.
``--scale 0.05 --rows 2000 --rounds 1`` tries the whole of it in a few minutes.
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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests import databases
from tests.benchmarks.counting import counted, counted_command
from tests.benchmarks.processes import PEER_COMMANDS, Process, running, server
from tests.benchmarks.report import Report
from tests.benchmarks.workloads import (
    COMMANDS,
    DATABASES,
    JOBS,
    MAX_SECONDS,
    PEERS,
    WORKLOADS,
    Workload,
)

SITE = [sys.executable, "-m", "tests.benchmarks.site"]
FEW = 1000
#: Up to so many operations a round are too slow for warming up.
_SINGLE = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some workloads instead of all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=22, help="begin no round after so many")
    parser.add_argument("--scale", type=float, default=1.0, help="of the operations a round")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the large tables")
    parser.add_argument("--databases", default=",".join(DATABASES))
    parser.add_argument("--write", type=Path, help="the document; its figures go beside it")
    Run(parser.parse_args()).measure()


class Run:
    """One run: which workloads, on which databases, with which processes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.kinds = options.databases.split(",")
        self.report = Report(options.rows, options.write, keep=bool(options.names))
        self.workloads = [each for each in WORKLOADS if self._is_meant(each.name)]
        self.peers = PEERS if self._is_meant("peers") else ()
        self.processes: dict[str, Process] = {}
        #: What the processes of a site find in their environment, by the site's name.
        self.environments: dict[str, dict[str, str]] = {}
        self.started = time.monotonic()

    def _is_meant(self, name: str) -> bool:
        names = self.options.names
        return not names or any(name.startswith(each) for each in names)

    def measure(self) -> None:
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            core = min(os.sched_getaffinity(0))
            self.base = stack.enter_context(server(core))
            self._start(stack)
            for number in range(self.options.rounds):
                if number and self._minutes() > self.options.minutes:
                    break
                self._round(number)
                if not number and self._is_meant("jobs"):
                    self._work_on_celery()
            self._measure_apart_from_time()
        self._say("done")
        print(self.report.text())

    def _minutes(self) -> float:
        return (time.monotonic() - self.started) / 60

    def _say(self, text: str) -> None:
        print(f"{self._minutes():5.1f} min: {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """Report what fails in the block as not measured, and go on."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - whatever it is, the rest is measured
            self._say(f"{name}: {type(exc).__name__}: {exc}")
            with self.report.lock:
                self.report.absent[name] = type(exc).__name__
        self.report.write()

    # -- the processes -------------------------------------------------------------------------

    def _start(self, stack: contextlib.ExitStack) -> None:
        """Start all at once, since a million rows take minutes, and wait for each."""
        wanted = {name for each in self.workloads for name in (each.process, each.other_process)}
        wanted |= {each.process for each in self.peers}
        if self.peers or self._is_meant("instructions") or self._is_meant("jobs"):
            wanted.add("few")
        if self._is_meant("memory"):
            wanted.add("many")
        rows = {"few": FEW, "thousand": FEW, "many": self.options.rows}
        for kind in self.kinds:
            for name in wanted & rows.keys():
                with self._reported(f"{name} rows on {kind}"):
                    self._start_site(stack, f"{kind} {name}", kind, rows[name])
        for name in wanted & PEER_COMMANDS.keys():
            with self._reported(name):
                self._start_process(stack, name, [*PEER_COMMANDS[name](), self.base, self.folder])
        for name, process in list(self.processes.items()):
            with self._reported(name):
                self.processes.pop(name)
                process.wait_until_ready()
                self.processes[name] = process
                self._say(f"{name} is ready")

    def _start_site(self, stack: contextlib.ExitStack, name: str, kind: str, rows: int) -> None:
        url = stack.enter_context(databases.SERVERS[kind]())
        self.environments[name] = {"BENCHMARK_SERVER": self.base, "DATABASE_URL": url}
        self._start_process(stack, name, [*SITE, str(rows)], self.environments[name])

    def _start_process(
        self,
        stack: contextlib.ExitStack,
        name: str,
        command: list[str | Path],
        environment: dict[str, str] | None = None,
    ) -> None:
        program = running(command, self.folder / f"{name}.log", environment)
        self.processes[name] = stack.enter_context(program)

    # -- a round -------------------------------------------------------------------------------

    def _round(self, number: int) -> None:
        for workload in self.workloads:
            if number < workload.rounds:
                for kind in self.kinds:
                    with self._reported(f"{workload.title} on {kind}"):
                        self._measure(workload, kind)
        for peer in self.peers:
            with self._reported(f"{peer.title}, {peer.name}"):
                ours, theirs = self.processes["sqlite few"], self.processes[peer.process]
                few = self._count_of(200)
                pair = _measured(ours, peer.ours, few), _measured(theirs, peer.does, peer.count)
                self.report.add(f"{peer.name}: {peer.title}", "sqlite", few, *pair)
        self._say(f"round {number + 1} is done")

    def _measure(self, workload: Workload, kind: str) -> None:
        name = workload.other_process
        ours = self.processes[f"{kind} {workload.process}"]
        other = self.processes[name if name in PEER_COMMANDS else f"{kind} {name}"]
        count = self._count_of(workload.count)
        theirs = workload.other.partition(": ")[2] or workload.other
        pair = _measured(ours, workload.ours, count), _measured(other, theirs, count)
        self.report.add(workload.name, kind, count, *pair)

    def _count_of(self, count: int) -> int:
        return max(1, int(count * self.options.scale))

    # -- what one round is enough for ----------------------------------------------------------

    def _work_on_celery(self) -> None:
        for kind in self.kinds:
            with self._reported(f"{JOBS.title} on {kind}"):
                self._work_on_celery_with(kind)
                self._say(f"jobs on {kind} are done")

    def _measure_apart_from_time(self) -> None:
        """Measure all at once what does not depend on how busy the machine is."""
        with ThreadPoolExecutor() as pool:
            if self._is_meant("memory"):
                for kind in self.kinds:
                    pool.submit(self._measure_memory, kind)
            if self._is_meant("instructions"):
                pool.submit(self._count_instructions)

    def _work_on_celery_with(self, kind: str) -> None:
        jobs = max(4, self._count_of(JOBS.count))
        command = [sys.executable, "-m", "tests.benchmarks.jobs", str(jobs)]
        env = {**os.environ, **self.environments[f"{kind} few"], "BENCHMARK_JOBS": "1"}
        said = subprocess.run(
            command, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=900
        )
        last, minimum, busiest = map(float, said.stdout.split())
        self.report.add(JOBS.name, kind, jobs, last * 1e6 / jobs, minimum * 1e6 / jobs)
        self.report.busiest[kind] = int(busiest)

    def _measure_memory(self, kind: str) -> None:
        for line in COMMANDS:
            with self._reported(f"the memory of {line} on {kind}"):
                env = {**os.environ, **self.environments[f"{kind} many"]}
                peak = [sys.executable, "-m", "tests.benchmarks.peak", str(MAX_SECONDS)]
                said = subprocess.run(
                    [*peak, *line.split()], env=env, check=True, stdout=subprocess.PIPE, text=True
                )
                kibibytes, ended = said.stdout.split()
                with self.report.lock:
                    self.report.memory[line, kind] = int(kibibytes) / 1024, ended == "yes"
                self._say(f"the memory of {line} on {kind} is measured")

    def _count_instructions(self) -> None:
        environment = self.environments["sqlite few"]
        with self._reported("instructions"):
            meant = [each for each in WORKLOADS if each.instructions]
            times = [
                (name, count)
                for each in meant
                for name in (each.ours, each.other)
                for count in each.instructions
            ]
            found = counted(list(dict.fromkeys(times)), environment, self.folder)
            for each in meant:
                few, more = each.instructions
                with self._reported(f"instructions of {each.title}"):
                    ours, other = (
                        (found[name, more] - found[name, few]) / (more - few)
                        for name in (each.ours, each.other)
                    )
                    with self.report.lock:
                        self.report.instructions[each.name] = ours, other
        with self._reported("instructions of manage.py check"):
            count = partial(counted_command, [sys.executable, "-m", "django", "check"])
            settings = {**environment, "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings"}
            bare = {**settings, "WITHOUT_DCR": "1"}
            ours, other = count(settings, self.folder), count(bare, self.folder)
            with self.report.lock:
                self.report.instructions["start"] = ours, other
        self._say("instructions are counted")


def _measured(process: Process, workload: str, count: int) -> float:
    if _SINGLE < count <= 1000:  # the first operations after a rest find the caches cold
        process.measured(workload, max(1, count // 20))
    return process.measured(workload, count)


if __name__ == "__main__":
    main()

"""Measure this app against what it cannot be faster than, and against its peers.

::

    python -m tests.benchmarks [--rounds N] [--scale X] [--rows N] [--write FILE]

Each program runs in a process of its own and waits until it is asked. In a round each of them
does each workload once, ours, the limit and the peers in turn, so that a slow moment of the
machine hits all alike. Figures are medians over the rounds, with their quartiles; what counts
are ratios within one run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import databases
from tests.benchmarks.processes import PEER_COMMANDS, Process, running, server
from tests.benchmarks.report import Report
from tests.benchmarks.workloads import CEILING, DATABASES, WORKLOADS

SITE = [sys.executable, "-m", "tests.benchmarks.site"]
FEW_ROWS = 1000
#: Up to so many operations a round are too slow for warming up.
_SINGLE = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the operations a round")
    parser.add_argument("--rows", type=int, default=100_000, help="in the large tables")
    parser.add_argument("--write", type=Path, help="the document; its figures go beside it")
    options = parser.parse_args()
    report = Report(options.rounds, options.rows)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        processes = _started(stack, report, options.rows)
        _round(processes, Report(0, 0), options.scale / 10)  # warms up, and is not counted
        for number in range(options.rounds):
            _round(processes, report, options.scale)
            print(f"round {number + 1} after {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(report.text())
    if options.write:
        report.write(options.write)


def _started(stack: contextlib.ExitStack, report: Report, rows: int) -> dict[str, Process]:
    """Start every program that can be had here; the report says which cannot."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    cores = sorted(os.sched_getaffinity(0))
    base = stack.enter_context(server(cores[0]))
    processes = {}
    for kind, size in ((kind, size) for kind in DATABASES for size in (FEW_ROWS, rows)):
        name = f"{kind} {'few' if size == FEW_ROWS else 'many'}"
        with _excused(report, name):
            url = stack.enter_context(databases.SERVERS[kind]())
            environment = {"BENCHMARK_SERVER": base, "DATABASE_URL": url}
            program = running([*SITE, str(size)], folder / f"{name}.log", environment)
            processes[name] = stack.enter_context(program)
    for name, command in PEER_COMMANDS.items():
        with _excused(report, name):
            program = running([*command(), base, folder], folder / f"{name}.log")
            processes[name] = stack.enter_context(program)
    return processes


@contextlib.contextmanager
def _excused(report: Report, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        print(f"{name}: {exc}", file=sys.stderr)
        report.absent[name] = type(exc).__name__


def _round(processes: Mapping[str, Process], report: Report, scale: float) -> None:
    for workload in (CEILING, *WORKLOADS):
        for contestant in workload.contestants:
            for database in contestant.databases:
                process = processes.get(f"{database} {contestant.process}".strip())
                if process is not None:
                    count = max(1, int(contestant.count * scale))
                    figures = _measured(process, contestant.name, count)
                    report.add(workload, contestant, database, *figures)


def _measured(process: Process, workload: str, count: int) -> tuple[float, float]:
    if count > _SINGLE:  # the process has rested, and the first operations find its caches cold
        process.measured(workload, max(1, count // 20))
    return process.measured(workload, count)


if __name__ == "__main__":
    main()

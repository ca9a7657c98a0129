"""The table of a run, as Markdown, and its figures as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.workloads import CEILING, OURS, WORKLOADS, Contestant, Target, Workload

BEGIN = "<!-- The text up to the next mark is written by `make bench`. -->\n"
END = "<!-- From here on by hand. -->\n"
_TITLES = {"sqlite": "SQLite (WAL)", "postgresql": "PostgreSQL", "": "SQLite of its own"}


class Report:
    """The figures of this run: microseconds an operation in each round, and memory."""

    def __init__(self, rounds: int, rows: int) -> None:
        self.rounds, self.rows = rounds, rows
        self.figures: dict[tuple[str, str, str], list[float]] = {}
        #: How much the memory grew at most, in MiB.
        self.memory: dict[tuple[str, str, str], float] = {}
        #: What could not be run, and why.
        self.absent: dict[str, str] = {}

    def add(
        self,
        workload: Workload,
        contestant: Contestant,
        database: str,
        microseconds: float,
        mebibytes: float,
    ) -> None:
        key = workload.title, contestant.title, database
        self.figures.setdefault(key, []).append(microseconds)
        self.memory[key] = max(mebibytes, self.memory.get(key, 0.0))

    def write(self, document: Path) -> None:
        """Write the table between the document's marks, and the figures beside it."""
        before, rest = document.read_text().split(BEGIN)
        after = rest.split(END)[1]
        document.write_text(f"{before}{BEGIN}\n{self.text()}\n{END}{after}")
        figures = [
            dict(zip(("workload", "of", "database"), key, strict=True))
            | {"microseconds": values, "mebibytes": self.memory[key]}
            for key, values in self.figures.items()
        ]
        about = {"rounds": self.rounds, "rows": self.rows, "with": _circumstances()}
        results = json.dumps({**about, "absent": self.absent, "figures": figures}, indent=1)
        document.with_suffix(".json").write_text(results + "\n")

    def text(self) -> str:
        ceiling = self._median(CEILING, CEILING.contestants[0].title, "sqlite")
        lines = [
            f"{self.rounds} rounds; {self.rows:,} rows in the large tables; {_circumstances()}.",
            f"The server answers {1_000_000 / ceiling:,.0f} requests a second at most."
            if ceiling
            else "",
            *(f"Not measured, since it could not be run: {name}." for name in self.absent),
            "",
            *self._table(),
            "",
            *self._targets(),
        ]
        return "\n".join(lines) + "\n"

    def _table(self) -> Iterator[str]:
        yield "| workload | who | where | µs an operation | quartiles | ratio to django-dcr |"
        yield "|---|---|---|---|---|---|"
        for workload in WORKLOADS:
            for (title, who, database), values in self.figures.items():
                if title != workload.title:
                    continue
                ours = self._median(workload, OURS, database or "sqlite")
                low, median, high = _quartiles(values)
                ratio = f"{median / ours:.2f}" if ours else ""
                yield (
                    f"| {title} | {who} | {_TITLES[database]} | {median:,.1f} "
                    f"| {low:,.1f} to {high:,.1f} | {ratio} |"
                )

    def _targets(self) -> Iterator[str]:
        yield "| workload | at most | SQLite (WAL) | PostgreSQL |"
        yield "|---|---|---|---|"
        for workload in WORKLOADS:
            for target in workload.targets:
                cells = [self._met(workload, target, kind) for kind in ("sqlite", "postgresql")]
                aim = f"{target.at_most:.3g} x {target.other}"
                title = workload.title + ("" if target.who == OURS else f" ({target.who})")
                yield f"| {title} | {aim} | {' | '.join(cells)} |"
            if workload.microseconds:
                took = [self._median(workload, OURS, kind) for kind in ("sqlite", "postgresql")]
                cells = [_judged(each or None, workload.microseconds) for each in took]
                yield f"| {workload.title} | {workload.microseconds:g} µs | {' | '.join(cells)} |"
            if workload.memory:
                keys = [(workload.title, OURS, kind) for kind in ("sqlite", "postgresql")]
                cells = [_judged(self.memory.get(key), workload.memory) for key in keys]
                yield f"| {workload.title} | {workload.memory:g} MiB more | {' | '.join(cells)} |"

    def _met(self, workload: Workload, target: Target, database: str) -> str:
        ours = self._median(workload, target.who, database)
        other = self._median(workload, target.other, database)
        other = other or self._median(workload, target.other, "")
        return _judged(ours / other if ours and other else None, target.at_most)

    def _median(self, workload: Workload, who: str, database: str) -> float:
        values = self.figures.get((workload.title, who, database))
        return statistics.median(values) if values else 0.0


def _judged(value: float | None, at_most: float) -> str:
    if value is None:
        return "not measured"
    return f"{value:.2g}" if value <= at_most else f"**{value:.2g}: missed**"


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def _circumstances() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("Django", "requests"))
    cores = len(os.sched_getaffinity(0))
    return f"Python {platform.python_version()}, {versions}, {cores} cores"

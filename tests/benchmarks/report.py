"""The table of a run, as Markdown, and its figures as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.workloads import DATABASES, MEMORY, PEERS, WORKLOADS, Workload

BEGIN = "<!-- The text up to the next mark is written by `make bench`. -->\n"
_SEPARATOR = " / "
END = "<!-- From here on by hand. -->\n"


class Report:
    """The figures of this run: microseconds an operation, and what they are beside others."""

    def __init__(self, rounds: int, rows: int) -> None:
        self.rounds, self.rows = rounds, rows
        #: By workload or peer, and database: of each round, ours and the other.
        self.pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        #: How many operations a round had.
        self.counts: dict[str, int] = {}
        #: Instructions an operation: ours and the other.
        self.instructions: dict[str, tuple[float, float]] = {}
        #: MiB at most, by command and database.
        self.memory: dict[tuple[str, str], float] = {}
        #: What could not be run, and why.
        self.absent: dict[str, str] = {}

    def add(self, name: str, database: str, count: int, ours: float, other: float) -> None:
        self.pairs.setdefault((name, database), []).append((ours, other))
        self.counts[name] = count

    def write(self, document: Path) -> None:
        """Write the table between the document's marks, and the figures beside it.

        What this run has not measured is kept from an earlier one.
        """
        results = document.with_suffix(".json")
        self._keep(json.loads(results.read_text()) if results.exists() else {})
        before, rest = document.read_text().split(BEGIN)
        after = rest.split(END)[1]
        document.write_text(f"{before}{BEGIN}\n{self.text()}\n{END}{after}")
        figures = {
            "rounds": self.rounds,
            "rows": self.rows,
            "with": _circumstances(),
            "absent": self.absent,
            "counts": self.counts,
            "microseconds": {_SEPARATOR.join(key): pairs for key, pairs in self.pairs.items()},
            "instructions": self.instructions,
            "mebibytes": {_SEPARATOR.join(key): value for key, value in self.memory.items()},
        }
        results.write_text(json.dumps(figures, indent=1) + "\n")

    def _keep(self, earlier: dict[str, Any]) -> None:
        if not any(name.startswith("grown ") for name, _database in self.pairs):
            self.rows = earlier.get("rows", self.rows)
        self.counts = {**earlier.get("counts", {}), **self.counts}
        self.instructions = {**earlier.get("instructions", {}), **self.instructions}
        for name, mine in (("microseconds", self.pairs), ("mebibytes", self.memory)):
            for key, value in earlier.get(name, {}).items():
                workload, database = key.split(_SEPARATOR)
                mine.setdefault((workload, database), value)

    def text(self) -> str:
        rounds = max(map(len, self.pairs.values()), default=0)
        lines = [
            f"Up to {rounds} rounds; {self.rows:,} rows in the large tables; {_circumstances()}.",
            *(f"Not measured, since it could not be run: {name}." for name in self.absent),
            "",
            *self._table(),
            "",
            *self._memory_table(),
            "",
            *self._peer_table(),
        ]
        return "\n".join(lines) + "\n"

    def _table(self) -> Iterator[str]:
        yield (
            "| workload | beside | at most | SQLite | PostgreSQL | µs, SQLite | µs, PostgreSQL "
            "| instructions | what this costs more, and for which promise |"
        )
        yield "|---|---|---|---|---|---|---|---|---|"
        for workload in WORKLOADS:
            keys = [(workload.name, database) for database in DATABASES]
            if not any(key in self.pairs for key in keys) and (
                workload.name not in self.instructions
            ):
                continue
            plus = f" and {workload.plus:g} s" if workload.plus else ""
            cells = [
                workload.title,
                workload.beside,
                f"{workload.at_most:g} x{plus}",
                *(self._ratio(workload, key) for key in keys),
                *(self._microseconds(key) for key in keys),
                self._counted(workload),
                workload.costs,
            ]
            yield f"| {' | '.join(cells)} |"

    def _ratio(self, workload: Workload, key: tuple[str, str]) -> str:
        pairs = self.pairs.get(key)
        if not pairs:
            return ""
        low, median, high = quartiles([ours / other for ours, other in pairs])
        plus = workload.plus * 1_000_000 / self.counts[workload.name]
        _low, judged, _high = quartiles([(ours - plus) / other for ours, other in pairs])
        text = f"{median:.2f} ({low:.2f} to {high:.2f})"
        return text if judged <= workload.at_most else f"**{text}**"

    def _microseconds(self, key: tuple[str, str]) -> str:
        pairs = self.pairs.get(key)
        return f"{statistics.median(ours for ours, _ in pairs):,.0f}" if pairs else ""

    def _counted(self, workload: Workload) -> str:
        counted = self.instructions.get(workload.name)
        if counted is None:
            return ""
        ours, other = counted
        text = f"{ours / other:.2f} ({ours / 1000:,.0f}k)"
        return text if ours <= workload.at_most * other else f"**{text}**"

    def _memory_table(self) -> Iterator[str]:
        if not self.memory:
            return
        yield f"| the most memory of a command, in MiB; at most {MEMORY} | SQLite | PostgreSQL |"
        yield "|---|---|---|"
        for command in dict.fromkeys(command for command, _database in self.memory):
            found = [self.memory.get((command, database)) for database in DATABASES]
            cells = ["" if each is None else _judged(each, MEMORY) for each in found]
            yield f"| {command} | {' | '.join(cells)} |"

    def _peer_table(self) -> Iterator[str]:
        found = [(peer, self.pairs.get((f"{peer.name}: {peer.title}", "sqlite"))) for peer in PEERS]
        if not any(pairs for _peer, pairs in found):
            return
        yield "| peer | does | µs | times as long as django-dcr on SQLite |"
        yield "|---|---|---|---|"
        for peer, pairs in found:
            if pairs:
                theirs = statistics.median(other for _ours, other in pairs)
                low, median, high = quartiles([other / ours for ours, other in pairs])
                spread = f"{median:,.2f} ({low:,.2f} to {high:,.2f})"
                yield f"| {peer.title} | {peer.name} | {theirs:,.0f} | {spread} |"


def _judged(value: float, at_most: float) -> str:
    return f"{value:.0f}" if value <= at_most else f"**{value:.0f}**"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def _circumstances() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("Django", "requests"))
    cores = len(os.sched_getaffinity(0))
    return f"Python {platform.python_version()}, {versions}, {cores} cores"

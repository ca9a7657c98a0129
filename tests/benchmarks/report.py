"""The tables of a run, as Markdown, and its figures as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.simulation import predicted
from tests.benchmarks.workloads import (
    DATABASES,
    JOBS,
    MAX_SECONDS,
    MEMORY,
    PEERS,
    WORKLOADS,
    Workload,
)

BEGIN = "<!-- The text up to the next mark is written by `make bench`. -->\n"
END = "<!-- From here on by hand. -->\n"
_SEPARATOR = " / "
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Report:
    """The figures of this run: microseconds an operation, and what they are beside others."""

    def __init__(self, rows: int, document: Path | None, *, keep: bool) -> None:
        """Write to ``document``, and keep what it has of earlier runs, or begin with nothing."""
        self.rows, self.document = rows, document
        self._circumstances = _circumstances()
        #: Held by threads that add figures, and while they are written.
        self.lock = threading.RLock()
        #: By workload or peer, and database: of each round, ours and the other.
        self.pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        #: How many operations a round had.
        self.counts: dict[str, int] = {}
        #: Instructions an operation: ours and the other.
        self.instructions: dict[str, tuple[float, float]] = {}
        #: MiB at most, and whether it came to its end, by command and database.
        self.memory: dict[tuple[str, str], tuple[float, bool]] = {}
        #: The most requests a minute at one server, by database.
        self.busiest: dict[str, int] = {}
        #: What could not be run, and why.
        self.absent: dict[str, str] = {}
        self._earlier: dict[str, Any] = {}
        if keep and document and document.with_suffix(".json").exists():
            self._earlier = json.loads(document.with_suffix(".json").read_text())

    def add(self, name: str, database: str, count: int, ours: float, other: float) -> None:
        self.pairs.setdefault((name, database), []).append((ours, other))
        self.counts[name] = count

    # -- what is written -----------------------------------------------------------------------

    def write(self) -> None:
        """Write the tables between the document's marks, and the figures beside it."""
        if self.document is None:
            return
        with self.lock:
            self._write(self.document)

    def _write(self, document: Path) -> None:
        before, rest = document.read_text().split(BEGIN)
        after = rest.split(END)[1]
        document.write_text(f"{before}{BEGIN}\n{self.text()}\n{END}{after}")
        figures = json.dumps(self._figures(), indent=1, ensure_ascii=False)
        document.with_suffix(".json").write_text(f"{figures}\n")

    def _figures(self) -> dict[str, Any]:
        """What was measured, now or, where this run left it out, earlier."""
        mine: dict[str, dict[str, Any]] = {
            "counts": self.counts,
            "microseconds": _joined(self.pairs),
            "instructions": self.instructions,
            "mebibytes": _joined(self.memory),
            "busiest": self.busiest,
        }
        kept = {name: {**self._earlier.get(name, {}), **mine[name]} for name in mine}
        is_grown = any(name.startswith("grown ") for name, _database in self.pairs) or self.memory
        rows = self.rows if is_grown else self._earlier.get("rows", self.rows)
        return {"rows": rows, "with": self._circumstances, "absent": self.absent, **kept}

    def text(self) -> str:
        figures = self._figures()
        tables = Tables(figures)
        rounds = max(map(len, figures["microseconds"].values()), default=0)
        return "\n".join(
            [
                f"Up to {rounds} rounds; {figures['rows']:,} rows in the large tables; "
                f"{figures['with']}.",
                *(f"Not measured: {name} ({why})." for name, why in self.absent.items()),
                "",
                *tables.aims(),
                "",
                *tables.memory(),
                "",
                *tables.details(),
                "",
                *tables.peers(),
            ]
        )


class Tables:
    """The figures as tables, each for one question."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self.figures = figures
        self.pairs, self.counted = figures["microseconds"], figures["instructions"]

    def aims(self) -> Iterator[str]:
        """Is it fast enough?"""
        yield (
            "| workload | beside | at most | SQLite | PostgreSQL | verdict "
            "| what this costs more, and for which promise |"
        )
        yield "|---|---|---|---|---|---|---|"
        for workload in WORKLOADS:
            found = [self.pairs.get(_key(workload.name, each)) for each in DATABASES]
            if not any(found):
                continue
            plus = f" and {workload.plus:g} s" if workload.plus else ""
            met = [self._is_met(workload, pairs) for pairs in found]
            cells = [
                workload.title,
                workload.beside,
                f"{workload.at_most:g} x{plus}",
                *(self._ratios(workload, pairs) for pairs in found),
                _verdict(met),
                workload.costs,
            ]
            yield _row(cells)
        peaks = [self._peak(database) for database in DATABASES]
        if any(peaks):
            met = [peak and peak <= MEMORY for peak in peaks]
            rows = f"{self.figures['rows']:,} rows"
            cells = [f"the most memory of any command over {rows}", "", f"{MEMORY} MiB"]
            cells += [f"{peak:.0f} MiB" if peak else "" for peak in peaks]
            yield _row([*cells, _verdict(met), "Django alone takes most of it; see the next table"])

    def _is_met(self, workload: Workload, pairs: Sequence[Any] | None) -> bool | None:
        if not pairs:
            return None
        plus = workload.plus * 1_000_000 / self.figures["counts"][workload.name]
        _low, judged, _high = quartiles([(ours - plus) / other for ours, other in pairs])
        return judged <= workload.at_most

    def _ratios(self, workload: Workload, pairs: Sequence[Any] | None) -> str:
        if not pairs:
            return ""
        low, median, high = quartiles([ours / other for ours, other in pairs])
        return f"{median:.2f} ({low:.2f} to {high:.2f})" if len(pairs) > 1 else f"{median:.2f}"

    def _peak(self, database: str) -> float | None:
        found = self.figures["mebibytes"].items()
        return max((peak for key, (peak, _) in found if key.endswith(database)), default=None)

    def memory(self) -> Iterator[str]:
        """Which command takes how much memory?"""
        found = self.figures["mebibytes"]
        if not found:
            return
        yield "| the most memory of a command, in MiB | SQLite | PostgreSQL |"
        yield "|---|---|---|"
        for command in dict.fromkeys(key.partition(_SEPARATOR)[0] for key in found):
            cells = [found.get(_key(command, database)) for database in DATABASES]
            own = "Django alone: " if command == "check" else ""
            yield _row([f"{own}{command}", *(_mebibytes(cell) for cell in cells)])
        yield ""
        yield f"\\* stopped after {MAX_SECONDS} s, having gone over the rows until then."

    def details(self) -> Iterator[str]:
        """How long does it take, and how many instructions?"""
        yield "| workload | µs, SQLite | µs, PostgreSQL | instructions | beside the other's |"
        yield "|---|---|---|---|---|"
        for workload in WORKLOADS:
            found = [self.pairs.get(_key(workload.name, each)) for each in DATABASES]
            counted = self.counted.get(workload.name)
            if counted or any(found):
                times = [
                    f"{statistics.median(ours for ours, _ in pairs):,.0f}" if pairs else ""
                    for pairs in found
                ]
                yield _row([workload.title, *times, *_instructions(counted)])
        if "fleet" in self.figures["counts"]:
            guess, seen = predicted(self.figures)
            yield ""
            yield (
                f"The [simulation](scale.md) predicts {guess:.0f} s for dcr_renew with silent "
                f"servers, from the run without; it took {seen:.0f} s."
            )
        if self.figures["busiest"]:
            most = ", ".join(
                f"{n} on {_NAMES[kind]}" for kind, n in self.figures["busiest"].items()
            )
            yield ""
            yield f"{JOBS.title}: at most so many requests a minute at one server: {most}."

    def peers(self) -> Iterator[str]:
        """What do other clients take?"""
        yield "| peer | does | µs | times as long as django-dcr on SQLite |"
        yield "|---|---|---|---|"
        for peer in PEERS:
            pairs = self.pairs.get(_key(f"{peer.name}: {peer.title}", "sqlite"))
            if pairs:
                theirs = statistics.median(other for _ours, other in pairs)
                low, median, high = quartiles([other / ours for ours, other in pairs])
                spread = f"{median:,.2f} ({low:,.2f} to {high:,.2f})"
                yield _row([peer.title, peer.name, f"{theirs:,.0f}", spread])


def _key(name: str, database: str) -> str:
    return f"{name}{_SEPARATOR}{database}"


def _joined(found: dict[tuple[str, str], Any]) -> dict[str, Any]:
    return {_key(*key): value for key, value in found.items()}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdict(met: Sequence[bool | None]) -> str:
    """Say whether an aim is met on the databases where it was measured."""
    known = {
        _NAMES[name]: each for name, each in zip(DATABASES, met, strict=True) if each is not None
    }
    if all(known.values()):
        return "met"
    missed = [name for name, each in known.items() if not each]
    return "**missed**" if len(missed) == len(known) else f"**missed on {missed[0]}**"


def _mebibytes(found: Sequence[Any] | None) -> str:
    if found is None:
        return ""
    peak, ended = found
    text = f"{peak:.0f}" if peak <= MEMORY else f"**{peak:.0f}**"
    return text if ended else f"{text}\\*"


def _instructions(counted: Sequence[float] | None) -> tuple[str, str]:
    if counted is None:
        return "", ""
    ours, other = counted
    return f"{ours / 1000:,.0f}k", f"{ours / other:.2f} x"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def _circumstances() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("Django", "requests"))
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[1]  # of the last five minutes
    return (
        f"Python {platform.python_version()}, {versions}, {cores} cores, a load of {load:.1f} "
        "before it began"
    )

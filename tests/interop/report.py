"""The tables of docs/servers.md, one for each server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from tests.interop.life import STEPS
from tests.interop.server import Server

BEGIN = "<!-- The text up to the next mark is written by `make interop`. -->\n"
END = "<!-- From here on by hand. -->\n"


class Table:
    """The outcomes of this run: program, variant and the outcome of each step."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[str]] = {}

    def add(self, server: Server, outcomes: dict[str, str]) -> None:
        row = [server.program, server.variant, *(outcomes[step] for step in STEPS)]
        self.rows[_key(row)] = row

    def write_into(self, document: Path) -> None:
        """Write between the marks; a server that could not be run keeps its former outcomes."""
        before, rest = document.read_text().split(BEGIN)
        former, after = rest.split(END)
        rows = {_key(row): row for row in _read(former)} | self.rows
        document.write_text(f"{before}{BEGIN}\n{_render(rows.values())}\n{END}{after}")


def _render(rows: Iterable[list[str]]) -> str:
    """Return a table for each program: a line for each step, a column for each variant."""
    tables = []
    for program, group in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
        columns = [[program, *STEPS], *(row[1:] for row in group)]
        head, *lines = zip(*columns, strict=True)
        shown = [head, ["---"] * len(head), *lines]
        tables.append("".join(f"| {' | '.join(line)} |\n" for line in shown))
    return "\n".join(tables)


def _read(text: str) -> list[list[str]]:
    """Return the rows of tables that were made of the steps of this version."""
    rows = []
    for table in re.findall(r"(?m)(?:^\|.*\|\n)+", text):
        head, _rule, *lines = [line.strip("|\n ").split(" | ") for line in table.splitlines()]
        steps, *outcomes = zip(head, *lines, strict=True)
        if list(steps[1:]) == [*STEPS]:
            rows += [[head[0], *column] for column in outcomes]
    return rows


def _key(row: list[str]) -> tuple[str, str]:
    """The name without the version, and the variant."""
    return row[0].rpartition(" ")[0], row[1]

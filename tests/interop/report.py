"""The table of docs/servers.md."""

from __future__ import annotations

import re
from pathlib import Path

from tests.interop.life import STEPS
from tests.interop.server import Server

BEGIN = "<!-- The text up to the next mark is written by `make interop`. -->\n"
END = "<!-- From here on by hand. -->\n"
HEAD = ["server", "variant", *STEPS]


class Table:
    """The outcomes of this run."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[str]] = {}

    def add(self, server: Server, outcomes: dict[str, str]) -> None:
        row = [server.program, server.variant, *(outcomes[step] for step in STEPS)]
        self.rows[_key(row)] = row

    def write_into(self, document: Path) -> None:
        """Write between the marks; a server that could not be run keeps its former rows."""
        before, rest = document.read_text().split(BEGIN)
        former, after = rest.split(END)
        rows = {_key(row): row for row in _read(former)} | self.rows
        lines = [HEAD, ["---"] * len(HEAD), *rows.values()]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def _read(table: str) -> list[list[str]]:
    lines = [line.split(" | ") for line in re.findall(r"(?m)^\| (.*) \|$", table)]
    return [line for line in lines[2:] if len(line) == len(HEAD)]


def _key(row: list[str]) -> tuple[str, str]:
    """The name without the version, and the variant."""
    return row[0].rpartition(" ")[0], row[1]

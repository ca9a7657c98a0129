"""The table of docs/servers.md."""

from __future__ import annotations

import re
from pathlib import Path

from tests.interop.life import STEPS
from tests.interop.server import Server

BEGIN = "<!-- What stands up to the next mark is written by `make interop`. -->"
END = "<!-- From here on by hand. -->"


class Table:
    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def add(self, server: Server, outcomes: dict[str, str]) -> None:
        self.rows.append([server.program, server.variant, *(outcomes[step] for step in STEPS)])

    def markdown(self) -> str:
        head = ["server", "variant", *STEPS]
        lines = [head, ["---"] * len(head), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def write_into(self, document: Path) -> None:
        text = document.read_text()
        marked = re.compile(f"(?<={re.escape(BEGIN)}\n).*(?={re.escape(END)})", re.DOTALL)
        document.write_text(marked.sub(lambda match: f"\n{self.markdown()}\n", text))

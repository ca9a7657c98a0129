"""The figure and the table of docs/mcp.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.suite import Result

BEGIN = "<!-- The text up to the next mark is written by `make conformance`. -->\n"
END = "<!-- From here on by hand. -->\n"


def write(
    document: Path, version: str, results: Sequence[Result], left_out: Mapping[str, str]
) -> None:
    """Write the result of each scenario, and what is out of scope, between the marks."""
    before, rest = document.read_text().split(BEGIN)
    _former, after = rest.split(END)
    checks = sum(result.passed for result in results)
    passed = sum(result.ok for result in results)
    lines = [
        f"`@modelcontextprotocol/conformance` {version}: {passed} of {len(results)} scenarios in "
        f"scope pass, with {checks} checks passed, none failed, and no warnings.",
        "",
        "| scenario | revisions | checks passed |",
        "|---|---|---|",
        *(
            f"| `{each.scenario.name}` | {each.scenario.revisions.replace(',', ', ')} "
            f"| {each.passed} |"
            for each in results
        ),
        "",
        *(f"Out of scope: `{name}`: {why}." for name, why in left_out.items()),
    ]
    document.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n\n{END}{after}")

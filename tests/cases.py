"""How many of a table's cases are tried: ``make test`` takes some, ``make test-all`` every one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar

Case = TypeVar("Case")

#: CASES=all in the environment.
ALL = os.environ.get("CASES") == "all"


def all_or(cases: Mapping[str, Case], *names: str) -> dict[str, Case]:
    """Return the cases of these names, or all of them where CASES=all."""
    assert {*names} <= {*cases}
    return {name: case for name, case in cases.items() if ALL or name in {*names}}

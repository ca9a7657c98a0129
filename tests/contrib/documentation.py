"""The examples of docs/, as modules."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def documented(page: str, name: str, issuer: str = "", **names: Any) -> ModuleType:
    """Run an example with the issuer of a server that is there, and ``names`` as given."""
    text = (DOCS / page).read_text()
    found = re.search(rf"(?s)<!-- example: {name} -->\n```python\n(.*?)```", text)
    assert found
    module = ModuleType(f"documented_{name}")
    vars(module).update(names)
    exec(found[1].replace("https://login.example.com/realms/shop", issuer), vars(module))  # noqa: S102
    return module

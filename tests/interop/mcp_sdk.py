"""The MCP Python SDK's authorization server, from PyPI, run by ``mcp_server.py``."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.interop.processes import announced, installed, running
from tests.interop.server import ControlledServer

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "mcp_requirements.txt"

_NOTHING = "offers no management"
_USUAL: Mapping[str, str] = {
    "read": _NOTHING,
    "update": _NOTHING,
    "revoke": _NOTHING,
    "wrong token": "issues no token",
    "deleted there": "noticed at the next login",
    "initial token": "anyone may register",
    "token expires": "issues no token",
    "document": "takes none",
}

#: The limits of each variant.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "trailing-slash issuer": {
        **_USUAL,
        "renew": "keeps the secret, which never expires",
        "secret expires": "never",
    },
    "secret lifetime": _USUAL,
}


@contextmanager
def serve(variant: str, folder: Path) -> Iterator[ControlledServer]:
    key = f"{platform.python_version()} {sys.base_prefix} {REQUIREMENTS.read_text()}"
    home = installed("mcp", key, _install)
    log = folder / "mcp.log"
    command: list[str | Path] = [home / "bin/python", HERE / "mcp_server.py", variant]
    with running(command, log=log, cwd=folder) as process:
        said = announced(process, log)
        program = f"MCP Python SDK {said['version']}"
        server = ControlledServer(program, variant, said["issuer"], VARIANTS[variant])
        server.client_metadata = {"token_endpoint_auth_method": "client_secret_post"}
        yield server


def _install(folder: Path) -> None:
    """In an environment of its own, for it needs other versions than the tests do."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--quiet", "--no-deps", "--requirement", str(REQUIREMENTS)]
    subprocess.run(command, check=True, timeout=300)

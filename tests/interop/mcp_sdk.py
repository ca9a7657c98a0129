"""The MCP Python SDK's authorization server, from PyPI, run by ``mcp_server.py``."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

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


class Tools:
    """A tool server with its authorization server, both of the SDK, and their control endpoints."""

    def __init__(self, variant: str, url: str) -> None:
        self.takes_documents = variant == "documents"
        self.url = url
        self.issuer = url.removesuffix("/mcp")
        self._control = f"{self.issuer}/-/"

    def say(self, **members: object) -> None:
        """Change members of the tool server's metadata, and how it acts."""
        requests.patch(f"{self._control}resource", json=members, timeout=30).raise_for_status()

    def asked(self) -> list[dict[str, Any]]:
        """Return the requests since the last call: methods, paths, parameters."""
        found: list[dict[str, Any]] = requests.get(f"{self._control}requests", timeout=30).json()
        return found

    def token(self, token: str) -> dict[str, Any]:
        """Return what the authorization server knows about a token that it issued."""
        answer = requests.get(f"{self._control}tokens/{token}", timeout=30)
        answer.raise_for_status()
        known: dict[str, Any] = answer.json()
        return known


@contextmanager
def serve_tools(variant: str, folder: Path, certificate: Path) -> Iterator[Tools]:
    """Run the two in a variant of ``mcp_tools.py``; documents are behind ``certificate``."""
    home, log = _home(), folder / f"tools-{uuid4()}.log"
    command: list[str | Path] = [home / "bin/python", HERE / "mcp_tools.py", variant]
    trust = {"SSL_CERT_FILE": str(certificate)}
    with running(command, log=log, cwd=folder, environment=trust) as process:
        yield Tools(variant, announced(process, log)["url"])


def own_client(url: str, redirect_uri: str, *document: str) -> str:
    """Let the SDK's own client call a tool; return what it answers."""
    command = [_home() / "bin/python", HERE / "mcp_sdk_client.py", url, redirect_uri, *document]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


@contextmanager
def serve(variant: str, folder: Path) -> Iterator[ControlledServer]:
    home = _home()
    log = folder / "mcp.log"
    command: list[str | Path] = [home / "bin/python", HERE / "mcp_server.py", variant]
    with running(command, log=log, cwd=folder) as process:
        said = announced(process, log)
        program = f"MCP Python SDK {said['version']}"
        server = ControlledServer(program, variant, said["issuer"], VARIANTS[variant])
        server.client_metadata = {"token_endpoint_auth_method": "client_secret_post"}
        yield server


def _home() -> Path:
    key = f"{platform.python_version()} {sys.base_prefix} {REQUIREMENTS.read_text()}"
    return installed("mcp", key, _install)


def _install(folder: Path) -> None:
    """In an environment of its own, for it needs other versions than the tests do."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--quiet", "--no-deps", "--requirement", str(REQUIREMENTS)]
    subprocess.run(command, check=True, timeout=300)

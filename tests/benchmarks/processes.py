"""The programs that are measured: each a process that does so many operations when asked."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.interop.processes import installed

HERE = Path(__file__).parent
PEERS = HERE / "peers"
ROOT = HERE.parents[1]
# Seconds for making a million rows, and for one answer.
_FILLING, _PATIENCE = 900, 400

CONTEXTFORGE = "mcp-contextforge-gateway==1.1.0"
MCP = "mcp==2.3.0"
IDPYOIDC = "idpyoidc==5.0.0"


class Process:
    """A running program, which does so many operations when asked."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def wait_until_ready(self) -> None:
        self._line(_FILLING)

    def measured(self, workload: str, count: int) -> float:
        """Return microseconds an operation; RuntimeError where one failed."""
        assert self.process.stdin
        print(json.dumps([workload, count]), file=self.process.stdin, flush=True)
        said = self._line(_PATIENCE)
        if said == "failed":
            raise RuntimeError(self._tail())
        return int(said) / count / 1000

    def _line(self, seconds: float) -> str:
        assert self.process.stdout
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline().strip() if ready else ""
        if not line:
            self.process.kill()  # what it says later would be taken for another answer
            raise RuntimeError(f"It ended, or took too long: {self._tail()}")
        return line

    def _tail(self) -> str:
        return self.log.read_text()[-2000:]


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a program for the block, which must wait until it is ready."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Process(process, log)
        finally:
            process.kill()


@contextmanager
def server(core: int) -> Iterator[str]:
    """Run the authorization server on one core; yield the base of its issuers."""
    command = [sys.executable, "-m", "tests.benchmarks.server", str(core)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def python_peer(requirement: str, script: str) -> Callable[[], list[str | Path]]:
    """A way to install a peer from PyPI into an environment of its own, and its command."""

    def install(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
        pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--quiet", requirement], check=True, timeout=600)

    def command() -> list[str | Path]:
        key = f"{platform.python_version()} {sys.base_prefix} {requirement}"
        home = installed(f"benchmark-{requirement.partition('=')[0]}", key, install)
        return [home / "bin/python", PEERS / script]

    return command


def node_peer() -> list[str | Path]:
    """Install oauth4webapi from npm; return its command."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise FileNotFoundError("node or npm is missing")

    def install(folder: Path) -> None:
        shutil.copy(PEERS / "package.json", folder)
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=folder, check=True, timeout=600)

    home = installed("benchmark-oauth4webapi", (PEERS / "package.json").read_text(), install)
    return ["node", shutil.copy(PEERS / "oauth4webapi.mjs", home)]


#: How to come to each peer's command.
PEER_COMMANDS: Mapping[str, Callable[[], list[str | Path]]] = {
    "ContextForge": python_peer(CONTEXTFORGE, "contextforge.py"),
    "MCP Python SDK": python_peer(MCP, "mcp_sdk.py"),
    "idpyoidc": python_peer(IDPYOIDC, "idpyoidc_client.py"),
    "oauth4webapi": node_peer,
}

"""Programs that the tests start, and what they need installed, kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: Downloads and what was installed from them. Safe to delete.
CACHE = ROOT / ".cache" / "interop"

# A first start on a busy machine, in seconds.
_PATIENCE = 300


def require(*programs: str) -> None:
    """Skip the test, or on a CI server fail it, where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        give = pytest.fail if os.environ.get("CI") else pytest.skip
        give(f"NOTHING WAS TESTED AGAINST THIS SERVER: {', '.join(missing)} missing")


def installed(name: str, key: str, install: Callable[[Path], None]) -> Path:
    """Return the folder of what ``install`` makes, made again only when ``key`` has changed."""
    folder = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not folder.exists():
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        install(unfinished)
        unfinished.rename(folder)
    return folder


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, with all that it starts, for the block; what it prints goes into ``log``."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server is ready; it is an error where it ends before, or takes too long."""
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        assert process.poll() is None, f"The server did not start: {log.read_text()}"
        assert time.monotonic() < deadline, f"The server took too long: {log.read_text()}"
        time.sleep(0.2)


def announced(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """The JSON object that a server of ours prints in a line of its own, when it is ready."""
    line = re.compile(r"^{.*}$", re.MULTILINE)
    wait(lambda: bool(line.search(log.read_text())), process, log)
    said: dict[str, Any] = json.loads(line.findall(log.read_text())[0])
    return said

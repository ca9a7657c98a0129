"""Instructions an operation: the same on a busy machine as on an idle one.

Valgrind's cachegrind counts those of a process that does few operations, and of one that does
more of them; all else is the same in both, so the slope is what one operation takes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_VALGRIND = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
_PATIENCE = 1200  # seconds

#: The name of a workload, and how many operations.
Times = tuple[str, int]


def counted(
    times: Sequence[Times], environment: Mapping[str, str], folder: Path
) -> dict[Times, int]:
    """Return the instructions of a process for each of these; what fails is left out.

    Django starts once under valgrind: the processes are forks of that one.
    """
    site = [sys.executable, "-m", "tests.benchmarks.site", "0", json.dumps(times)]
    log = folder / "instructions-%p"
    said = _run([*_VALGRIND, f"--log-file={log}", *site], environment).stdout
    pids = dict(zip(times, map(int, said.split()), strict=True))
    return {each: _total(folder / f"instructions-{pid}") for each, pid in pids.items() if pid}


def counted_command(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Return the instructions of a command, from the start of its process to the end."""
    log = folder / "instructions"
    _run([*_VALGRIND, f"--log-file={log}", *command], environment)
    return _total(log)


def _run(
    command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=_PATIENCE
    )


def _total(log: Path) -> int:
    found = re.search(r"I\s+refs:\s+([\d,]+)", log.read_text())
    if not found:
        raise RuntimeError(f"valgrind counted nothing: {log.read_text()[-2000:]}")
    return int(found[1].replace(",", ""))

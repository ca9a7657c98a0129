"""Instructions an operation: the same on a busy machine as on an idle one.

A workload runs under valgrind's cachegrind with a few operations and with more of them; starting
Python and Django is the same in both, so the slope is what one operation takes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


def counted(
    names: Sequence[str], counts: tuple[int, int], environment: Mapping[str, str]
) -> list[float]:
    """Return the instructions that one operation of each of these workloads takes."""

    def count(run: tuple[str, int]) -> int:
        name, times = run
        site = [sys.executable, "-m", "tests.benchmarks.site", "0", name, str(times)]
        env = {**os.environ, **environment, "PYTHONHASHSEED": "0"}
        said = subprocess.run([*_VALGRIND, *site], env=env, capture_output=True, text=True)
        found = re.search(r"I\s+refs:\s+([\d,]+)", said.stderr)
        if said.returncode or not found:
            raise RuntimeError(f"{name} under valgrind: {said.stderr[-2000:]}")
        return int(found[1].replace(",", ""))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        totals = list(pool.map(count, product(names, counts)))
    few, more = counts
    pairs = zip(totals[::2], totals[1::2], strict=True)
    return [(second - first) / (more - few) for first, second in pairs]

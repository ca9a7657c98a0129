"""Run a command of this app, for a while at most, and print the most memory that it had.

::

    python -m tests.benchmarks.peak SECONDS COMMAND [ARGUMENT ...]

In KiB, of the whole process, and whether the command came to its end: "58000 yes".
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import django
from django.core.management import call_command


def stop(*_: object, ended: str = "no") -> None:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    print(found[1], ended, flush=True)
    os._exit(0)


os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()
seconds, *command = sys.argv[1:]
signal.signal(signal.SIGALRM, stop)
signal.alarm(int(seconds))
with Path(os.devnull).open("w") as nowhere:
    call_command(*command, stdout=nowhere, stderr=nowhere)
stop(ended="yes")

"""Run a command of this app, and print the most memory that it had, in KiB."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import django
from django.core.management import CommandError, call_command

from tests.benchmarks.peers.answering import memory

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()
with Path(os.devnull).open("w") as nowhere, suppress(CommandError):
    call_command(*sys.argv[1:], stdout=nowhere, stderr=nowhere)
print(memory("VmHWM"))

"""Run a command of this app, and print the most memory that it had, in KiB."""

from __future__ import annotations

import io
import os
import sys

import django
from django.core.management import call_command

from tests.benchmarks.peers.answering import memory

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()
call_command(*sys.argv[1:], stdout=io.StringIO(), stderr=io.StringIO())
print(memory("VmHWM"))

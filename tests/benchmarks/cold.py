"""A process that sets Django up and registers once, by hand: the limit of ``dcr_register``."""

from __future__ import annotations

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()

import requests  # noqa: E402

from tests.benchmarks.models import Bare  # noqa: E402
from tests.benchmarks.peers.answering import WISHES  # noqa: E402

owner = f"process {os.getpid()}"
row = Bare.objects.create(server_id=1, owner=owner, key_digest=owner, status="registering")
with requests.Session() as session:
    session.trust_env = False
    issued = session.post(f"{os.environ['BENCHMARK_SERVER']}/register", json=WISHES).json()
names = ("client_id", "registration_client_uri", "client_secret_expires_at")
Bare.objects.filter(pk=row.pk).update(**{name: issued[name] for name in names}, metadata=issued)

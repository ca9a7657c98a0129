"""The site that is measured: Django's own apps and this one, on SQLite in the mode for sites."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

OURS = ("django_dcr", "tests.benchmarks")
INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if app.startswith("django.contrib.")),
    *(app for app in OURS if "WITHOUT_DCR" not in os.environ),
]
MIDDLEWARE = [each for each in MIDDLEWARE if each.startswith("django.")]
ROOT_URLCONF = "tests.benchmarks.urls"
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 60,
    }
DCR_INTERNAL_ORIGINS = [os.environ["BENCHMARK_SERVER"]]
if "BENCHMARK_JOBS" in os.environ:
    from celery import Celery

    DCR_TASK_RUNNER = "celery"
    CELERY_BROKER_URL = os.environ.get("BENCHMARK_BROKER")
    CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
    CELERY_WORKER_PREFETCH_MULTIPLIER = 1
    app = Celery("tests.benchmarks")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
else:
    # What has failed once stays remembered for as long as it is measured.
    DCR_BACKOFF = 3600
    DCR_TIMEOUT = 2.0

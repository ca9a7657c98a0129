"""The settings of a site with background workers; the environment names the task queue."""

from __future__ import annotations

import environ
from celery import Celery

from tests.settings import *  # noqa: F403

env = environ.Env()

INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]  # noqa: F405
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

DCR_TASK_RUNNER = env.str("QUEUE_ENGINE")
DCR_INTERNAL_ORIGINS = [env.str("QUEUE_ISSUER")]
# A killed worker's lease expires, and its job is delivered again, within the test.
DCR_TIMEOUT = 3
DCR_LEASE = 10
DCR_BACKOFF = 3
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 12}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_URL = env.str("QUEUE_BROKER", default="")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# As in Celery's documentation, except for the name of the file.
app = Celery("tests.queue")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

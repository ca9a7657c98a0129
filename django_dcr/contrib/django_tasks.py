"""Jobs on Django's Tasks framework, with ``DCR_TASK_RUNNER = "django.tasks"``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
from django.utils import timezone
from django.utils.module_loading import import_string

from django_dcr.tasks import MAX_TRIES, perform

# Django 5.2 has it in a package of its own.
_task: Any = import_string("django.tasks.task" if django.VERSION >= (6,) else "django_tasks.task")


@_task  # type: ignore[untyped-decorator,unused-ignore]
def run(action: str, pk: int, tries: int = 0) -> None:
    """Do a job, by ``django_dcr.tasks.perform``; ``tries`` is how often it was tried before.

    On a backend without ``supports_defer`` there is no other try.
    """
    can_wait = run.get_backend().supports_defer
    pause = perform(action, pk, tries if can_wait else MAX_TRIES)
    if pause is not None:
        later = run.using(run_after=timezone.now() + timedelta(seconds=pause))
        later.enqueue(action, pk, tries + 1)


def enqueue(action: str, pk: int) -> None:
    """Hand a job to the backend "default" of TASKS."""
    run.enqueue(action, pk)

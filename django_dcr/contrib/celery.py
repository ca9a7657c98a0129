"""Jobs on Celery, with ``DCR_TASK_RUNNER = "celery"``."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from kombu.exceptions import OperationalError

from django_dcr.exceptions import NetworkError
from django_dcr.tasks import perform


# Delivered again where a worker is killed: perform() skips what was done already.
@shared_task(  # type: ignore[untyped-decorator]
    name="django_dcr.run", bind=True, max_retries=None, acks_late=True, reject_on_worker_lost=True
)
def run(self: Any, action: str, pk: int) -> None:
    """Do a job, by ``django_dcr.tasks.perform``."""
    pause = perform(action, pk, self.request.retries)
    if pause is not None:
        raise self.retry(countdown=pause)


def enqueue(action: str, pk: int) -> None:
    """Send a job to Celery's broker. Raises NetworkError where that cannot be reached."""
    try:
        run.delay(action, pk)
    except OperationalError as exc:
        raise NetworkError(
            "Celery's broker cannot be reached. Start it, or correct the broker's URL.", sent=False
        ) from exc

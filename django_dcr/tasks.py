"""Background jobs on registrations, run by the task queue that the site uses already.

A job is the name of an action and the primary key of a registration. The queue holds nothing else,
so it never holds a secret, and a job loads the row when it runs. A job that is delivered twice is
performed once: see ``perform()``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.utils.module_loading import import_string

from django_dcr import services
from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, NetworkError
from django_dcr.lifecycle import ACTIONS, Status
from django_dcr.logs import log
from django_dcr.models import ClientRegistration, actor
from django_dcr.services.operation import RETRY_LATER, backoff

#: Takes a job's action and primary key, and calls ``perform()`` with them later.
Runner = Callable[[str, int], object]

Service = Callable[[ClientRegistration], ClientRegistration]

#: The values of DCR_TASK_RUNNER besides "inline" and the dotted path of a runner.
RUNNERS = {
    "django.tasks": "django_dcr.contrib.django_tasks.enqueue",
    "celery": "django_dcr.contrib.celery.enqueue",
}

#: How often a job is retried; with the pauses in between, for about five hours.
MAX_TRIES = 20
# The first and the longest pause, in seconds. Each is twice the one before.
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 1800.0


# The task under which a row remembers a failure, where it is not the name of the action.
_TASKS = {"forget": "revoke", "renew_if_due": "renew"}


def service(action: str) -> Service:
    """Return the service that performs the action; raise KeyError where there is none."""
    if action == "renew_if_due":
        return services.renew_if_due
    entry = ACTIONS[action]
    found: Service = getattr(services, entry.service or action)
    return partial(found, **entry.arguments)


def runner() -> Runner | None:
    """Return the runner that DCR_TASK_RUNNER names, or None for "inline".

    Raises ImproperlyConfigured where it cannot be imported.
    """
    name = conf.DCR_TASK_RUNNER
    if name == "inline":
        return None
    try:
        found: Runner = import_string(RUNNERS.get(name, name))
    except (ImportError, ValueError) as exc:
        raise ImproperlyConfigured(f"DCR_TASK_RUNNER cannot be used: {exc}") from exc
    return found


def enqueue(action: str, pk: int) -> None:
    """Pass a job on the registration ``pk`` to DCR_TASK_RUNNER, after the commit of a transaction.

    ``action`` is one of ``lifecycle.ACTIONS``, or "renew_if_due". Raises ImproperlyConfigured
    where there is no queue, NetworkError where it cannot be reached, and KeyError for any other
    action.
    """
    run = runner()
    if run is None:
        raise ImproperlyConfigured(
            'There is no queue: DCR_TASK_RUNNER is "inline". Set it to "django.tasks" or "celery".'
        )
    service(action)  # raises KeyError
    alias = router.db_for_write(ClientRegistration)
    transaction.on_commit(partial(run, action, pk), using=alias)


def perform(action: str, pk: int, tries: int = 0) -> float | None:
    """Perform a job; return after how many seconds to retry it, or None when it is finished.

    For task queues. ``tries`` is how often this job was tried before; after ``MAX_TRIES`` it is
    not retried. Does nothing where the work is done already, as when a job is delivered again
    after its worker was killed, and sends nothing during the pause after a failure. Raises the
    DCRError that ends the job, which is then the row's ``last_error``.
    """
    registration = _unfinished(action, pk)
    if registration is None:
        return None
    try:
        with actor("background"), backoff(registration, _TASKS.get(action, action)):
            service(action)(registration)
    except DCRError as exc:
        if tries < MAX_TRIES and _is_transient(exc):
            return _pause(exc, tries)
        _record(registration, action, exc)
        raise
    return None


def _unfinished(action: str, pk: int) -> ClientRegistration | None:
    """Return the row, unless it was deleted or the job was performed already."""
    rows = ClientRegistration.objects.primary().select_related("server").filter(pk=pk)
    finished = ACTIONS[action].finished if action in ACTIONS else ()
    return rows.exclude(status__in=finished).first()


def _is_transient(error: DCRError) -> bool:
    is_deferred = error.retry_after is not None or error.status in RETRY_LATER
    return is_deferred or isinstance(error, NetworkError)


def _pause(error: DCRError, tries: int) -> float:
    """Return the seconds to wait: at least ``retry_after``, and not the same for all jobs."""
    longest: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries)
    return (error.retry_after or 0) + random.uniform(0.5, 1) * longest  # noqa: S311


def _record(registration: ClientRegistration, action: str, error: DCRError) -> None:
    """Write the error on the row, unless the service has done so."""
    if registration.last_error == str(error):
        return
    if not (registration.claim(*Status, task=action) and registration.fail(error)):
        log("not_stored", "Not recorded on registration %s: %s", registration.pk, error)

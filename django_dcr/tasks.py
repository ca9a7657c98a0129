"""Work on registrations in the background, on an engine that the site has already.

A job is the name of an action and the primary key of a registration. Nothing else travels, so
that no secret can lie in a queue, and a job sees the row as it is when its time comes. One that
is delivered twice finds the work done: see ``perform``.
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
from django_dcr.services.operation import backoff

#: Takes a job, as ``enqueue`` does, and some time later calls ``perform``.
Runner = Callable[[str, int], object]

Service = Callable[[ClientRegistration], ClientRegistration]

#: The values of DCR_TASK_RUNNER beside "inline" and the dotted path of a runner.
RUNNERS = {
    "django.tasks": "django_dcr.contrib.django_tasks.enqueue",
    "celery": "django_dcr.contrib.celery.enqueue",
}


#: How often a job is retried; with the pauses between, for about five hours.
MAX_TRIES = 20
# The first pause and the longest, in seconds. Each is twice the one before.
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 1800.0


# What a row remembers a failure as, where that is not the name of the action.
_TASKS = {"forget": "revoke", "renew_if_due": "renew"}


def service(action: str) -> Service:
    """Return what does a job of this name; raise KeyError where nothing does."""
    if action == "renew_if_due":
        return services.renew_if_due
    entry = ACTIONS[action]
    found: Service = getattr(services, entry.service or action)
    return partial(found, **entry.arguments)


def runner() -> Runner | None:
    """Return what DCR_TASK_RUNNER names, or None for "inline".

    Raises ImproperlyConfigured where that cannot be imported.
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
    """Hand a job on the registration ``pk`` to DCR_TASK_RUNNER.

    ``action`` is one of the lifecycle's, or "renew_if_due".

    Inside a transaction that happens after its commit. Raises ImproperlyConfigured where there
    is no queue, NetworkError where it cannot be reached, and KeyError for another action.
    """
    run = runner()
    if run is None:
        raise ImproperlyConfigured(
            'There is no queue: DCR_TASK_RUNNER is "inline". Set it to "django.tasks" or "celery".'
        )
    service(action)  # which there has to be
    alias = router.db_for_write(ClientRegistration)
    transaction.on_commit(partial(run, action, pk), using=alias)


def perform(action: str, pk: int, tries: int = 0) -> float | None:
    """Do a job; return in how many seconds to do it again, or None when it is finished.

    For those who run jobs. ``tries`` is how often this one was tried before; with ``MAX_TRIES``
    no other try is asked for. Does nothing where there is nothing left to do, as in a job that
    is delivered again after its worker was killed. What failed a moment ago is left for later,
    nothing being sent. Raises the DCRError that ends a job, which
    the row then has as its ``last_error``.
    """
    registration = _open(action, pk)
    if registration is None:
        return None
    try:
        with actor("background"), backoff(registration, _TASKS.get(action, action)):
            service(action)(registration)
    except DCRError as exc:
        if tries < MAX_TRIES and _may_pass(exc):
            return _pause(exc, tries)
        _record(registration, action, exc)
        raise
    return None


def _open(action: str, pk: int) -> ClientRegistration | None:
    """Return the row, unless it was removed or the job was done already."""
    rows = ClientRegistration.objects.primary().select_related("server").filter(pk=pk)
    finished = ACTIONS[action].finished if action in ACTIONS else ()
    return rows.exclude(status__in=finished).first()


def _may_pass(error: DCRError) -> bool:
    wait_is_asked_for = error.retry_after is not None or error.status in (429, 503)
    return wait_is_asked_for or isinstance(error, NetworkError)


def _pause(error: DCRError, tries: int) -> float:
    """Never before the moment that was asked for, and not all jobs at the same moment."""
    longest: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries)
    return (error.retry_after or 0) + random.uniform(0.5, 1) * longest  # noqa: S311


def _record(registration: ClientRegistration, action: str, error: DCRError) -> None:
    """Write the error on the row, unless the service has done so."""
    if registration.last_error == str(error):
        return
    if not (registration.claim(*Status, task=action) and registration.fail(error)):
        log("not_stored", "Not recorded on registration %s: %s", registration.pk, error)

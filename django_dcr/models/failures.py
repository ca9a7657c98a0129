"""Rows that remember how an attempt failed, and when it may be retried."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr.conf import conf
from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.fields import keyed_digest
from django_dcr.text import clean

#: The longest pause, in seconds, whatever the number of failures and the ``Retry-After``.
LONGEST_PAUSE = 3600.0

# The errors that a server causes. No request precedes the others, so they are not remembered.
_KINDS: dict[str, type[DCRError]] = {
    kind.__name__: kind
    for kind in (
        InvalidResponseError,
        NetworkError,
        RegistrationGoneError,
        RequestRejectedError,
        UnsupportedError,
    )
}
#: The attributes of an error that are stored with its class and message, if it has them.
_ATTRIBUTES = ("step", "status", "error", "error_description", "sent")
_MAX_DOUBLINGS = 20


def pause_after(count: int, retry_after: float | None = None) -> float:
    """Return the pause in seconds after ``count`` failures, or the server's ``retry_after``."""
    backoff = conf.DCR_BACKOFF * 2 ** min(count - 1, _MAX_DOUBLINGS)
    return float(min(max(retry_after or 0, backoff), LONGEST_PAUSE))


class RememberingModel(models.Model):
    """A row that remembers how the last attempt failed, until one succeeds.

    ``retry_at`` without a ``failure`` means that a process is trying now; until then no other
    process tries.
    """

    #: The last error, as ``failure_columns()`` stores it; null for none.
    failure = models.JSONField(null=True, editable=False)
    retry_at = models.DateTimeField(_("next attempt"), null=True, editable=False)

    #: Whether this caller succeeded with ``claim_retry()``, and so may try now.
    may_retry = False
    #: Whether this caller accepts the failure of another process that it waited for.
    accepts_failure = False

    class Meta:
        abstract = True

    def conditions(self) -> str:
        """A digest of what the outcome of an attempt depends on."""
        raise NotImplementedError  # pragma: no cover - each such model has its own

    def failed_at(self, task: str = "") -> bool:
        """Whether the last attempt, at ``task`` if given, failed under the present conditions."""
        failure = self.failure
        return bool(
            failure and task in ("", failure["task"]) and failure["conditions"] == self.conditions()
        )

    @property
    def seconds_until_retry(self) -> float:
        """The seconds until the site retries by itself; 0 if it may now."""
        if self.retry_at is None:
            return 0.0
        left: float = (self.retry_at - timezone.now()).total_seconds()
        pause = self.failure["pause"] if self.failure else _claim_seconds()
        # A longer time was written by a clock that has been set back since.
        return left if 0 < left <= pause else 0.0

    @property
    def paused_until(self) -> datetime | None:
        """Until when the site does not retry what failed by itself; None if it may now."""
        return self.retry_at if self.seconds_until_retry and self.failed_at() else None

    def remembered_error(self, issuer: str = "") -> DCRError:
        """The error of the last attempt, with ``retry_after``."""
        failure = self.failure or {}
        kind = _KINDS[failure["class"]]
        known = {name: failure[name] for name in _ATTRIBUTES if name in failure}
        error = kind(failure["text"], issuer=issuer, **known)
        error.attempts = tuple((url, outcome) for url, outcome in failure["attempts"])
        error.retry_after = math.ceil(self.seconds_until_retry) or 1
        return error

    def failure_columns(self, error: object, task: str, **flags: bool) -> dict[str, Any]:
        """The values of both columns after ``error``; empty if it is not to be remembered."""
        if type(error).__name__ not in _KINDS or not isinstance(error, DCRError):
            return {}
        count = self._failures_so_far(task) + 1
        pause = pause_after(count, error.retry_after)
        failure = {
            "class": type(error).__name__,
            "text": str(error),
            "attempts": [(clean(url, 300), clean(outcome, 300)) for url, outcome in error.attempts],
            **{name: getattr(error, name) for name in _ATTRIBUTES if hasattr(error, name)},
            "task": task,
            "conditions": self.conditions(),
            "count": count,
            "pause": pause,
            **flags,
        }
        return {"failure": failure, "retry_at": timezone.now() + timedelta(seconds=pause)}

    def _failures_so_far(self, task: str) -> int:
        if self.failure is None or not self.failed_at(task):
            return 0
        # A retry by a person during a pause does not make the next pause longer.
        insists = self.seconds_until_retry and not self.may_retry
        count: int = self.failure["count"]
        return count - 1 if insists else count

    def claim_retry(self) -> bool:
        """Reserve the next attempt; False if another process has done so since this was loaded.

        No other caller tries until the outcome is stored or ``DCR_LEASE`` seconds have passed.
        """
        pause = _claim_seconds()
        values: dict[str, Any] = {"retry_at": timezone.now() + timedelta(seconds=pause)}
        # A failure under other conditions says nothing about this attempt.
        values["failure"] = {**(self.failure or {}), "pause": pause} if self.failed_at() else None
        claimed = self._stored().filter(retry_at=self.retry_at).update(**values)
        if claimed:
            self.failure, self.retry_at = values["failure"], values["retry_at"]
            self.may_retry = True
        return bool(claimed)

    def _stored(self) -> models.QuerySet[Any]:
        alias = router.db_for_write(type(self), instance=self)
        return type(self)._default_manager.using(alias).filter(pk=self.pk)


#: What a success writes.
NO_FAILURE: dict[str, Any] = {"failure": None, "retry_at": None}


def fingerprint(*parts: Any) -> str:
    """A digest of any values, against which nobody without SECRET_KEY can check a guess."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return keyed_digest("conditions", text)


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(getattr(value, "ciphertext", value))  # a Secret is not decrypted


def _claim_seconds() -> float:
    return min(float(conf.DCR_LEASE), LONGEST_PAUSE)

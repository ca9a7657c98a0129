"""Rows that remember how an attempt failed, and when it may be made again."""

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

#: The longest pause, in seconds, however often something failed and whatever a server asks for.
LONGEST_PAUSE = 3600.0

# The errors that a server causes. All others cost no request.
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
#: The attributes of an error that are stored beside its class and text, where it has them.
_ATTRIBUTES = ("step", "status", "error", "error_description", "sent")
_MAX_DOUBLINGS = 20


def pause_after(count: int, retry_after: float | None = None) -> float:
    """Return for how many seconds to rest after so many failures, or as a server asks for."""
    backoff = conf.DCR_BACKOFF * 2 ** min(count - 1, _MAX_DOUBLINGS)
    return float(min(max(retry_after or 0, backoff), LONGEST_PAUSE))


class RememberingModel(models.Model):
    """A row that remembers how the last attempt failed, until one succeeds.

    ``retry_at`` without a ``failure`` says that a process is trying now, and until when no other
    one tries.
    """

    #: The last error, for ``remembered()``, and for how long it counts; null for none.
    failure = models.JSONField(null=True, editable=False)
    retry_at = models.DateTimeField(_("next attempt"), null=True, editable=False)

    #: Whether this caller won ``claim_retry()``, and so is the one that may try now.
    may_retry = False
    #: Whether this caller accepts the failure of another process that it waited for.
    is_calm = False

    class Meta:
        abstract = True

    def conditions(self) -> str:
        """A digest of what the outcome of an attempt depends on at this site."""
        raise NotImplementedError  # pragma: no cover - each such model has its own

    def failed_at(self, task: str = "") -> bool:
        """Whether the last attempt failed, at ``task`` if given, under the present conditions."""
        failure = self.failure
        return bool(
            failure and task in ("", failure["task"]) and failure["conditions"] == self.conditions()
        )

    @property
    def seconds_until_retry(self) -> float:
        """For how many seconds the site does not try again by itself."""
        if self.retry_at is None:
            return 0.0
        left: float = (self.retry_at - timezone.now()).total_seconds()
        pause = self.failure["pause"] if self.failure else _claim_seconds()
        # More than the pause was written by a clock that has been set back since.
        return left if 0 < left <= pause else 0.0

    @property
    def rests_until(self) -> datetime | None:
        """Until when what failed is not tried again by itself; None where it may be now."""
        return self.retry_at if self.seconds_until_retry and self.failed_at() else None

    def remembered(self, issuer: str = "") -> DCRError:
        """The error of the last attempt, with ``retry_after``."""
        failure = self.failure or {}
        kind = _KINDS[failure["class"]]
        known = {name: failure[name] for name in _ATTRIBUTES if name in failure}
        error = kind(failure["text"], issuer=issuer, **known)
        error.attempts = tuple((url, outcome) for url, outcome in failure["attempts"])
        error.retry_after = math.ceil(self.seconds_until_retry) or 1
        return error

    def remembering(self, error: object, task: str, **flags: bool) -> dict[str, Any]:
        """The values of both columns after ``error``; none where it is not to be remembered."""
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
        # A person who tries during a pause does not make the next one longer.
        insists = self.seconds_until_retry and not self.may_retry
        count: int = self.failure["count"]
        return count - 1 if insists else count

    def claim_retry(self) -> bool:
        """Reserve the next attempt; False where another process has done so since this was loaded.

        No other caller tries until the outcome is stored, or ``DCR_LEASE`` seconds have passed.
        """
        pause = _claim_seconds()
        values: dict[str, Any] = {"retry_at": timezone.now() + timedelta(seconds=pause)}
        # What failed under other conditions says nothing of this attempt.
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
FORGOTTEN: dict[str, Any] = {"failure": None, "retry_at": None}


def fingerprint(*parts: Any) -> str:
    """A digest of any values, which nobody without SECRET_KEY can check a guess against."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return keyed_digest("conditions", text)


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(getattr(value, "ciphertext", value))  # a Secret stays closed


def _claim_seconds() -> float:
    return min(float(conf.DCR_LEASE), LONGEST_PAUSE)

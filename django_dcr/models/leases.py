"""Rows that one process at a time may work on: a lease by the database's clock, with fencing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any, ClassVar

from django.db import DatabaseError, Error, models, router
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr.conf import conf
from django_dcr.fields import SecretField
from django_dcr.logs import log
from django_dcr.models.persistence import (
    commit_or_in_doubt,
    moment_after,
    retry_on_db_error,
    savepoint_if_nested,
    update_in_savepoint,
    write_confirmed,
)


class DatabaseNow(Now):
    """The database's own clock, which all hosts share, in UTC on every database."""

    def as_mysql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra_context)


#: A condition: no process holds a lease on the row that has not expired.
LEASE_IS_FREE = models.Q(lease_until__isnull=True) | models.Q(lease_until__lt=DatabaseNow())
#: A condition: the last lease expired before it was released.
WAS_INTERRUPTED = models.Q(lease_until__lt=DatabaseNow())


def _new_lease() -> dict[str, Any]:
    return {"lease": secrets.token_hex(16), "lease_until": _seconds_from_now(conf.DCR_LEASE)}


@lru_cache(maxsize=8)
def _seconds_from_now(seconds: float) -> models.Expression:
    until = DatabaseNow() + timedelta(seconds=seconds)
    return models.ExpressionWrapper(until, output_field=models.DateTimeField())


def _long_ago() -> datetime:
    return timezone.now() - timedelta(days=2)  # past by every host's clock


class LeasedModel(models.Model):
    """A row that a process leases before it works on it, and that only the holder may write."""

    status: Any  # a column of each such model

    lease = models.CharField(max_length=32, blank=True, default="", editable=False)
    lease_until = models.DateTimeField(null=True, editable=False, db_index=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    #: The task that the row was last claimed for.
    task = ""
    #: The status in which it was claimed.
    claimed_as = ""
    #: Whether the server may have issued credentials that the row lacks: the last holder never
    #: released its lease, or an answer could not be stored. The lease is then kept as a mark.
    interrupted = False
    #: The fields that ``reload`` leaves alone.
    kept_on_reload: ClassVar[tuple[str, ...]] = ("id",)
    # ``updated_at`` as it was loaded: a caller that has saved since may have stale other columns.
    _loaded: datetime | None = None
    # When the lease expires, by time.monotonic().
    _lease_ends = 0.0

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        row = super().from_db(*args, **kwargs)
        row._loaded = row.__dict__.get("updated_at")
        return row

    def claim(self, *statuses: str, task: str = "", **values: Any) -> bool:
        """Lease the row for ``DCR_LEASE`` seconds if it is in one of ``statuses`` and free.

        ``values`` are written with the lease; ``task`` is what the row is leased for. If the row
        may have changed since it was loaded, it is loaded again.
        """
        acquired = (self._seems_free(statuses) and self._acquire(values)) or (
            self._reload_if_free(statuses) and self._acquire(values)
        )
        if acquired:
            self.task = task
        return acquired

    def _seems_free(self, statuses: Collection[str]) -> bool:
        """Whether the row may be leased, provided that it is still as it was loaded."""
        is_as_loaded = self._loaded is not None and self.updated_at == self._loaded
        seems_free = is_as_loaded and self.status in statuses and not self.lease
        return seems_free and not self.get_deferred_fields()

    def _reload_if_free(self, statuses: Collection[str]) -> bool:
        """Load the row again if it may be leased; return whether it may."""
        try:
            # A SELECT locks nothing; on MariaDB many updates that match nothing may deadlock.
            self.reload(self._row().filter(LEASE_IS_FREE, status__in=statuses))
        except self.DoesNotExist:
            return False
        return True

    def _acquire(self, values: dict[str, Any]) -> bool:
        """Acquire the lease if the row is still as it was loaded."""
        ends = time.monotonic() + conf.DCR_LEASE
        unchanged = {"status": self.status, "updated_at": self.updated_at}
        values = {**values, **_new_lease(), "updated_at": self._next_moment()}
        free = self._row().filter(LEASE_IS_FREE, **unchanged)
        acquire = partial(free.update, **values)
        if not write_confirmed(acquire, partial(self._has, lease=values["lease"]), self._alias):
            return False
        self.claimed_as, self.interrupted = self.status, bool(self.lease)
        self._lease_ends = ends
        self._assign({**values, "lease_until": None})  # the database knows until when
        return True

    def _next_moment(self) -> datetime:
        return moment_after(self.updated_at)

    def insert(self, *, task: str, **values: Any) -> None:
        """Insert the row with ``values`` and a lease for ``task``; or change nothing."""
        before = {name: getattr(self, name) for name in (*values, "lease")}
        self._assign({**values, **_new_lease()})
        self._lease_ends = time.monotonic() + conf.DCR_LEASE
        alias = self._alias
        try:
            with savepoint_if_nested(alias):
                retry_on_db_error(partial(self.save, force_insert=True, using=alias), alias)
        except DatabaseError:
            self._assign(before)
            raise
        finally:
            self.lease_until = None  # the database knows until when
        self.task = task

    def _assign(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def reload(self, rows: models.QuerySet[Any] | None = None) -> None:
        """Load afresh all but the fields in ``kept_on_reload``, from ``rows`` if given."""
        fields = (f for f in self._meta.concrete_fields if f.name not in self.kept_on_reload)
        names = [field.attname for field in fields]
        self.refresh_from_db(using=self._alias, fields=names, from_queryset=rows)

    def release(self) -> None:
        """Release the lease, unless writing an outcome has done so.

        Raises nothing: a lease that cannot be released expires.
        """
        if not self.lease:
            return
        try:
            self._write(release=True)
        except Error as exc:
            log("not_noted", "The lease of %s was not released and will expire: %s", self.pk, exc)

    @property
    def _alias(self) -> str:
        # Decisions are made on the database that is written to: a replica may lag.
        return router.db_for_write(type(self), instance=self)

    def _row(self) -> models.QuerySet[Any]:
        return type(self)._default_manager.using(self._alias).filter(pk=self.pk)

    def owned_by_me(self) -> models.Q:
        return models.Q(lease=self.lease)

    def _write(
        self,
        fence: models.Q | None = None,
        *,
        release: bool = False,
        atomic: bool = False,
        until: float | None = None,
        **values: Any,
    ) -> bool:
        """Write if this process holds the lease, or if ``fence`` holds where it is given.

        An ``atomic`` write raises InDoubtError if it may have been carried out. ``until`` is
        passed to ``write_confirmed``.
        """
        if release:
            values |= self._released()
        values["updated_at"] = self._next_moment()
        for name, value in values.items():
            field = self._meta.get_field(name)
            if isinstance(field, SecretField):
                values[name] = field.sealed(value)  # once, so that row and attribute agree
        update = partial(self._update, fence, values)
        write = partial(commit_or_in_doubt if atomic else update_in_savepoint, update, self._alias)
        is_there = partial(self._has, updated_at=values["updated_at"])
        written = write_confirmed(write, is_there, self._alias, until=until)
        if written:
            self._assign(values)
        return written

    def _released(self) -> dict[str, Any]:
        # An expired lease that was not released marks an interruption.
        return (
            {"lease_until": _long_ago()} if self.interrupted else {"lease": "", "lease_until": None}
        )

    def _last_attempt(self) -> float:
        """Until when, by ``time.monotonic()``, to try to store what a server issued.

        It leaves time, within the lease, to delete a client that cannot be stored.
        """
        return self._lease_ends - min(conf.DCR_TIMEOUT, conf.DCR_LEASE / 4)

    def _has(self, **values: Any) -> bool:
        return self._row().filter(**values).exists()

    def _update(self, fence: models.Q | None, values: dict[str, Any]) -> int:
        return self._row().filter(self.owned_by_me() if fence is None else fence).update(**values)

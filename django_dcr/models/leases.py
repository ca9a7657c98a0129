"""Rows that one process at a time may work on: a lease by database time, with fencing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any, ClassVar

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    models,
    router,
    transaction,
)
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr.conf import conf
from django_dcr.fields import SecretField
from django_dcr.models import prepared


class DatabaseNow(Now):
    """The database's own clock, which all hosts share, in UTC on every database."""

    def as_mysql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra_context)


#: A condition: no process holds the row, or its time is up.
LEASE_IS_FREE = models.Q(lease_until__isnull=True) | models.Q(lease_until__lt=DatabaseNow())


def _new_lease() -> dict[str, Any]:
    return {"lease": secrets.token_hex(16), "lease_until": _in(conf.DCR_LEASE)}


@lru_cache(maxsize=8)
def _in(seconds: float) -> models.Expression:
    until = DatabaseNow() + timedelta(seconds=seconds)
    return models.ExpressionWrapper(until, output_field=models.DateTimeField())


class InDoubtError(OperationalError):
    """A COMMIT got no reply, and the database cannot be asked what came of it."""


class LeasedModel(models.Model):
    """A row that is claimed before it is worked on, and written only by who holds it."""

    status: Any  # a column of each such model

    lease = models.CharField(max_length=32, blank=True, default="", editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    #: What the row was last claimed for.
    task = ""
    #: The status in which it was claimed.
    claimed_as = ""
    #: The fields that ``reload`` leaves alone.
    kept_on_reload: ClassVar[tuple[str, ...]] = ("id",)
    # ``updated_at`` as it was loaded: who has saved a column since may not know the others.
    _loaded: datetime | None = None

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        row = super().from_db(*args, **kwargs)
        row._loaded = row.__dict__.get("updated_at")
        return row

    def claim(self, *statuses: str, task: str = "", **values: Any) -> bool:
        """Take the row for ``DCR_LEASE`` seconds if it is in one of ``statuses`` and free.

        ``values`` are written with the lease. The row is loaded afresh: what another process
        stored while this one waited counts. ``task`` says what the row is taken for.
        """
        if not (self._seems_free(statuses) and self._take(values)):
            try:
                # Looking locks nothing; on MariaDB many updates in vain and one write are a
                # deadlock.
                self.reload(self._row().filter(LEASE_IS_FREE, status__in=statuses))
            except self.DoesNotExist:
                return False
            if not self._take(values):
                return False
        self.task = task
        return True

    def _seems_free(self, statuses: Collection[str]) -> bool:
        """Whether the row may be claimed if nobody has written it since it was loaded."""
        is_as_loaded = self._loaded and self.updated_at == self._loaded
        is_complete = not self.get_deferred_fields()
        return bool(is_as_loaded and is_complete and self.status in statuses and not self.lease)

    def _take(self, values: dict[str, Any]) -> bool:
        """Take the row if it is still as it was loaded, which these columns tell."""
        unchanged = {"id": self.pk, "status": self.status, "updated_at": self.updated_at}
        values = {**values, **_new_lease(), "updated_at": self._next_moment()}
        taken = prepared.update(
            type(self),
            values,
            where=unchanged,
            alias=self._alias,
            condition=LEASE_IS_FREE,
            key=conf.DCR_LEASE,
        )
        if taken:
            self.claimed_as = self.status
            self._assign({**values, "lease_until": None})  # the database knows until when
        return bool(taken)

    def _next_moment(self) -> datetime:
        """Now, but later than the last write, whatever the clocks of several hosts say."""
        return max(timezone.now(), self.updated_at + timedelta(microseconds=1))

    def insert(self, *, task: str, **values: Any) -> None:
        """Insert the row with ``values``, taken for ``task`` already; or change nothing."""
        before = {name: getattr(self, name) for name in (*values, "lease")}
        self._assign({**values, **_new_lease()})
        try:
            with _shield(self._alias):
                self.save(using=self._alias, force_insert=True)
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
        """Give the lease back, unless writing an outcome has done so."""
        if self.lease:
            self._write(release=True)

    @property
    def _alias(self) -> str:
        # Decisions are made where writes go: a replica may lag.
        return router.db_for_write(type(self), instance=self)

    def _row(self) -> models.QuerySet[Any]:
        return type(self)._default_manager.using(self._alias).filter(pk=self.pk)

    def _mine(self) -> models.Q:
        return models.Q(lease=self.lease)

    def _write(
        self,
        fence: models.Q | None = None,
        *,
        release: bool = False,
        atomic: bool = False,
        **values: Any,
    ) -> bool:
        """Write while this process holds the row, or where ``fence`` allows it instead.

        Retries once where the connection died while HTTP went on. An InDoubtError tells of a
        write that may have been done all the same; only one that is ``atomic`` raises it.
        """
        if release:
            values |= {"lease": "", "lease_until": None}
        values["updated_at"] = self._next_moment()
        for name, value in values.items():
            field = self._meta.get_field(name)
            if isinstance(field, SecretField):
                values[name] = field.sealed(value)  # once, so that row and attribute agree
        update = partial(self._update, fence, values)
        write = partial(_committed if atomic else _shielded, update, self._alias)
        try:
            written = write()
        except (OperationalError, InterfaceError) as exc:
            if connections[self._alias].in_atomic_block:
                raise
            written = self._written_after_all(write, values["updated_at"], exc)
        if written:
            self._assign(values)
        return written

    def _update(self, fence: models.Q | None, values: dict[str, Any]) -> int:
        if fence is not None:
            return self._row().filter(fence).update(**values)
        mine = {"id": self.pk, "lease": self.lease}
        return prepared.update(type(self), values, where=mine, alias=self._alias)

    def _written_after_all(
        self, write: Callable[[], bool], moment: datetime, first: Exception
    ) -> bool:
        """Write once more on a new connection, or find that an attempt was committed."""
        mark = self._row().filter(updated_at=moment)
        connections[self._alias].close()
        try:
            return write() or mark.exists()
        except (OperationalError, InterfaceError) as second:
            connections[self._alias].close()
            in_doubt = isinstance(first, InDoubtError) or isinstance(second, InDoubtError)
            if _found(mark, in_doubt=in_doubt):
                return True
            raise OperationalError(*second.args) from second


def _shield(alias: str) -> AbstractContextManager[Any]:
    """Keep a refused statement from poisoning a test's outer transaction: the caller goes on."""
    is_nested = connections[alias].in_atomic_block
    return transaction.atomic(using=alias) if is_nested else nullcontext()


def _shielded(update: Callable[[], int], alias: str) -> bool:
    with _shield(alias):
        return bool(update())


def _committed(update: Callable[[], int], alias: str) -> bool:
    """Update in a transaction: what fails before its end has surely not been done."""
    updated = None
    try:
        with transaction.atomic(using=alias):
            updated = update()
    except (OperationalError, InterfaceError) as exc:
        if updated is None:
            raise
        raise InDoubtError(*exc.args) from exc
    return bool(updated)


def _found(mark: models.QuerySet[Any], *, in_doubt: bool) -> bool:
    try:
        return mark.exists()
    except (OperationalError, InterfaceError) as exc:
        if in_doubt:
            raise InDoubtError(*exc.args) from exc
        return False

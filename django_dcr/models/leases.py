"""Rows that one process at a time may work on: a lease by database time, with fencing."""

from __future__ import annotations

import secrets
from datetime import timedelta
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


class DatabaseNow(Now):
    """The database's own clock, which all hosts share, in UTC on every database."""

    def as_mysql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra_context)


def lease_is_free() -> models.Q:
    """A condition: no process holds the row, or its time is up."""
    return models.Q(lease_until__isnull=True) | models.Q(lease_until__lt=DatabaseNow())


def _new_lease() -> dict[str, Any]:
    until = DatabaseNow() + timedelta(seconds=conf.DCR_LEASE)
    moment = models.ExpressionWrapper(until, output_field=models.DateTimeField())
    return {"lease": secrets.token_hex(16), "lease_until": moment}


class InDoubtError(OperationalError):
    """A COMMIT got no reply, and the database cannot be asked what came of it."""


class LeasedModel(models.Model):
    """A row that is claimed before it is worked on, and written only by who holds it."""

    lease = models.CharField(max_length=32, blank=True, default="", editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    #: What the row was last claimed for.
    task = ""
    #: The fields that ``reload`` leaves alone.
    kept_on_reload: ClassVar[tuple[str, ...]] = ("id",)

    class Meta:
        abstract = True

    def claim(self, *statuses: str, task: str = "", **values: Any) -> bool:
        """Take the row for ``DCR_LEASE`` seconds if it is in one of ``statuses`` and free.

        ``values`` are written with the lease. The row is loaded afresh: what another process
        stored while this one waited counts. ``task`` says what the row is taken for.
        """
        rows = self._row().filter(lease_is_free(), status__in=statuses)
        try:
            # Looking locks nothing; on MariaDB many updates in vain and one write are a deadlock.
            self.reload(rows)
        except self.DoesNotExist:
            return False
        # Whatever is written between the two says so in this column.
        unchanged = rows.filter(updated_at=self.updated_at)
        values |= {**_new_lease(), "updated_at": timezone.now()}
        if not unchanged.update(**values):
            return False
        self._assign({**values, "lease_until": None})  # the database knows until when
        self.task = task
        return True

    def insert(self, *, task: str, **values: Any) -> None:
        """Insert the row with ``values``, taken for ``task`` already; or change nothing."""
        before = {name: getattr(self, name) for name in (*values, "lease")}
        self._assign({**values, **_new_lease()})
        try:
            # A refused insert must not poison a test's outer transaction: the caller goes on.
            with transaction.atomic(using=self._alias):
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
            self._write(self._mine(), release=True)

    @property
    def _alias(self) -> str:
        # Decisions are made where writes go: a replica may lag.
        return router.db_for_write(type(self), instance=self)

    def _row(self) -> models.QuerySet[Any]:
        return type(self)._default_manager.using(self._alias).filter(pk=self.pk)

    def _mine(self) -> models.Q:
        return models.Q(lease=self.lease)

    def _write(self, fence: models.Q, *, release: bool = False, **values: Any) -> bool:
        """Write where ``fence`` holds; retry once where the connection died while HTTP went on."""
        if release:
            values |= {"lease": "", "lease_until": None}
        values["updated_at"] = timezone.now()
        for name, value in values.items():
            field = self._meta.get_field(name)
            if isinstance(field, SecretField):
                values[name] = field.sealed(value)  # once, so that row and attribute agree
        rows = self._row().filter(fence)
        try:
            written = _committed(rows, values)
        except (OperationalError, InterfaceError) as exc:
            if connections[self._alias].in_atomic_block:
                raise
            written = self._written_after_all(rows, values, exc)
        if written:
            self._assign(values)
        return written

    def _written_after_all(
        self, rows: models.QuerySet[Any], values: dict[str, Any], first: Exception
    ) -> bool:
        """Write once more on a new connection, or find that an attempt was committed."""
        mark = self._row().filter(updated_at=values["updated_at"])
        connections[self._alias].close()
        try:
            return _committed(rows, values) or mark.exists()
        except (OperationalError, InterfaceError) as second:
            connections[self._alias].close()
            in_doubt = isinstance(first, InDoubtError) or isinstance(second, InDoubtError)
            if _found(mark, in_doubt=in_doubt):
                return True
            raise OperationalError(*second.args) from second


def _committed(rows: models.QuerySet[Any], values: dict[str, Any]) -> bool:
    updated = None
    try:
        # A refused write must not poison a test's outer transaction: the caller goes on.
        with transaction.atomic(using=rows.db):
            updated = rows.update(**values)
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

"""Statements whose SQL is compiled once.

Django builds the SQL of each query anew, and for a row as wide as a registration that takes
longer than the database does. Here, too, the querysets, their SQL and the conversion of values
are Django's own; only what differs from one execution to the next is filled in afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from django.db import connections, models, transaction
from django.db.models.sql import InsertQuery, UpdateQuery
from django.utils.functional import cached_property

# Tells the values to look for from those to write.
_CONDITION = "where "


class Parameter(models.Expression):
    """Stands in a statement for the value of ``field`` that an execution brings as ``name``."""

    def __init__(self, field: models.Field[Any, Any], name: str) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return "%s", (self,)


class _Statement:
    def __init__(self, compiler: Any) -> None:
        self.compiler, self.connection = compiler, compiler.connection
        compiled = compiler.as_sql()  # a list of those that an insert takes
        sql, parameters = compiled[0] if isinstance(compiled, list) else compiled
        # By name, for Django's SQLite searches the whole text of a statement for nameless ones.
        self._parameters = {f"p{number}": each for number, each in enumerate(parameters)}
        self._sql = sql.replace("%%", "%%%%") % tuple(f"%({name})s" for name in self._parameters)

    @cached_property
    def converters(self) -> Any:
        """What turns the columns that it selects into values of their fields."""
        return self.compiler.get_converters([column for column, *_ in self.compiler.select])

    @contextmanager
    def executed(self, values: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the cursor, to be read."""
        bound = {
            name: each.field.get_db_prep_save(values[each.name], self.connection)
            if isinstance(each, Parameter)
            else each
            for name, each in self._parameters.items()
        }
        with self.connection.cursor() as cursor:
            cursor.execute(self._sql, bound)
            yield cursor


class _Thread(threading.local):
    """What was compiled: a compiler holds the connection, which is its thread's own."""

    def __init__(self) -> None:
        self.statements: dict[Hashable, _Statement] = {}


_thread = _Thread()


def _statement(alias: str, key: Hashable, compiler: Callable[[], Any]) -> _Statement:
    known = _thread.statements.get((alias, key))
    if known is None or known.connection is not connections[alias]:
        known = _thread.statements[alias, key] = _Statement(compiler())
    return known


def select(
    model: type[models.Model], names: Sequence[str], *, where: Mapping[str, Any], alias: str
) -> list[Sequence[Any]]:
    """Return what ``model.objects.using(alias).filter(**where).values_list(*names)`` does."""

    def compiler() -> Any:
        return _rows(model, where).values_list(*names).query.get_compiler(alias)

    statement = _statement(alias, (select, model, *names, *where), compiler)
    with statement.executed(_conditions(where)) as cursor:
        found = cursor.fetchall()
    return list(statement.compiler.apply_converters(found, statement.converters))


def update(
    model: type[models.Model],
    values: Mapping[str, Any],
    *,
    where: Mapping[str, Any],
    alias: str,
    condition: models.Q | None = None,
    key: Hashable = None,
) -> int:
    """Return what ``model.objects.using(alias).filter(**where).update(**values)`` does.

    A ``condition``, and those of the ``values`` that are expressions, become part of the
    statement; where they may differ another time, ``key`` must, too.
    """

    def compiler() -> Any:
        rows = _rows(model, where).filter(condition or models.Q())
        query: Any = rows.query.chain(UpdateQuery)
        query.add_update_values(_standing_for(model, values))
        return query.get_compiler(alias)

    statement = _statement(alias, (update, model, *values, key, *where), compiler)
    with (
        transaction.mark_for_rollback_on_error(using=alias),
        statement.executed({**values, **_conditions(where)}) as cursor,
    ):
        return int(cursor.rowcount)


def insert(
    model: type[models.Model], values: Mapping[str, Any], *, alias: str, key: Hashable = None
) -> Any:
    """Insert a row with ``values``, all but its primary key; return that."""

    def compiler() -> Any:
        fields = [model._meta.get_field(name) for name in values]
        query: Any = InsertQuery(model)
        query.insert_values(fields, [SimpleNamespace(**_standing_for(model, values))], raw=True)
        result = query.get_compiler(alias)
        can_return = result.connection.features.can_return_columns_from_insert  # MySQL cannot
        result.returning_fields = [model._meta.pk] if can_return else None
        return result

    statement = _statement(alias, (insert, model, *values, key), compiler)
    with (
        transaction.mark_for_rollback_on_error(using=alias),
        statement.executed(values) as cursor,
    ):
        return cursor.fetchone()[0] if statement.compiler.returning_fields else cursor.lastrowid


def _rows(model: type[models.Model], where: Mapping[str, Any]) -> models.QuerySet[Any]:
    sought = {name: _parameter(model, name, _CONDITION) for name in where}
    return model._default_manager.filter(**sought)


def _conditions(where: Mapping[str, Any]) -> dict[str, Any]:
    return {_CONDITION + name: value for name, value in where.items()}


def _standing_for(model: type[models.Model], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, models.Expression) else _parameter(model, name)
        for name, value in values.items()
    }


def _parameter(model: type[models.Model], name: str, prefix: str = "") -> Parameter:
    field: Any = model._meta.get_field(name)
    return Parameter(field, prefix + name)

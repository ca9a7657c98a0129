"""Statements whose SQL is compiled once.

Django builds the SQL of each query anew, and for a row as wide as a registration that takes
longer than the database does. Here, too, the querysets, their SQL and the conversion of values
are Django's own; only what differs from one execution to the next is filled in afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

from django.db import connections, models, transaction
from django.db.models.sql import Query, UpdateQuery

# Tells the values to look for from those to write.
_CONDITION = "where "


class Parameter(models.Expression):
    """Stands in a statement for a value of ``field`` that each execution brings."""

    def __init__(self, field: models.Field[Any, Any], name: str) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return "%s", (self,)


class _Statement:
    def __init__(self, query: Query, alias: str) -> None:
        self.connection = connections[alias]
        self.compiler: Any = query.get_compiler(alias)
        self._sql, self._parameters = self.compiler.as_sql()

    def execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        bound = [
            each.field.get_db_prep_save(values[each.name], self.connection)
            if isinstance(each, Parameter)
            else each
            for each in self._parameters
        ]
        cursor.execute(self._sql, bound)


class _Thread(threading.local):
    """What was compiled: a compiler holds the connection, which is its thread's own."""

    def __init__(self) -> None:
        self.statements: dict[Hashable, _Statement] = {}


_thread = _Thread()


def _statement(alias: str, key: Hashable, query: Callable[[], Query]) -> _Statement:
    known = _thread.statements.get((alias, key))
    if known is None or known.connection is not connections[alias]:
        known = _thread.statements[alias, key] = _Statement(query(), alias)
    return known


def select(
    model: type[models.Model], names: Sequence[str], *, where: Mapping[str, Any], alias: str
) -> list[Sequence[Any]]:
    """Return what ``model.objects.using(alias).filter(**where).values_list(*names)`` does."""

    def query() -> Query:
        return _rows(model, where).values_list(*names).query

    statement = _statement(alias, (model, *names, *where), query)
    with statement.connection.cursor() as cursor:
        statement.execute(cursor, _conditions(where))
        found = cursor.fetchall()
    return list(statement.compiler.results_iter([found]))


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

    def query() -> Query:
        rows = _rows(model, where).filter(condition or models.Q())
        result: Any = rows.query.chain(UpdateQuery)
        result.add_update_values(
            {
                name: value if isinstance(value, models.Expression) else _parameter(model, name)
                for name, value in values.items()
            }
        )
        return cast("Query", result)

    statement = _statement(alias, (model, *values, key, *where), query)
    with (
        transaction.mark_for_rollback_on_error(using=alias),
        statement.connection.cursor() as cursor,
    ):
        statement.execute(cursor, {**values, **_conditions(where)})
        return int(cursor.rowcount)


def _rows(model: type[models.Model], where: Mapping[str, Any]) -> models.QuerySet[Any]:
    sought = {name: _parameter(model, name, _CONDITION) for name in where}
    return model._default_manager.filter(**sought)


def _parameter(model: type[models.Model], name: str, prefix: str = "") -> Parameter:
    field: Any = model._meta.get_field(name)
    return Parameter(field, prefix + name)


def _conditions(where: Mapping[str, Any]) -> dict[str, Any]:
    return {_CONDITION + name: value for name, value in where.items()}

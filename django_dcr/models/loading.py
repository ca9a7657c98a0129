"""Rows loaded by SQL that is written once, for the queries in front of every login.

Django takes longer to compile a query of so many columns than the database takes to answer it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import models

from django_dcr.fields import SecretField

_Model = TypeVar("_Model", bound=models.Model)


class Columns(Generic[_Model]):
    """The columns of a model's table, except those to be loaded on access."""

    def __init__(self, model: type[_Model], deferred: Collection[str] = ()) -> None:
        fields = [each for each in model._meta.concrete_fields if each.attname not in deferred]
        self.model = model
        self.names = [each.attname for each in fields]
        self.sql = ", ".join(f"{model._meta.db_table}.{each.column}" for each in fields)
        self._converters = [
            (index, convert) for index, each in enumerate(fields) if (convert := _converter(each))
        ]

    def load(self, values: Iterable[Any], connection: Any) -> _Model:
        """Return the row of which the database gave these values."""
        loaded = list(values)
        for index, convert in self._converters:
            if loaded[index] is not None:
                loaded[index] = convert(loaded[index], connection)
        return self.model.from_db(connection.alias, self.names, loaded)


def _converter(field: models.Field[Any, Any]) -> Callable[[Any, Any], Any] | None:
    if isinstance(field, SecretField):
        return lambda value, connection: field.from_db_value(value, None, connection)
    if isinstance(field, models.JSONField):
        return lambda value, _connection: json.loads(value) if isinstance(value, str) else value
    if isinstance(field, models.BooleanField):
        return lambda value, _connection: bool(value)
    if isinstance(field, models.DateTimeField):
        return _moment
    return None


def _moment(value: Any, connection: Any) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not settings.USE_TZ or moment.tzinfo:
        return moment
    zone = connection.settings_dict["TIME_ZONE"]
    return moment.replace(tzinfo=ZoneInfo(zone) if zone else timezone.utc)

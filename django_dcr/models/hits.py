"""The query in front of every login."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connections, models, router

from django_dcr.fields import SecretField, digest
from django_dcr.models.authorizationserver import AuthorizationServer
from django_dcr.models.clientregistration import ClientRegistration

# No login needs these columns; they are loaded on access.
_DEFERRED = {"deviations"}
_FIELDS: list[models.Field[Any, Any]] = list(AuthorizationServer._meta.concrete_fields)
_NAMES = [field.attname for field in _FIELDS]
_PREFIX = "server__"


def _statement() -> str:
    ours = [field.column for field in ClientRegistration._meta.concrete_fields]
    columns = [f"r.{column}" for column in ours if column not in _DEFERRED]
    columns += [f"s.{field.column} AS {_PREFIX}{field.attname}" for field in _FIELDS]
    tables = ClientRegistration._meta.db_table, AuthorizationServer._meta.db_table
    return (
        f"SELECT {', '.join(columns)} "  # noqa: S608
        f"FROM {tables[0]} r JOIN {tables[1]} s ON s.id = r.server_id "
        "WHERE r.key_digest IN (%s, %s) AND r.live = %s"
    )


# Written once: to compile so many columns takes Django longer than the database takes to answer.
_SQL = _statement()


def live_registration(issuer: str, owner: str) -> ClientRegistration | None:
    """Return the live registration of ``owner`` at ``issuer``, its server loaded with it.

    Where the owner has none and the server's row says that the site's own client is shared,
    that one.
    """
    found = {row.key_digest: row for row in _live(issuer, owner)}
    site = found.get(digest(issuer, ""))
    shared = site if site is not None and site.server.shared else None
    return found.get(digest(issuer, owner), shared)


def _live(issuer: str, owner: str) -> Iterator[ClientRegistration]:
    alias = router.db_for_write(ClientRegistration)  # a replica may lag
    manager = ClientRegistration._default_manager.db_manager(alias)
    keys = [digest(issuer, owner), digest(issuer, "")]
    for registration in manager.raw(_SQL, [*keys, True]):
        found = registration.__dict__
        theirs = {name: found.pop(_PREFIX + name) for name in _NAMES}
        for name, convert in _CONVERTERS.items():
            if theirs[name] is not None:
                theirs[name] = convert(theirs[name], alias)
        registration.server = AuthorizationServer.from_db(alias, _NAMES, theirs.values())
        yield registration


def _converter(field: models.Field[Any, Any]) -> Callable[[Any, str], Any] | None:
    """What converts a column of the server, which a raw query gives as the database has it."""
    if isinstance(field, SecretField):
        return lambda value, _alias: field.from_db_value(value, None, None)
    if isinstance(field, models.JSONField):
        return lambda value, _alias: json.loads(value) if isinstance(value, str) else value
    if isinstance(field, models.BooleanField):
        return lambda value, _alias: bool(value)
    if isinstance(field, models.DateTimeField):
        return _moment
    return None


def _moment(value: Any, alias: str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not settings.USE_TZ or moment.tzinfo:
        return moment
    zone = connections[alias].settings_dict["TIME_ZONE"]
    return moment.replace(tzinfo=ZoneInfo(zone) if zone else timezone.utc)


_CONVERTERS = {field.attname: convert for field in _FIELDS if (convert := _converter(field))}

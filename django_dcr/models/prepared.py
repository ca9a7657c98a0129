"""The query in front of every login, whose SQL is compiled once.

Django builds each statement anew, and for the columns of two tables that takes longer than all
else of a hit. The query, its SQL, the conversion of values and ``from_db()`` are Django's own.
"""

from __future__ import annotations

import threading
from typing import Any

from django.db import connections, router

from django_dcr.fields import digest
from django_dcr.models.registrations import ClientRegistration
from django_dcr.models.servers import AuthorizationServer

_OURS = [field.attname for field in ClientRegistration._meta.concrete_fields]
_THEIRS = [field.attname for field in AuthorizationServer._meta.concrete_fields]
#: Its digest stands where that of the key will stand; no issuer is empty.
_NO_KEY = "", ""
_NO_DIGEST = digest(*_NO_KEY)


class _Thread(threading.local):
    """What was compiled, by database: a compiler holds the connection, its thread's own."""

    def __init__(self) -> None:
        self.compiled: dict[str, tuple[Any, str, tuple[Any, ...]]] = {}


_thread = _Thread()


def live_registration(issuer: str, owner: str) -> ClientRegistration | None:
    """Return the live registration of ``owner`` at ``issuer``, its server loaded with it."""
    alias = router.db_for_write(ClientRegistration)  # a replica may lag
    compiler, sql, parameters = _compiled(alias)
    key = digest(issuer, owner)
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, [key if value == _NO_DIGEST else value for value in parameters])
        rows = cursor.fetchall()
    for row in compiler.results_iter([rows]):
        registration = ClientRegistration.from_db(alias, _OURS, row[: len(_OURS)])
        registration.server = AuthorizationServer.from_db(alias, _THEIRS, row[len(_OURS) :])
        return registration
    return None


def _compiled(alias: str) -> tuple[Any, str, tuple[Any, ...]]:
    known = _thread.compiled.get(alias)
    if known is None or known[0].connection is not connections[alias]:
        rows = ClientRegistration.objects.using(alias).for_key(*_NO_KEY).live()
        columns = [*_OURS, *(f"server__{name}" for name in _THEIRS)]
        compiler = rows.values_list(*columns).query.get_compiler(alias)
        known = _thread.compiled[alias] = (compiler, *compiler.as_sql())
    return known

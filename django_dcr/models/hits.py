"""The query in front of every login."""

from __future__ import annotations

from django.db import router

from django_dcr.fields import digest
from django_dcr.models import prepared
from django_dcr.models.registrations import ClientRegistration
from django_dcr.models.servers import AuthorizationServer

# What nobody logs in with is loaded when it is asked for.
_DEFERRED = {"history", "deviations"}
_OURS = [
    field.attname
    for field in ClientRegistration._meta.concrete_fields
    if field.attname not in _DEFERRED
]
_THEIRS = [field.attname for field in AuthorizationServer._meta.concrete_fields]
_COLUMNS = (*_OURS, *(f"server__{name}" for name in _THEIRS))


def live_registration(issuer: str, owner: str) -> ClientRegistration | None:
    """Return the live registration of ``owner`` at ``issuer``, its server loaded with it."""
    alias = router.db_for_write(ClientRegistration)  # a replica may lag
    key = {"key_digest": digest(issuer, owner), "live": True}
    for row in prepared.select(ClientRegistration, _COLUMNS, where=key, alias=alias):
        ours, theirs = row[: len(_OURS)], row[len(_OURS) :]
        registration: ClientRegistration = ClientRegistration.from_db(alias, _OURS, ours)
        registration.server = AuthorizationServer.from_db(alias, _THEIRS, theirs)
        return registration
    return None

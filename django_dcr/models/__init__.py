"""The two tables: the servers this site knows, and its registrations there."""

from __future__ import annotations

from django_dcr.models.history import acting
from django_dcr.models.hits import live_registration
from django_dcr.models.persistence import InDoubtError
from django_dcr.models.registrations import (
    EXPIRY_MARGIN,
    ClientRegistration,
    ClientRegistrationQuerySet,
    Status,
    check_owner,
)
from django_dcr.models.servers import (
    AuthorizationServer,
    AuthorizationServerQuerySet,
    check_issuer,
)

__all__ = [
    "EXPIRY_MARGIN",
    "AuthorizationServer",
    "AuthorizationServerQuerySet",
    "ClientRegistration",
    "ClientRegistrationQuerySet",
    "InDoubtError",
    "Status",
    "acting",
    "check_issuer",
    "check_owner",
    "live_registration",
]

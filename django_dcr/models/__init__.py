"""The tables: servers, registrations and their events, keys, and protected resources."""

from __future__ import annotations

import warnings
from typing import Any

from django_dcr.lifecycle import Status
from django_dcr.mechanisms import Mechanism
from django_dcr.models.authorizationserver import (
    AuthorizationServer,
    AuthorizationServerQuerySet,
    check_issuer,
)
from django_dcr.models.cacheddocument import CachedDocument
from django_dcr.models.client import EXPIRY_MARGIN
from django_dcr.models.clientkey import ClientKey, ClientKeyQuerySet, signing_key
from django_dcr.models.clientregistration import (
    ClientRegistration,
    ClientRegistrationQuerySet,
    check_owner,
    live_registration,
    may_expire,
    owner_or_client_id_is,
)
from django_dcr.models.persistence import InDoubtError
from django_dcr.models.protectedresource import (
    MAX_SERVERS,
    ProtectedResource,
    ProtectedResourceQuerySet,
    check_resource,
)
from django_dcr.models.registrationevent import RegistrationEvent, actor

__all__ = [
    "EXPIRY_MARGIN",
    "MAX_SERVERS",
    "AuthorizationServer",
    "AuthorizationServerQuerySet",
    "CachedDocument",
    "ClientKey",
    "ClientKeyQuerySet",
    "ClientRegistration",
    "ClientRegistrationQuerySet",
    "InDoubtError",
    "Mechanism",
    "ProtectedResource",
    "ProtectedResourceQuerySet",
    "RegistrationEvent",
    "Status",
    "actor",
    "check_issuer",
    "check_owner",
    "check_resource",
    "live_registration",
    "may_expire",
    "owner_or_client_id_is",
    "signing_key",
]


def __getattr__(name: str) -> Any:
    if name != "acting":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("acting() is called actor() now.", DeprecationWarning, stacklevel=2)
    return actor

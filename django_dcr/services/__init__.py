"""The use cases: each takes one row, asks the server, and stores the checked answer on that row.

A service that may change something at a server commits a lease on the row, sends its requests
with no transaction open, and commits the response. Inside a caller's ``atomic()`` it raises
ConflictError before anything is sent.
"""

from __future__ import annotations

from django_dcr.protocol import parse_challenge, scopes_for
from django_dcr.services.adoption import adopt
from django_dcr.services.asynchronous import (
    aadopt,
    adiscover,
    adiscover_resource,
    afor_login,
    aget_or_register,
    aget_or_register_for,
    aread,
    areconcile,
    aregister,
    arenew,
    areplace,
    aresume_login,
    aretry,
    arevoke,
    aupdate,
)
from django_dcr.services.choice import register_by_choice
from django_dcr.services.configuration import read, revoke, update
from django_dcr.services.discovery import discover
from django_dcr.services.documents import inspect_document
from django_dcr.services.key_rotation import rotate_client_key
from django_dcr.services.login import (
    check_id_token,
    check_login,
    check_login_request,
    check_signed_claims,
    client_refused,
    code_challenge_method,
    for_login,
    login_attempt,
    login_endpoint,
    login_scope,
    login_session,
    resume_login,
)
from django_dcr.services.probing import probe
from django_dcr.services.provision import get_or_register
from django_dcr.services.reconciliation import reconcile, retry
from django_dcr.services.registration import register
from django_dcr.services.renewal import renew, renew_if_due
from django_dcr.services.replacement import replace
from django_dcr.services.resources import discover_resource, get_or_register_for

__all__ = [
    "aadopt",
    "adiscover",
    "adiscover_resource",
    "adopt",
    "afor_login",
    "aget_or_register",
    "aget_or_register_for",
    "aread",
    "areconcile",
    "aregister",
    "arenew",
    "areplace",
    "aresume_login",
    "aretry",
    "arevoke",
    "aupdate",
    "check_id_token",
    "check_login",
    "check_login_request",
    "check_signed_claims",
    "client_refused",
    "code_challenge_method",
    "discover",
    "discover_resource",
    "for_login",
    "get_or_register",
    "get_or_register_for",
    "inspect_document",
    "login_attempt",
    "login_endpoint",
    "login_scope",
    "login_session",
    "parse_challenge",
    "probe",
    "read",
    "reconcile",
    "register",
    "register_by_choice",
    "renew",
    "renew_if_due",
    "replace",
    "resume_login",
    "retry",
    "revoke",
    "rotate_client_key",
    "scopes_for",
    "update",
]

"""The use cases: each takes one row, asks the server, and stores the checked answer on that row.

A service that may change something at a server commits a lease on the row, sends its requests
with no transaction open, and commits the response. Inside a caller's ``atomic()`` it raises
ConflictError before anything is sent. Each module imports only from the lines below its own::

    provision                               hands out a usable client, whatever that takes
    renewal  adoption  reconciliation  probing
    replacement  login
    registration  configuration             RFC 7591 and RFC 7592
    discovery  documents
    operation  key_rotation                 what every service has in common; this site's keys
"""

from __future__ import annotations

from asgiref.sync import sync_to_async

from django_dcr.protocol import parse_challenge, scopes_for
from django_dcr.services.adoption import adopt
from django_dcr.services.configuration import read, revoke, update
from django_dcr.services.discovery import discover, discover_resource
from django_dcr.services.documents import inspect_document
from django_dcr.services.key_rotation import rotate_client_key
from django_dcr.services.login import (
    check_id_token,
    check_login,
    check_login_request,
    check_signed_claims,
    client_refused,
    code_challenge_method,
    login_attempt,
    login_endpoint,
    login_scope,
    login_session,
    resume_login,
)
from django_dcr.services.probing import probe
from django_dcr.services.provision import for_login, get_or_register, get_or_register_for
from django_dcr.services.reconciliation import reconcile
from django_dcr.services.registration import register, register_by_choice
from django_dcr.services.renewal import renew, renew_if_due
from django_dcr.services.replacement import replace, retry

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

# For async views. ``sync_to_async`` runs each in the thread that Django keeps for the request, with
# the context of the caller: its connections to the database are closed with the request, and
# ``actor()`` holds.
aadopt = sync_to_async(adopt)
adiscover = sync_to_async(discover)
adiscover_resource = sync_to_async(discover_resource)
afor_login = sync_to_async(for_login)
aget_or_register = sync_to_async(get_or_register)
aget_or_register_for = sync_to_async(get_or_register_for)
aread = sync_to_async(read)
areconcile = sync_to_async(reconcile)
aregister = sync_to_async(register)
arenew = sync_to_async(renew)
areplace = sync_to_async(replace)
aresume_login = sync_to_async(resume_login)
aretry = sync_to_async(retry)
arevoke = sync_to_async(revoke)
aupdate = sync_to_async(update)

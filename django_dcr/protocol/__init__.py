"""The protocol as pure functions: no Django, no settings, no network, no database.

They make the URLs of metadata documents and the bodies of requests, and check responses. What a
server sent is untrusted until a function of this package has checked it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django_dcr.protocol.authentication import (
    ASSERTION_METHODS,
    AUTHENTICATION_METHODS,
    check_authentication_method,
    client_assertion,
    client_authentication,
)
from django_dcr.protocol.authorization import (
    check_id_token,
    check_plain_requests,
    check_redirect_uri,
    check_response_issuer,
    check_signed_claims,
    code_challenge_method,
    requested_scope,
)
from django_dcr.protocol.client_documents import MAX_AGE as DOCUMENT_MAX_AGE
from django_dcr.protocol.client_documents import (
    age_warnings,
    client_document,
    document_body,
    document_faults,
    document_method,
    document_url_fault,
    document_warnings,
)
from django_dcr.protocol.client_metadata import (
    KEY_MEMBERS,
    METADATA_MEMBERS,
    SECRET_METHODS,
    as_stored,
    client_metadata,
    merge_metadata,
    names_secret,
)
from django_dcr.protocol.error_responses import accepts_client, client_refusal, knows_client
from django_dcr.protocol.errors import Reply, check_status
from django_dcr.protocol.headers import (
    Challenge,
    entity_tag,
    freshness,
    parse_challenge,
    redirect_target,
)
from django_dcr.protocol.json import encode, parse_object, storable
from django_dcr.protocol.keys import HASHES, KEY_TYPES, has_key, key_set, mac
from django_dcr.protocol.policy import check_client_metadata, client_metadata_faults
from django_dcr.protocol.registration_requests import (
    OwnKeys,
    brings_keys,
    check_own_keys,
    differences,
    may_sign,
    prefers_to_sign,
    registration_request,
    secret_method,
    update_request,
    warnings,
)
from django_dcr.protocol.resource_metadata import (
    MAX_STEP_UPS,
    check_metadata_place,
    check_resource,
    check_resource_metadata,
    is_metadata_of,
    may_be_alias,
    named_servers,
    resource_metadata_urls,
    scopes_for,
)
from django_dcr.protocol.responses import (
    MAX_CLOCK_OFFSET,
    ClientInformation,
    client_information,
)
from django_dcr.protocol.server_metadata import (
    check_issuer,
    check_server_metadata,
    check_trusted_origin,
    endpoint,
    foreign_origins,
    unusable_endpoints,
    well_known_urls,
)

if TYPE_CHECKING:
    from django_dcr.protocol.jose import make_key, open_key, signature

__all__ = [
    "ASSERTION_METHODS",
    "AUTHENTICATION_METHODS",
    "DOCUMENT_MAX_AGE",
    "HASHES",
    "KEY_MEMBERS",
    "KEY_TYPES",
    "MAX_CLOCK_OFFSET",
    "MAX_STEP_UPS",
    "METADATA_MEMBERS",
    "SECRET_METHODS",
    "Challenge",
    "ClientInformation",
    "OwnKeys",
    "Reply",
    "accepts_client",
    "age_warnings",
    "as_stored",
    "brings_keys",
    "check_authentication_method",
    "check_client_metadata",
    "check_id_token",
    "check_issuer",
    "check_metadata_place",
    "check_own_keys",
    "check_plain_requests",
    "check_redirect_uri",
    "check_resource",
    "check_resource_metadata",
    "check_response_issuer",
    "check_server_metadata",
    "check_signed_claims",
    "check_status",
    "check_trusted_origin",
    "client_assertion",
    "client_authentication",
    "client_document",
    "client_information",
    "client_metadata",
    "client_metadata_faults",
    "client_refusal",
    "code_challenge_method",
    "differences",
    "document_body",
    "document_faults",
    "document_method",
    "document_url_fault",
    "document_warnings",
    "encode",
    "endpoint",
    "entity_tag",
    "foreign_origins",
    "freshness",
    "has_key",
    "is_metadata_of",
    "key_set",
    "knows_client",
    "mac",
    "make_key",
    "may_be_alias",
    "may_sign",
    "merge_metadata",
    "named_servers",
    "names_secret",
    "open_key",
    "parse_challenge",
    "parse_object",
    "prefers_to_sign",
    "redirect_target",
    "registration_request",
    "requested_scope",
    "resource_metadata_urls",
    "scopes_for",
    "secret_method",
    "signature",
    "storable",
    "unusable_endpoints",
    "update_request",
    "warnings",
    "well_known_urls",
]


def __getattr__(name: str) -> Any:
    if name not in ("make_key", "open_key", "signature"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("django_dcr.protocol.jose"), name)

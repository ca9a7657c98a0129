"""The protocol, and nothing else: no Django, no settings, no network, no database.

URLs of the metadata documents, request bodies, and checks on answers. What a server sent is
untrusted until a function of this package has checked it.
"""

from __future__ import annotations

from django_dcr.protocol.answers import (
    MAX_CLOCK_OFFSET,
    ClientInformation,
    client_information,
)
from django_dcr.protocol.authentication import client_authentication
from django_dcr.protocol.discovery import (
    check_issuer,
    check_server_metadata,
    endpoint,
    entity_tag,
    freshness,
    vouched,
    well_known_urls,
)
from django_dcr.protocol.documents import encode, parse_object, storable
from django_dcr.protocol.login import (
    check_id_token,
    check_response_issuer,
    check_signed_claims,
    code_challenge_method,
    is_invalid_client,
)
from django_dcr.protocol.members import METADATA_MEMBERS, overlaid
from django_dcr.protocol.policy import check_client_metadata
from django_dcr.protocol.refusals import Reply, check_status
from django_dcr.protocol.registration import (
    client_metadata,
    differences,
    registration_request,
    update_request,
    warnings,
)

__all__ = [
    "MAX_CLOCK_OFFSET",
    "METADATA_MEMBERS",
    "ClientInformation",
    "Reply",
    "check_client_metadata",
    "check_id_token",
    "check_issuer",
    "check_response_issuer",
    "check_server_metadata",
    "check_signed_claims",
    "check_status",
    "client_authentication",
    "client_information",
    "client_metadata",
    "code_challenge_method",
    "differences",
    "encode",
    "endpoint",
    "entity_tag",
    "freshness",
    "is_invalid_client",
    "overlaid",
    "parse_object",
    "registration_request",
    "storable",
    "update_request",
    "vouched",
    "warnings",
    "well_known_urls",
]

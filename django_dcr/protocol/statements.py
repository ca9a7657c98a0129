"""What a software statement claims of its client (RFC 7591 section 2.3), unverified.

At the server the statement wins over what is asked beside it, so its claims are as good as stated.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from django_dcr.exceptions import DCRError
from django_dcr.protocol.json import parse_object
from django_dcr.protocol.members import parse_metadata, type_of


def claims(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return all claims of the statement in ``metadata``, none of one that cannot be read."""
    try:
        payload = str(metadata.get("software_statement")).split(".")[1]
        return parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, DCRError):
        return {}  # it may still be one for the server


def claimed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the client metadata among the claims, in its types."""
    known, _deviations = parse_metadata(claims(metadata))
    return {name: value for name, value in known.items() if type_of(name)}


def is_opaque(metadata: Mapping[str, Any]) -> bool:
    """Whether there is a statement and nobody but the server knows what it claims."""
    return bool(metadata.get("software_statement")) and not claims(metadata)

"""The members of client metadata, their types, and how an answer's are read into these types."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from django_dcr.exceptions import NotAllowedError
from django_dcr.protocol.json import is_altered, storable
from django_dcr.text import clean

#: RFC 7591 section 2, OpenID Connect Registration section 2 and the OpenID logout specifications.
METADATA_MEMBERS: Mapping[str, type] = {
    "application_type": str,
    "backchannel_logout_session_required": bool,
    "backchannel_logout_uri": str,
    "client_name": str,
    "client_uri": str,
    "contacts": list,
    "default_acr_values": list,
    "default_max_age": int,
    "frontchannel_logout_session_required": bool,
    "frontchannel_logout_uri": str,
    "grant_types": list,
    "id_token_encrypted_response_alg": str,
    "id_token_encrypted_response_enc": str,
    "id_token_signed_response_alg": str,
    "initiate_login_uri": str,
    "jwks": dict,
    "jwks_uri": str,
    "logo_uri": str,
    "policy_uri": str,
    "post_logout_redirect_uris": list,
    "redirect_uris": list,
    "request_object_encryption_alg": str,
    "request_object_encryption_enc": str,
    "request_object_signing_alg": str,
    "request_uris": list,
    "require_auth_time": bool,
    "response_types": list,
    "scope": str,
    "sector_identifier_uri": str,
    "software_id": str,
    "software_statement": str,
    "software_version": str,
    "subject_type": str,
    "token_endpoint_auth_method": str,
    "token_endpoint_auth_signing_alg": str,
    "tos_uri": str,
    "userinfo_encrypted_response_alg": str,
    "userinfo_encrypted_response_enc": str,
    "userinfo_signed_response_alg": str,
}

#: The members that say where a client's public keys are.
KEY_MEMBERS = ("jwks", "jwks_uri")
#: What the server alone assigns (RFC 7591 section 3.2.1, RFC 7592 section 3).
ASSIGNED_MEMBERS = frozenset(
    {
        "client_id",
        "client_id_issued_at",
        "client_secret",
        "client_secret_expires_at",
        "registration_access_token",
        "registration_client_uri",
    }
)

#: What an answer may hold and is no granted metadata: a statement only comes back as it was sent.
NEVER_GRANTED = ASSIGNED_MEMBERS | {"software_statement"}

#: Methods for which the server and the client share a secret.
SECRET_METHODS = frozenset({"client_secret_basic", "client_secret_post", "client_secret_jwt"})

#: RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1.
PRIVATE_KEY_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_URL_MEMBERS = ("_uri", "_uris", "_endpoint")

_SECRET_NAME = re.compile(
    "secret|passwo?r?d|passphrase|privatekey|apikey|credentials?$"
    "|(^|access|auth|bearer|id|refresh|registration|session)token$"
)


def type_of(name: str) -> type | None:
    """Return the type that a member must have, language tag or not; None for an unknown one."""
    return METADATA_MEMBERS.get(name.partition("#")[0])


def probable_member(name: str) -> str:
    """Return the member that an unknown name is probably a misspelling of, or ""."""
    base = name.partition("#")[0]
    if base in METADATA_MEMBERS or base in ASSIGNED_MEMBERS:
        return ""
    letters = re.sub("[^a-z]", "", base.lower())
    for known in METADATA_MEMBERS:
        if letters == known.replace("_", ""):
            return known
    close = difflib.get_close_matches(base[:100], METADATA_MEMBERS, n=1, cutoff=0.85)
    return close[0] if close else ""


def normalize_name(name: str) -> str:
    """Return ``name`` in the form to compare: language tags ignore case (RFC 7591 section 2.2)."""
    base, mark, tag = name.partition("#")
    return base + mark + tag.lower()


def is_empty(value: object) -> bool:
    """Whether a value says nothing: null, or an empty text, list or object."""
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def strings(metadata: Mapping[str, Any], name: str) -> list[str] | None:
    """Return a member that is a list of strings, or None where it is anything else or empty."""
    value = metadata.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value or None


def merge_metadata(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay metadata over one another; later layers win, and an empty value removes.

    Raises NotAllowedError for a layer that is not a mapping from text.
    """
    members: dict[str, tuple[str, Any]] = {}
    for layer in layers:
        if not isinstance(layer, Mapping) or not all(isinstance(name, str) for name in layer):
            raise NotAllowedError(
                "Client metadata must be one JSON object whose names are text, "
                'such as {"client_name": "Shop"}.'
            )
        members.update({normalize_name(name): (name, value) for name, value in layer.items()})
    return {name: value for name, value in members.values() if not is_empty(value)}


def parse_metadata(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a document's client metadata in its types, and a sentence for each deviation.

    What is null or empty, what the server alone assigns and what is a secret are left out;
    unknown members stay (RFC 7591 section 2).
    """
    metadata: dict[str, Any] = {}
    deviations: list[str] = []
    described: dict[str, Any] = {}
    for name, raw in document.items():
        if name in NEVER_GRANTED:
            continue
        # storable() would make another URL of it, which an update would then send.
        if name.partition("#")[0].endswith(_URL_MEMBERS) and is_altered(raw):
            deviations.append(f"The member {clean(name, 100)} is not a URL and was dropped.")
        else:
            described[name] = raw
    for name, raw in _without_secrets(storable(described)).items():
        value, deviation = _typed(name, raw)
        if deviation:
            deviations.append(f"The member {clean(name, 100)} {deviation}.")
        if not is_empty(value):
            metadata[name] = value
    return metadata, deviations


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        hidden = PRIVATE_KEY_MEMBERS if "kty" in value else frozenset()
        return {
            name: _without_secrets(member)
            for name, member in value.items()
            if name not in hidden and not names_secret(name)
        }
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def names_secret(name: str) -> bool:
    """Whether an unknown member's name says that its value is a secret."""
    # No standard member is named like one: a test holds that against METADATA_MEMBERS.
    return type_of(name) is None and bool(
        _SECRET_NAME.search(re.sub("[^a-z0-9]", "", name.lower()))
    )


def _typed(name: str, value: Any) -> tuple[Any, str]:
    """Return the value in the member's type, None where that cannot be, and what was odd."""
    wanted = type_of(name)
    if wanted is None or is_empty(value):
        return value, "came beside or instead of scope" if name == "scopes" else ""
    if wanted is list:
        return _list(value)
    if name == "scope" and isinstance(value, list):
        words, _ = _list(value)
        return " ".join(words), "came as a list"
    if wanted is int and isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value):
        return int(value), "came as text"
    # A bool is an int to isinstance().
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        return None, f"came as {type(value).__name__} and was dropped"
    return value, ""


def _list(value: Any) -> tuple[Any, str]:
    if isinstance(value, str):
        return [value], "came as a single string"
    if not isinstance(value, list):
        return None, f"came as {type(value).__name__} and was dropped"
    kept = [item for item in value if isinstance(item, str) and item]
    odd = "had entries that are not strings, which were dropped"
    return kept, "" if len(kept) == len(value) else odd

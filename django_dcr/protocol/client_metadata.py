"""Client metadata: its members with their types, merged from layers and parsed from responses.

A software statement's claims (RFC 7591 section 2.3) are metadata as well: at the server they win
over what is requested beside the statement, so they count as requested. No signature is checked.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from django_dcr.exceptions import InvalidResponseError, NotAllowedError
from django_dcr.protocol.json import encode, is_altered, parse_object, storable
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
#: Members of a response that are not granted metadata: a statement is returned as it was sent.
NEVER_GRANTED = ASSIGNED_MEMBERS | {"software_statement"}
#: Methods for which the server and the client share a secret.
SECRET_METHODS = frozenset({"client_secret_basic", "client_secret_post", "client_secret_jwt"})
#: RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1.
PRIVATE_KEY_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
#: Values that are as good as absent.
EMPTY: tuple[Any, ...] = (None, "", [], (), {})

_URL_MEMBERS = ("_uri", "_uris", "_endpoint")
_SECRET_NAME = re.compile(
    "secret|passwo?r?d|passphrase|privatekey|apikey|credentials?$"
    "|(^|access|auth|bearer|id|refresh|registration|session)token$"
)


def client_metadata(*layers: Mapping[str, Any], owner: str = "") -> dict[str, Any]:
    """Merge layers of client metadata; later layers win, and an empty value removes a member.

    ``{owner}`` in client_name, language-tagged or not, becomes ``owner``; a list of scopes becomes
    one string. Raises NotAllowedError for a layer that is not a mapping.
    """
    merged = merge_metadata(*layers)
    for name, value in merged.items():
        if isinstance(value, str) and name.partition("#")[0] == "client_name":
            merged[name] = value.replace("{owner}", owner).strip()
        elif name == "scope" and is_strings(value):
            merged[name] = " ".join(value)
    return {name: value for name, value in merged.items() if value not in EMPTY}


def merge_metadata(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers; later ones win, and an empty value removes a member.

    Raises NotAllowedError for a layer that is not a mapping whose keys are strings.
    """
    members: dict[str, tuple[str, Any]] = {}
    for layer in layers:
        if not isinstance(layer, Mapping) or not all(isinstance(name, str) for name in layer):
            raise NotAllowedError(
                "Client metadata must be one JSON object whose names are text, "
                'such as {"client_name": "Shop"}.'
            )
        for name, value in layer.items():
            members[normalize_name(name) if "#" in name else name] = name, value
    return {name: value for name, value in members.values() if value not in EMPTY}


def normalize_name(name: str) -> str:
    """Return ``name`` in the form to compare: language tags ignore case (RFC 7591 section 2.2)."""
    base, mark, tag = name.partition("#")
    return base + mark + tag.lower()


def normalize_names(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with its names in the form to compare."""
    return {normalize_name(name): value for name, value in metadata.items()}


def as_stored(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as a JSON column returns it, for comparison.

    Raises NotAllowedError unless it is one JSON object.
    """
    try:
        return dict(json.loads(encode(metadata)))
    except (TypeError, ValueError) as exc:
        raise NotAllowedError("Client metadata is one JSON object; this is not.") from exc


def with_claims(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata together with what its software statement claims."""
    claimed = claimed_metadata(metadata)
    return merge_metadata(metadata, claimed) if claimed else metadata


def claimed_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the client metadata among the claims of the software statement, in its types."""
    claims = statement_claims(metadata)
    known = parse_metadata(claims)[0] if claims else {}
    return {name: value for name, value in known.items() if type_of(name)}


def statement_claims(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return all claims of the software statement; none where it cannot be read."""
    statement = metadata.get("software_statement")
    if not statement:
        return {}
    try:
        payload = str(statement).split(".")[1]
        return parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, InvalidResponseError):
        return {}  # the server may still be able to


def parse_metadata(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a document's client metadata in its types, and a sentence for each deviation.

    Empty members, those that the server assigns, and secrets are left out; unknown members stay
    (RFC 7591 section 2).
    """
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
    metadata: dict[str, Any] = {}
    for name, raw in _without_secrets(storable(described)).items():
        value, deviation = _typed(name, raw)
        if deviation:
            deviations.append(f"The member {clean(name, 100)} {deviation}.")
        if value not in EMPTY:
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
    """Return the value in the member's type, or None, and how it deviates."""
    wanted = type_of(name)
    if wanted is None or value in EMPTY:
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
    dropped = "had entries that are not strings, which were dropped"
    return kept, "" if len(kept) == len(value) else dropped


def type_of(name: str) -> type | None:
    """Return the type of a member, with or without a language tag; None for an unknown one."""
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


def strings(metadata: Mapping[str, Any], name: str) -> list[str]:
    """Return a member that is a list of strings; [] where it is absent or anything else."""
    value = metadata.get(name)
    return value if isinstance(value, list) and is_strings(value) else []


def is_strings(value: object) -> bool:
    """Whether a value is a list or tuple of strings."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)

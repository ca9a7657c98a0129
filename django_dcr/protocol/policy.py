"""The rules on client metadata, checked before anything is sent.

RFC 7591 sections 2 and 5, OpenID Connect Registration section 2, RFC 9700 sections 2.4 and 2.6.
Each rule yields sentences that say what is wrong and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django_dcr import uris
from django_dcr.exceptions import NotAllowedError
from django_dcr.protocol.client_metadata import (
    ASSIGNED_MEMBERS,
    PRIVATE_KEY_MEMBERS,
    is_strings,
    statement_claims,
    type_of,
    with_claims,
)
from django_dcr.protocol.json import is_storable
from django_dcr.protocol.keys import HASHES, KEY_TYPES, MIN_RSA_BITS, is_key_for, is_too_small
from django_dcr.text import clean

_WORDS = {
    str: "text that is not empty",
    list: 'a list of strings that are not empty, such as ["..."]',
    dict: "an object",
    bool: "true or false",
    int: "a whole number",
}
# RFC 5646 section 2.1 in outline: subtags of one to eight letters and digits.
_LANGUAGE_TAG = re.compile("[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")
# RFC 6749 section 3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
_PRIVATE_USE_URI = re.compile(r"([a-z][a-z0-9+.-]*):[a-z0-9._~!$&'()*+,;=:@%/?\[\]-]+")
# Schemes that already mean something to a browser or an operating system.
_FOREIGN_SCHEME = re.compile(
    "about|blob|chrome(-extension)?|data|feed|file(system)?|ftps?|gopher|intent|jar|javascript"
    "|ldaps?|mailto|moz-extension|resource|sftp|sms|ssh|tel|telnet|unix|urn|vbscript"
    "|view-source|wss?"
)
_HTTPS_MEMBERS = (
    "client_uri",
    "logo_uri",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "sector_identifier_uri",
    "initiate_login_uri",
    "request_uris",
)
_LOGOUT_URIS = ("backchannel_logout_uri", "frontchannel_logout_uri")


def check_client_metadata(metadata: Mapping[str, Any], *, complete: bool = True) -> None:
    """Raise NotAllowedError for metadata that must not be sent to any server, naming the member.

    Defaults that other metadata completes are not ``complete``: there the members are checked one
    by one, but not how they go together. What a software statement claims counts as requested.
    """
    for fault in client_metadata_faults(metadata, complete=complete):
        raise NotAllowedError(fault)


def client_metadata_faults(metadata: Mapping[str, Any], *, complete: bool = True) -> list[str]:
    """Return a sentence for each reason why metadata must not be sent; see above."""
    faults = _faults(metadata, _RULES)
    if faults or not complete:
        return faults
    whole = with_claims(metadata)
    claimed = [] if whole is metadata else _faults(whole, _RULES)
    return claimed or _faults(whole, _RULES_OF_THE_WHOLE)


def _faults(metadata: Mapping[str, Any], rules: _Rules) -> list[str]:
    faults: list[str] = []
    for rule in rules:
        faults += rule(metadata)
        if faults and rule in (_json, _types):
            return faults  # the later rules rely on these
    return faults


def application_type(metadata: Mapping[str, Any]) -> str:
    """Return the stated application_type, or the one that the redirect URIs show."""
    redirect_uris = metadata.get("redirect_uris", ())
    # Redirects that are not https stay on the user's own machine (RFC 8252 section 7).
    native = redirect_uris and not any(map(_is_https, redirect_uris))
    return str(metadata.get("application_type") or ("native" if native else "web"))


def _json(metadata: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(metadata, Mapping):
        yield f"Client metadata must be a JSON object, not a {type(metadata).__name__}."
    elif not all(isinstance(name, str) and name for name in metadata):
        yield "Client metadata has a member whose name is not text; rename it."
    elif not is_storable(metadata):
        yield "Client metadata has a value that is not JSON or that no database can store; drop it."


def _assigned(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(ASSIGNED_MEMBERS & metadata.keys()):
        yield f"The member {name} is assigned by the server and cannot be requested; leave it out."


def _types(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, value in metadata.items():
        wanted = type_of(name)
        if name == "scope" and not (isinstance(value, str) and _SCOPE.fullmatch(value)):
            yield "The member scope must be one string of words with single spaces between them."
        elif wanted and not _has_type(value, wanted):
            yield f"The member {clean(name, 100)} must be {_WORDS[wanted]}."


def _has_type(value: Any, wanted: type) -> bool:
    if wanted is list:
        return is_strings(value) and all(value)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted) and (wanted is not str or bool(value))


def _language_tags(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name in metadata:
        base, mark, tag = name.partition("#")
        if mark and not (base and _LANGUAGE_TAG.fullmatch(tag)):
            yield (
                f"The member {clean(name, 100)} has a malformed language tag; "
                'write "client_name#pt-BR".'
            )


def _grants(metadata: Mapping[str, Any]) -> Iterator[str]:
    """RFC 7591 section 2.1: which response types go with which grant types."""
    grants = grant_types(metadata)
    words = {word for kind in _response_types(metadata) for word in kind.split()}
    if "code" in words and "authorization_code" not in grants:
        yield "The member response_types has code, so add authorization_code to grant_types."
    if words & {"token", "id_token"} and "implicit" not in grants:
        yield "The member response_types has token or id_token, so add implicit to grant_types."
    if "authorization_code" in grants and "code" not in words:
        yield "The member grant_types has authorization_code, so add code to response_types."
    if "implicit" in grants and not words & {"token", "id_token"}:
        yield "The member grant_types has implicit, so add token or id_token to response_types."


def grant_types(metadata: Mapping[str, Any]) -> list[str]:
    """Return the grant types with their default (RFC 7591 section 2)."""
    return list(metadata.get("grant_types", ["authorization_code"]))


def _response_types(metadata: Mapping[str, Any]) -> list[str]:
    default = ["code"] if "authorization_code" in grant_types(metadata) else []
    return list(metadata.get("response_types", default))


def _password(metadata: Mapping[str, Any]) -> Iterator[str]:
    if "password" in grant_types(metadata):
        yield "The member grant_types must not contain password (RFC 9700 section 2.4); remove it."


def _redirects(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name in ("redirect_uris", "post_logout_redirect_uris"):
        for uri in metadata.get(name, ()):
            fault = _redirect_fault(uri)
            if fault:
                yield f'In {name}, "{clean(uri, 100)}" {fault}.'


def _redirect_fault(uri: str) -> str:
    """RFC 7591 section 5, RFC 6749 section 3.1.2, RFC 8252 section 7."""
    if "#" in uri:
        return "has a fragment; leave it out"
    if ":" not in uri:
        return "is not an absolute URL; write it in full, such as https://app.example/callback"
    if not _is_web(uri):
        match = _PRIVATE_USE_URI.fullmatch(uri.lower())
        usable = match and not _FOREIGN_SCHEME.fullmatch(match[1])
        return "" if usable else "is what no server may redirect to; use https"
    try:
        url = uris.parse(uri)
    except ValueError as exc:
        return f"{exc}; write it in full, such as https://app.example/callback"
    if url.scheme == "http" and not url.is_loopback:
        return "is http on another machine than this; use https"
    return ""


def _is_web(uri: str) -> bool:
    return uri.partition(":")[0].lower() in ("http", "https")


def _is_https(uri: str) -> bool:
    return uri.partition(":")[0].lower() == "https"


def _redirecting(metadata: Mapping[str, Any]) -> Iterator[str]:
    redirecting = {"authorization_code", "implicit"} & set(grant_types(metadata))
    if not redirecting or metadata.get("redirect_uris"):
        return
    # A statement that only the server can read may claim redirect URIs.
    if not metadata.get("software_statement") or statement_claims(metadata):
        yield f"The grant type {min(redirecting)} needs redirect_uris; state at least one."


def _kind_of_application(metadata: Mapping[str, Any]) -> Iterator[str]:
    redirect_uris = metadata.get("redirect_uris", ())
    kind = application_type(metadata)
    https = [uri for uri in redirect_uris if _is_https(uri)]
    if kind == "native" and https:
        yield (
            'The application_type "native" has https redirect_uris; use "web", or http on loopback.'
        )
    local = [uri for uri in redirect_uris if uri not in https or uris.parse(uri).is_loopback]
    if kind == "web" and "implicit" in grant_types(metadata) and local:
        yield 'The implicit grant of a "web" application needs https redirect_uris, not localhost.'


def _uris(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, value in metadata.items():
        base = name.partition("#")[0]
        if base in _HTTPS_MEMBERS:
            for uri in [value] if isinstance(value, str) else value:
                if _scheme(uri) != "https":
                    yield f"The member {clean(name, 100)} must be an absolute https URL."
        elif base in _LOGOUT_URIS and not _scheme(value):
            yield (
                f"The member {clean(name, 100)} must be an absolute https URL, "
                "or http inside your own network."
            )


def _scheme(uri: str) -> str:
    try:
        # A page may be named with a fragment, and a request object by its hash in one.
        return uris.parse(uri.partition("#")[0]).scheme
    except ValueError:
        return ""


def _keys(metadata: Mapping[str, Any]) -> Iterator[str]:
    if "jwks" not in metadata:
        return
    if "jwks_uri" in metadata:
        yield "The members jwks and jwks_uri cannot both be sent; keep jwks_uri."
    keys = metadata["jwks"].get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        yield 'The member jwks must be an object such as {"keys": [{"kty": "EC"}]}.'
    elif any(PRIVATE_KEY_MEMBERS & key.keys() for key in keys):
        yield "The member jwks holds a private key; send public keys only."
    elif any(is_too_small(key) for key in keys):
        yield f"The member jwks holds an RSA key of fewer than {MIN_RSA_BITS} bits; send another."


def _pairwise(metadata: Mapping[str, Any]) -> Iterator[str]:
    """OpenID Connect Core section 8.1."""
    if metadata.get("subject_type") != "pairwise" or "sector_identifier_uri" in metadata:
        return
    web = [uri for uri in metadata.get("redirect_uris", ()) if _is_web(uri)]
    if len({uris.parse(uri).host for uri in web}) > 1:
        yield (
            "A pairwise subject_type and redirect_uris on several hosts need "
            "sector_identifier_uri; state one."
        )


def _algorithm(metadata: Mapping[str, Any]) -> Iterator[str]:
    if metadata.get("token_endpoint_auth_signing_alg") == "none":
        yield (
            'The member token_endpoint_auth_signing_alg must not be "none"; name a real algorithm.'
        )


def _agreement(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Method, algorithm and keys go together (OpenID Connect Core section 9)."""
    method = metadata.get("token_endpoint_auth_method")
    algorithm = metadata.get("token_endpoint_auth_signing_alg")
    if algorithm is None:
        return
    if method == "client_secret_jwt" and algorithm not in HASHES:
        yield f"The method client_secret_jwt signs by {', '.join(HASHES)} only; state one of them."
    if method != "private_key_jwt":
        return
    if algorithm in HASHES:
        yield (
            f"The method private_key_jwt cannot sign by {algorithm}, which takes a shared secret; "
            "state ES256, or the method client_secret_jwt."
        )
    elif algorithm in KEY_TYPES and "jwks" in metadata:
        keys = metadata["jwks"]["keys"]
        if not any(is_key_for(algorithm, key) for key in keys):
            yield f"The member jwks holds no key for {algorithm}, which is to sign; add one."


_Rules = tuple[Callable[[Mapping[str, Any]], Iterator[str]], ...]
# The later rules rely on the earlier ones: on names that are text, and on values of their type.
_RULES: _Rules = (
    _json,
    _assigned,
    _types,
    _language_tags,
    _password,
    _redirects,
    _uris,
    _keys,
    _algorithm,
)
_RULES_OF_THE_WHOLE: _Rules = (
    _grants,
    _redirecting,
    _kind_of_application,
    _pairwise,
    _agreement,
)

"""Requests: what a server is asked for, and how it compares with what was granted.

RFC 7591 section 3.1 (registration) and RFC 7592 section 2.2 (update).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from django_dcr.exceptions import NotAllowedError, UnsupportedError
from django_dcr.protocol.authentication import AUTHENTICATION_METHODS, PLAIN_METHODS
from django_dcr.protocol.json import encode
from django_dcr.protocol.keys import HASHES, KEY_TYPES
from django_dcr.protocol.members import (
    ASSIGNED_MEMBERS,
    KEY_MEMBERS,
    NEVER_GRANTED,
    SECRET_METHODS,
    is_empty,
    merge_metadata,
    normalize_name,
    parse_metadata,
    probable_member,
    strings,
)
from django_dcr.protocol.policy import application_type, check_client_metadata, grant_types
from django_dcr.protocol.statements import claimed, claims
from django_dcr.text import clean

_SIGNING_ALGORITHMS = {
    "private_key_jwt": ("RS256", "ES256", "PS256", "EdDSA"),
    "client_secret_jwt": tuple(HASHES),
}


@dataclass(frozen=True)
class OwnKeys:
    """The keys with which this site can let a client sign."""

    #: The algorithms of those that sign or are about to, the one to prefer first.
    algorithms: tuple[str, ...] = ()
    #: What a registration says of them: a ``jwks_uri``, or the ``jwks`` itself.
    published: Mapping[str, Any] = field(default_factory=dict)
    #: Whether to sign where nothing says how a client is to authenticate.
    preferred: bool = False


#: The server metadata that announces a logout member, by the start of the member's name.
_LOGOUT = {
    "post_logout_": "end_session_endpoint",
    "backchannel_logout_": "backchannel_logout_supported",
    "frontchannel_logout_": "frontchannel_logout_supported",
}


def client_metadata(*layers: Mapping[str, Any], owner: str = "") -> dict[str, Any]:
    """Lay client metadata over one another; later layers win, and an empty value removes.

    ``{owner}`` in client_name, language-tagged or not, becomes ``owner``; a list of scopes becomes
    one text. Raises NotAllowedError for a layer that is not a mapping.
    """
    merged = merge_metadata(*layers)
    for name, value in merged.items():
        if name.partition("#")[0] == "client_name" and isinstance(value, str):
            merged[name] = value.replace("{owner}", owner).strip()
        elif name == "scope" and _is_strings(value):
            merged[name] = " ".join(value)
    return {name: value for name, value in merged.items() if not is_empty(value)}


def _is_strings(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def as_stored(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as a JSON column gives it back, to be compared with it.

    Raises NotAllowedError for what is not one JSON object.
    """
    try:
        return dict(json.loads(encode(metadata)))
    except (TypeError, ValueError) as exc:
        raise NotAllowedError("Client metadata is one JSON object; this is not.") from exc


def secret_method(server_metadata: Mapping[str, Any], *, has_secret: bool) -> str:
    """Return how a client authenticates that states no method (RFC 7591 section 2).

    With a secret, the first way of sending one that the server offers; without, "none".
    """
    if not has_secret:
        return "none"
    offered = strings(server_metadata, "token_endpoint_auth_methods_supported") or []
    usable = [name for name in AUTHENTICATION_METHODS if name in offered and name in SECRET_METHODS]
    return usable[0] if usable else "client_secret_basic"


def registration_request(
    metadata: Mapping[str, Any],
    server_metadata: Mapping[str, Any],
    keys: OwnKeys | None = None,
) -> dict[str, Any]:
    """Return the body of the POST that registers a client at the server described.

    A client that signs and does not say where its keys are has the site's own ``keys``. Raises
    NotAllowedError for metadata that may not be sent, or needs a key that there is not, and
    UnsupportedError where the server says that it does not offer what is requested.
    """
    request = merge_metadata(metadata)
    check_client_metadata(request)
    for name in list(request):
        if not _logout_is_supported(name, server_metadata):
            del request[name]
    _check_offered(request, server_metadata)
    return {**request, **_negotiated(request, server_metadata, keys)}


def check_own_keys(request: Mapping[str, Any], keys: OwnKeys) -> None:
    """Raise NotAllowedError where a client is to sign with a key that this site does not have."""
    request = {**request, **claimed(request)}
    if request.get("token_endpoint_auth_method") != "private_key_jwt" or brings_keys(request):
        return
    stated = request.get("token_endpoint_auth_signing_alg")
    if keys.algorithms and (not stated or stated in keys.algorithms):
        return
    which = f" for {clean(stated, 50)}" if stated else ""
    if stated and stated not in KEY_TYPES:
        advice = f"Choose another token_endpoint_auth_signing_alg: {', '.join(KEY_TYPES)}."
    else:
        option = f" --algorithm {stated}" if stated else ""
        advice = f"Make one first: manage.py dcr_client_keys --rotate{option}"
    raise NotAllowedError(
        f"The method private_key_jwt needs a key, and this site has none{which}. {advice}"
    )


def may_sign(
    request: Mapping[str, Any], server_metadata: Mapping[str, Any], *, prefers_keys: bool
) -> bool:
    """Whether a client that is registered so may sign with the site's own keys."""
    request = {**request, **claimed(request)}
    if brings_keys(request):
        return False
    method = request.get("token_endpoint_auth_method")
    offered = strings(server_metadata, "token_endpoint_auth_methods_supported")
    others = offered is None or not {*offered}.isdisjoint(PLAIN_METHODS)
    return method == "private_key_jwt" or (not method and (prefers_keys or not others))


def prefers_to_sign(keys: OwnKeys, server_metadata: Mapping[str, Any]) -> bool:
    """Whether a client that does not say how it authenticates is to sign, as this server can."""
    methods = strings(server_metadata, "token_endpoint_auth_methods_supported") or ()
    offered = strings(server_metadata, "token_endpoint_auth_signing_alg_values_supported")
    shared = [name for name in keys.algorithms if not offered or name in offered]
    return keys.preferred and "private_key_jwt" in methods and bool(shared)


def brings_keys(request: Mapping[str, Any]) -> bool:
    """Whether a client is to be registered with keys that it names itself."""
    return any(name in request for name in KEY_MEMBERS)


def _negotiated(
    request: Mapping[str, Any],
    server_metadata: Mapping[str, Any],
    keys: OwnKeys | None = None,
) -> dict[str, Any]:
    """Return the members that are stated in every request, as requested or as this app chooses.

    What a software statement claims is stated already.
    """
    stated = claimed(request)
    complete = {**request, **stated}
    method = _authentication_method(complete, server_metadata, keys)
    chosen: dict[str, Any] = {"token_endpoint_auth_method": method}
    if application_type(complete) == "native":
        chosen["application_type"] = "native"
    signs = method == "private_key_jwt" and not brings_keys(complete)
    candidates = _SIGNING_ALGORITHMS.get(method, ())
    if signs and keys is not None:
        check_own_keys({**complete, **chosen}, keys)
        candidates = keys.algorithms
        chosen |= keys.published
    algorithm = _signing_algorithm(complete, candidates, server_metadata)
    if algorithm:
        chosen["token_endpoint_auth_signing_alg"] = algorithm
    elif signs and keys is not None:
        _check_algorithm_is_ours(server_metadata)
    return {k: v for k, v in chosen.items() if k not in stated}


def _check_algorithm_is_ours(server_metadata: Mapping[str, Any]) -> None:
    """Refuse what the server could not check: none of the algorithms that it lists is a key's."""
    name = "token_endpoint_auth_signing_alg_values_supported"
    offered = strings(server_metadata, name)
    if offered is None:
        return  # it does not say, and signing may work
    possible = [algorithm for algorithm in KEY_TYPES if algorithm in offered]
    advice = (
        f"Make one: manage.py dcr_client_keys --rotate --algorithm {possible[0]}"
        if possible
        else "Use another token_endpoint_auth_method."
    )
    raise UnsupportedError(
        f"This server checks signatures by {clean(', '.join(offered), 100)}, and this site has no "
        f"key for that. {advice}"
    )


def _logout_is_supported(name: str, server_metadata: Mapping[str, Any]) -> bool:
    announcements = (said for start, said in _LOGOUT.items() if name.startswith(start))
    return all(server_metadata.get(said) for said in announcements)


def _check_offered(request: Mapping[str, Any], server_metadata: Mapping[str, Any]) -> None:
    for name in ("grant_types", "response_types"):
        offered = strings(server_metadata, f"{name}_supported")
        known = {_word_set(item) for item in offered or ()}
        for item in request.get(name, ()):
            if offered and _word_set(item) not in known:
                raise _not_offered(name, item, offered)


def _word_set(text: str) -> frozenset[str]:
    # "code id_token" and "id_token code" are one response type.
    return frozenset(text.split())


def _not_offered(name: str, value: str, offered: Iterable[str]) -> UnsupportedError:
    return UnsupportedError(
        f"This server does not offer {clean(value, 100)} in {name}. "
        f"Choose from what it offers: {clean(', '.join(offered))}."
    )


def _authentication_method(
    request: Mapping[str, Any], server_metadata: Mapping[str, Any], keys: OwnKeys | None
) -> str:
    name = "token_endpoint_auth_method"
    offered = strings(server_metadata, "token_endpoint_auth_methods_supported")
    stated = request.get(name)
    if stated:
        if offered and stated not in offered:
            raise _not_offered(name, stated, offered)
        return str(stated)
    can_sign = keys is not None and bool(keys.algorithms)
    methods = [*PLAIN_METHODS, "private_key_jwt"] if can_sign else [*PLAIN_METHODS]
    if keys is not None and prefers_to_sign(keys, server_metadata):
        methods.insert(0, "private_key_jwt")
    # The default of RFC 8414 section 2.
    for method in methods:
        if method in (offered or ["client_secret_basic"]):
            return method
    advice = 'such as "private_key_jwt" with a jwks_uri'
    if keys is not None and "private_key_jwt" in (offered or ()):
        advice = "or make a key to sign with: manage.py dcr_client_keys --rotate"
    raise UnsupportedError(
        f"This server offers only {clean(', '.join(offered or ()))}. State {name} yourself, "
        f"{advice}."
    )


def _signing_algorithm(
    request: Mapping[str, Any], candidates: Iterable[str], server_metadata: Mapping[str, Any]
) -> str | None:
    name = "token_endpoint_auth_signing_alg"
    offered = strings(server_metadata, f"{name}_values_supported") or []
    stated = request.get(name)
    if stated and offered and stated not in offered:
        raise _not_offered(name, stated, offered)
    return stated or next((alg for alg in candidates if alg in offered), None)


def update_request(
    granted: Mapping[str, Any],
    requested: Mapping[str, Any],
    *,
    client_id: str,
    client_secret: str | None = None,
    removed: Collection[str] = (),
) -> dict[str, Any]:
    """Return the body of the PUT that replaces a registration (RFC 7592 section 2.2).

    All that was granted, in its RFC types, under what is ``requested``, without the members that
    are ``removed``: what a PUT leaves out, the server deletes. ``requested`` is client metadata
    that passed ``check_client_metadata``.
    """
    body = merge_metadata(parse_metadata(granted)[0], requested)
    dropped = {normalize_name(name) for name in removed} | ASSIGNED_MEMBERS
    body = {name: value for name, value in body.items() if normalize_name(name) not in dropped}
    body["client_id"] = client_id
    if client_secret is not None:
        body["client_secret"] = client_secret
    return body


def differences(
    requested: Mapping[str, Any],
    granted: Mapping[str, Any],
    *,
    server_metadata: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Return the drift: ``{member: {"asked": ..., "granted": ...}}``, None for what is not there.

    It is what was requested and granted otherwise. What a server grants besides is no drift, nor
    is what it was not sent, because its ``server_metadata`` does not announce it. The order within
    lists of strings and within scope means nothing. What a software statement claims was
    requested.
    """
    stated = merge_metadata(requested, claimed(requested))
    normalized = {normalize_name(name): value for name, value in stated.items()}
    held = {normalize_name(name): value for name, value in granted.items()}
    return {
        name: {"asked": value, "granted": held.get(name)}
        for name, value in normalized.items()
        if name not in NEVER_GRANTED
        and (not server_metadata or _logout_is_supported(name, server_metadata))
        and _comparable(name, value) != _comparable(name, held.get(name))
    }


def _comparable(name: str, value: Any) -> Any:
    # Off is what a switch is where nothing is said about it.
    if is_empty(value) or value is False:
        return None
    if name == "scope" and isinstance(value, str):
        return set(value.split())
    if _is_strings(value):
        return {" ".join(sorted(item.split())) for item in value}
    return value


def statement_conflicts(metadata: Mapping[str, Any]) -> list[str]:
    """Return the members for which the software statement says something else.

    At the server the statement wins (RFC 7591 section 2). Its signature is not checked.
    """
    stated = claims(metadata)
    return sorted(
        name
        for name in stated.keys() & metadata.keys()
        if _comparable(name, stated[name]) != _comparable(name, metadata[name])
    )


def warnings(metadata: Mapping[str, Any], server_metadata: Mapping[str, Any]) -> list[str]:
    """Return sentences on what may be sent, and yet is better changed."""
    sentences = [
        f"The software statement says something else about {clean(name, 100)}, "
        "and the statement wins; make them agree."
        for name in statement_conflicts(metadata)
    ]
    if "implicit" in grant_types(metadata):
        sentences.append("The implicit grant is discouraged (RFC 9700 section 2.1.2); use code.")
    method = metadata.get("token_endpoint_auth_method")
    algorithms = "token_endpoint_auth_signing_alg_values_supported"
    if method in _SIGNING_ALGORITHMS and not strings(server_metadata, algorithms):
        sentences.append(f"The server does not state {algorithms}; agree on one with its operator.")
    for name in metadata:
        meant = probable_member(name)
        if meant:
            sentences.append(
                f"No specification has the member {clean(name, 100)}; if {meant} is meant, write "
                "it so."
            )
    names = {name.partition("#")[0] for name in metadata if "#" in name}
    sentences += [
        f"The member {clean(name, 100)} is sent in some languages only; state it without a tag "
        "too (RFC 7591 section 2.2)."
        for name in sorted(names - metadata.keys())
    ]
    return sentences

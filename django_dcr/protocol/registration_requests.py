"""Bodies of registration and update requests, and how the answers compare with them.

RFC 7591 section 3.1, RFC 7592 section 2.2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from django_dcr.exceptions import NotAllowedError, UnsupportedError
from django_dcr.protocol.authentication import AUTHENTICATION_METHODS, PLAIN_METHODS
from django_dcr.protocol.client_metadata import (
    ASSIGNED_MEMBERS,
    EMPTY,
    NEVER_GRANTED,
    SECRET_METHODS,
    claimed_metadata,
    is_strings,
    merge_metadata,
    normalize_name,
    normalize_names,
    parse_metadata,
    probable_member,
    statement_claims,
    strings,
    with_claims,
)
from django_dcr.protocol.keys import HASHES, KEY_TYPES
from django_dcr.protocol.policy import application_type, check_client_metadata, grant_types
from django_dcr.text import clean

_METHODS_OFFERED = "token_endpoint_auth_methods_supported"
_ALGORITHMS_OFFERED = "token_endpoint_auth_signing_alg_values_supported"
_SIGNING_ALGORITHMS = {
    "private_key_jwt": ("RS256", "ES256", "PS256", "EdDSA"),
    "client_secret_jwt": tuple(HASHES),
}
#: The server metadata that announces a logout member, by the start of the member's name.
_LOGOUT = {
    "post_logout_": "end_session_endpoint",
    "backchannel_logout_": "backchannel_logout_supported",
    "frontchannel_logout_": "frontchannel_logout_supported",
}


@dataclass(frozen=True)
class OwnKeys:
    """The keys of this site with which a client can sign."""

    #: The algorithms of the present and the next keys, in order of preference.
    algorithms: tuple[str, ...] = ()
    #: The member that publishes them in a registration: ``jwks_uri`` or ``jwks``.
    published: Mapping[str, Any] = field(default_factory=dict)
    #: Whether a client signs where its metadata names no method.
    preferred: bool = False


def registration_request(
    metadata: Mapping[str, Any],
    server_metadata: Mapping[str, Any],
    keys: OwnKeys | None = None,
) -> dict[str, Any]:
    """Return the body of the POST that registers a client at the server described.

    A client that signs, and does not say where its keys are, gets the site's own ``keys``. Raises
    NotAllowedError for metadata that must not be sent or needs a key that is missing, and
    UnsupportedError where the server says that it does not offer what is requested.
    """
    request = merge_metadata(metadata)
    check_client_metadata(request)
    request = {k: v for k, v in request.items() if _logout_is_supported(k, server_metadata)}
    _check_offered(request, server_metadata)
    return {**request, **_negotiated(request, server_metadata, keys)}


def _logout_is_supported(name: str, server_metadata: Mapping[str, Any]) -> bool:
    """Whether the server announces what a logout member needs; True for any other member."""
    return all(
        server_metadata.get(said) for start, said in _LOGOUT.items() if name.startswith(start)
    )


def _check_offered(request: Mapping[str, Any], server_metadata: Mapping[str, Any]) -> None:
    for name in ("grant_types", "response_types"):
        offered = strings(server_metadata, f"{name}_supported")
        for item in request.get(name, ()):
            # "code id_token" and "id_token code" are one response type.
            if offered and {*item.split()} not in map(set, map(str.split, offered)):
                raise _not_offered(name, item, offered)


def _not_offered(name: str, value: str, offered: Iterable[str]) -> UnsupportedError:
    return UnsupportedError(
        f"This server does not offer {clean(value, 100)} in {name}. "
        f"Choose from what it offers: {clean(', '.join(offered))}."
    )


def _negotiated(
    request: Mapping[str, Any], server_metadata: Mapping[str, Any], keys: OwnKeys | None
) -> dict[str, Any]:
    """Return the members that every request states: as requested, or as this app chooses.

    Those that a software statement claims are left out.
    """
    claimed = claimed_metadata(request)
    complete = {**request, **claimed}
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
    return {name: value for name, value in chosen.items() if name not in claimed}


def _authentication_method(
    request: Mapping[str, Any], server_metadata: Mapping[str, Any], keys: OwnKeys | None
) -> str:
    name = "token_endpoint_auth_method"
    offered = strings(server_metadata, _METHODS_OFFERED)
    stated = request.get(name)
    if stated:
        if offered and stated not in offered:
            raise _not_offered(name, stated, offered)
        return str(stated)
    methods = [*PLAIN_METHODS]
    if keys is not None and keys.algorithms:
        first = prefers_to_sign(keys, server_metadata)
        methods.insert(0 if first else len(methods), "private_key_jwt")
    # The default of RFC 8414 section 2.
    for method in methods:
        if method in (offered or ["client_secret_basic"]):
            return method
    advice = 'such as "private_key_jwt" with a jwks_uri'
    if keys is not None and "private_key_jwt" in offered:
        advice = "or make a key to sign with: manage.py dcr_client_keys --rotate"
    raise UnsupportedError(
        f"This server offers only {clean(', '.join(offered))}. State {name} yourself, {advice}."
    )


def _signing_algorithm(
    request: Mapping[str, Any], candidates: Iterable[str], server_metadata: Mapping[str, Any]
) -> str | None:
    name = "token_endpoint_auth_signing_alg"
    offered = strings(server_metadata, _ALGORITHMS_OFFERED)
    stated = request.get(name)
    if stated and offered and stated not in offered:
        raise _not_offered(name, stated, offered)
    return stated or next((each for each in candidates if each in offered), None)


def _check_algorithm_is_ours(server_metadata: Mapping[str, Any]) -> None:
    """Raise UnsupportedError where the server lists algorithms and none is that of a key."""
    offered = strings(server_metadata, _ALGORITHMS_OFFERED)
    if not offered:
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


def check_own_keys(request: Mapping[str, Any], keys: OwnKeys) -> None:
    """Raise NotAllowedError where a client is to sign with a key that this site does not have."""
    request = with_claims(request)
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
    request = with_claims(request)
    if brings_keys(request):
        return False
    method = request.get("token_endpoint_auth_method")
    offered = strings(server_metadata, _METHODS_OFFERED)
    needs_keys = bool(offered) and {*offered}.isdisjoint(PLAIN_METHODS)
    return method == "private_key_jwt" or (not method and (prefers_keys or needs_keys))


def prefers_to_sign(keys: OwnKeys, server_metadata: Mapping[str, Any]) -> bool:
    """Whether a client whose metadata names no method signs, because the server takes that."""
    offered = strings(server_metadata, _ALGORITHMS_OFFERED)
    has_key = any(not offered or name in offered for name in keys.algorithms)
    takes_keys = "private_key_jwt" in strings(server_metadata, _METHODS_OFFERED)
    return keys.preferred and takes_keys and has_key


def brings_keys(request: Mapping[str, Any]) -> bool:
    """Whether the client's metadata names keys, so that it does not use the site's own."""
    return "jwks" in request or "jwks_uri" in request


def secret_method(server_metadata: Mapping[str, Any], *, has_secret: bool) -> str:
    """Return how a client authenticates that states no method (RFC 7591 section 2).

    With a secret, the first method that uses one and that the server offers; without, "none".
    """
    if not has_secret:
        return "none"
    offered = strings(server_metadata, _METHODS_OFFERED)
    usable = [name for name in AUTHENTICATION_METHODS if name in offered and name in SECRET_METHODS]
    return usable[0] if usable else "client_secret_basic"


def update_request(
    granted: Mapping[str, Any],
    requested: Mapping[str, Any],
    *,
    client_id: str,
    client_secret: str | None = None,
    removed: Collection[str] = (),
) -> dict[str, Any]:
    """Return the body of the PUT that replaces a registration (RFC 7592 section 2.2).

    It is what was granted, overridden by what is ``requested``, without the members that are
    ``removed``: the server deletes what a PUT leaves out. ``requested`` is client metadata that
    passed ``check_client_metadata``.
    """
    body = merge_metadata(parse_metadata(granted)[0], requested)
    dropped = {*map(normalize_name, removed)} | ASSIGNED_MEMBERS
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
    """Return the drift: ``{member: {"asked": ..., "granted": ...}}``, None for a missing value.

    These are the requested members that were granted with another value. Members that the server
    adds are not drift, nor are those that it was not sent, because its ``server_metadata`` does
    not announce them. Order within lists of strings and within scope does not matter. What a
    software statement claims was requested.
    """
    actual = normalize_names(granted)
    return {
        name: {"asked": value, "granted": actual.get(name)}
        for name, value in normalize_names(with_claims(requested)).items()
        if value != actual.get(name)
        and name not in NEVER_GRANTED
        and (not server_metadata or _logout_is_supported(name, server_metadata))
        and _comparable(name, value) != _comparable(name, actual.get(name))
    }


def _comparable(name: str, value: Any) -> Any:
    # A switch that is not mentioned is off.
    if value in EMPTY or value is False:
        return None
    if name == "scope" and isinstance(value, str):
        return set(value.split())
    if is_strings(value):
        return {" ".join(sorted(item.split())) for item in value}
    return value


def statement_conflicts(metadata: Mapping[str, Any]) -> list[str]:
    """Return the members for which the software statement has another value.

    At the server the statement wins (RFC 7591 section 2).
    """
    claims = statement_claims(metadata)
    return sorted(
        name
        for name in claims.keys() & metadata.keys()
        if _comparable(name, claims[name]) != _comparable(name, metadata[name])
    )


def warnings(metadata: Mapping[str, Any], server_metadata: Mapping[str, Any]) -> list[str]:
    """Return sentences on what may be sent, but is better changed."""
    sentences = [
        f"The software statement says something else about {clean(name, 100)}, "
        "and the statement wins; make them agree."
        for name in statement_conflicts(metadata)
    ]
    if "implicit" in grant_types(metadata):
        sentences.append("The implicit grant is discouraged (RFC 9700 section 2.1.2); use code.")
    method = metadata.get("token_endpoint_auth_method")
    if method in _SIGNING_ALGORITHMS and not strings(server_metadata, _ALGORITHMS_OFFERED):
        sentences.append(
            f"The server does not state {_ALGORITHMS_OFFERED}; agree on one with its operator."
        )
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

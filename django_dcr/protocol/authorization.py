"""A user's login with a registered client: the authorization code flow (RFC 6749 section 4.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django_dcr import uris
from django_dcr.exceptions import InvalidResponseError, NotAllowedError, UnsupportedError
from django_dcr.text import clean

_REQUIRED_REQUESTS = {
    "require_pushed_authorization_requests": "pushed authorization requests",
    "require_signed_request_object": "signed authorization requests",
}

#: Seconds by which the server's clock may differ from this machine's.
LEEWAY = 60


def check_response_issuer(
    iss: str | None, metadata: Mapping[str, Any], *, issuer: str, is_error: bool
) -> None:
    """Check the ``iss`` of an authorization response (RFC 9207 section 2.4).

    ``issuer`` is the server at which this login began. Raises InvalidResponseError where ``iss``
    differs, and where it is missing although the server's ``metadata`` promises it. An error
    response may omit it, as django-oauth-toolkit's do: it contains no code to protect.
    """
    promised = metadata.get("authorization_response_iss_parameter_supported") is True
    if iss is None and is_error:
        return
    if iss is None and promised:
        fault = "does not name its issuer, as this server's metadata promises"
    elif iss is not None and iss != issuer:
        fault = "names another issuer than the one this login began at"
    else:
        return
    raise InvalidResponseError(
        f"The authorization response {fault}, so its code was not used. Begin the login again; "
        "if it happens each time, report it to the server's operator.",
    )


def code_challenge_method(metadata: Mapping[str, Any], auth_method: str) -> str:
    """Return the PKCE method to use (RFC 7636): "S256", or "" where the server refuses that.

    S256 is used unless the server lists methods without it; a server that does not support PKCE
    ignores it (RFC 6749 section 3.1). Raises UnsupportedError where the client's ``auth_method``
    is "none" and the server refuses S256: nothing would protect the code (RFC 9700 section 2.1.1).
    """
    offered = metadata.get("code_challenge_methods_supported")
    if not offered or "S256" in offered:
        return "S256"
    if auth_method != "none":
        return ""
    raise UnsupportedError(
        "This client has no secret, and the server does not offer PKCE with S256, so a login "
        "could be stolen. Register it with token_endpoint_auth_method client_secret_basic.",
    )


def check_plain_requests(*metadata: Mapping[str, Any]) -> None:
    """Check that plain authorization requests are accepted (RFC 6749 section 4.1.1).

    ``metadata`` is the server's and the client's. Raises UnsupportedError where either requires
    pushed requests (RFC 9126) or signed ones (RFC 9101).
    """
    for name, kind in _REQUIRED_REQUESTS.items():
        if any(members.get(name) is True for members in metadata):
            raise UnsupportedError(
                f"This server requires {kind} ({name}), which this app cannot send. Ask its "
                "operator to accept plain ones from this client."
            )


def check_redirect_uri(uri: str, registered: Sequence[str]) -> None:
    """Raise NotAllowedError unless ``uri`` is exactly one of those ``registered``.

    Only the port of a loopback address may differ (RFC 8252 section 7.3).
    """
    if uri in registered or _without_port(uri) in map(_without_port, registered):
        return
    first, *others = registered
    more = f" and {len(others)} more" if others else ""
    raise NotAllowedError(
        f'The redirect URI "{clean(uri, 140)}" is not registered at this server, which has '
        f'"{clean(first, 140)}"{more}. Use that one, or add yours to redirect_uris and update the '
        "registration with: manage.py dcr_update",
    )


def _without_port(uri: str) -> object:
    try:
        url = uris.parse(uri)
    except ValueError:
        return uri
    loopback = url.scheme == "http" and url.is_loopback and url.host != "localhost"
    return url._replace(port=0, explicit_port=False) if loopback else uri


def requested_scope(requested: str, granted: str) -> str:
    """Return the scopes of ``requested`` that are ``granted``; where one is empty, the other."""
    if not requested or not granted:
        return requested or granted
    allowed = set(granted.split())
    return " ".join(word for word in requested.split() if word in allowed)


def check_id_token(claims: Mapping[str, Any], *, issuer: str, client_id: str) -> None:
    """Check the issuer, the audience and the times of an ID token.

    OpenID Connect Core section 3.1.3.7; the caller checks signature and nonce. Raises
    InvalidResponseError.
    """
    for fault in (*_parties(claims, issuer, client_id), *_times(claims)):
        raise _unusable(fault)


def check_signed_claims(claims: Mapping[str, Any], *, issuer: str, client_id: str) -> None:
    """Check the issuer and the audience of signed userinfo (OpenID Connect Core section 5.3.2).

    It need not have times. Raises InvalidResponseError.
    """
    for fault in _parties(claims, issuer, client_id):
        raise _unusable(fault)


def _parties(claims: Mapping[str, Any], issuer: str, client_id: str) -> Iterator[str]:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp")
    if claims.get("iss") != issuer:
        yield "is another issuer's"
    if client_id not in audiences:
        yield "is for another client"
    # A token for several audiences may have been stolen from another client.
    if party != client_id and (party is not None or len(audiences) > 1):
        yield "was issued to another client"
    if not isinstance(claims.get("sub"), str):
        yield "does not say whose it is"


def _times(claims: Mapping[str, Any]) -> Iterator[str]:
    now = time.time()
    if not _number(claims.get("exp")) > now - LEEWAY:
        yield "has expired, or does not say when it does"
    if not _number(claims.get("iat")) < now + LEEWAY:
        yield "was not issued yet, or does not say when it was"


def _number(value: object) -> float:
    """Return a number, or NaN, for which every comparison is false."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return math.nan


def _unusable(fault: str) -> InvalidResponseError:
    return InvalidResponseError(
        f"The user's token {fault}, so nobody was logged in with it. Begin the login again; "
        "if it happens each time, report it to the server's operator.",
    )

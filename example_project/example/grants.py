"""Tokens for a resource, by a registered client: what a login library does, in a page.

The authorization code flow (RFC 6749 section 4.1) with PKCE, the resource in every request
(RFC 8707), and the issuer of each response checked (RFC 9207).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import requests

from django_dcr import services
from django_dcr.models import ClientRegistration

_LONGEST_LIFETIME = 100 * 365 * 24 * 3600  # seconds
# What malformed responses may raise.
_MALFORMED = (ValueError, LookupError, TypeError, OverflowError, RecursionError)


class GrantError(Exception):
    """The server gave no token; its error code is the text (RFC 6749 sections 4.1.2.1, 5.2)."""


@dataclass(frozen=True)
class Token:
    """What a token endpoint issued, for one resource."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    #: When the access token expires, in seconds since 1970; None where the server did not say.
    expires_at: float | None
    scope: str


def begin_for(
    url: str, challenge: str, redirect_uri: str, *, requested: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Begin at the server that a resource names in its challenge, the header WWW-Authenticate.

    ``requested`` has the scope of each previous authorization that was not enough. Returns where
    to send the user, and what to keep in the session until they return.
    """
    parsed = services.parse_challenge(challenge)
    registration = services.get_or_register_for(url, challenge=parsed)
    resource = services.discover_resource(url)  # from the row, which is fresh now
    scope = services.scopes_for(resource.metadata, parsed, requested=requested)
    if scope and "offline_access" in registration.server.offered("scopes_supported"):
        # Otherwise such a server issues no refresh token (OpenID Connect Core section 11).
        scope = " ".join(dict.fromkeys([*scope.split(), "offline_access"]))
    place, attempt = begin(registration, redirect_uri, resource=resource.indicator, scope=scope)
    return place, {**attempt, "requested": [*requested, scope]}


def begin(
    registration: ClientRegistration, redirect_uri: str, *, resource: str, scope: str
) -> tuple[str, dict[str, Any]]:
    """Begin with this client; returns the same two."""
    services.check_login_request(registration, redirect_uri)
    verifier = secrets.token_urlsafe(64)
    attempt = {
        **services.login_attempt(registration),
        "state": secrets.token_urlsafe(),
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
        "resource": resource,
        "scope": scope,
    }
    digest = hashlib.sha256(verifier.encode()).digest()
    parameters = {
        "response_type": "code",
        "client_id": registration.client_id,
        "redirect_uri": redirect_uri,
        "state": attempt["state"],
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "code_challenge_method": services.code_challenge_method(registration),
        "resource": resource,
        **({"scope": scope} if scope else {}),
        **({"prompt": "consent"} if "offline_access" in scope.split() else {}),
    }
    # At another server's endpoint the user would get a code that this server could redeem.
    endpoint = services.login_endpoint(registration, "authorization_endpoint")
    separator = "&" if "?" in endpoint else "?"
    return f"{endpoint}{separator}{urlencode(parameters)}", attempt


def finish(attempt: Mapping[str, Any], answer: Mapping[str, str]) -> Token:
    """Return the token for an authorization response; its ``state`` has led to ``attempt``."""
    registration = services.resume_login(attempt)
    code = answer.get("code")
    services.check_login(registration, attempt, answer.get("iss"), is_error=not code)
    if not code:
        raise GrantError(answer.get("error", "no code"))
    kept = {name: attempt[name] for name in ("redirect_uri", "code_verifier", "resource")}
    return _token(
        registration,
        {"grant_type": "authorization_code", "code": code, **kept},
        scope=attempt["scope"],
    )


def refresh(registration: ClientRegistration, token: Token, *, resource: str) -> Token:
    """Return a new token; its refresh token is the old one unless the server rotates it."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": token.refresh_token,
        "resource": resource,
    }
    new = _token(registration, form, scope=token.scope)
    refresh_token = new.refresh_token or token.refresh_token
    return Token(new.access_token, refresh_token, new.expires_at, new.scope)


def client_credentials(registration: ClientRegistration, *, resource: str, scope: str) -> Token:
    """Return a token of the site's own, without a user (RFC 6749 section 4.4)."""
    form = {"grant_type": "client_credentials", "resource": resource}
    return _token(registration, form | ({"scope": scope} if scope else {}), scope=scope)


def revoke(registration: ClientRegistration, token: Token) -> None:
    """Revoke the token at the server (RFC 7009)."""
    endpoint = services.login_endpoint(registration, "revocation_endpoint")
    value = token.refresh_token or token.access_token
    _post(registration, endpoint, {"token": value})


def _token(registration: ClientRegistration, form: dict[str, str], *, scope: str) -> Token:
    endpoint = services.login_endpoint(registration, "token_endpoint")
    response = _post(registration, endpoint, form)
    try:
        issued: dict[str, Any] = {**response.json()}
        token = Token(
            access_token=str(issued["access_token"]),
            refresh_token=str(issued.get("refresh_token") or ""),
            expires_at=_end(float(issued.get("expires_in") or 0)),
            scope=str(issued.get("scope") or scope),
        )
    except _MALFORMED:
        # Without the cause, which may quote the token.
        raise GrantError("the server did not issue a token response") from None
    if str(issued.get("token_type")).lower() != "bearer":
        raise GrantError("the server did not issue a bearer token")
    return token


def _end(lifetime: float) -> float | None:
    # No column holds any number, and infinity and NaN are numbers in Python's JSON.
    return time.time() + lifetime if 0 < lifetime < _LONGEST_LIFETIME else None


def _post(registration: ClientRegistration, url: str, form: dict[str, str]) -> requests.Response:
    credentials, parameters = registration.client_authentication()
    # Servers of the MCP Python SDK need the client_id in the form, even where the client
    # authenticates by a header (python-sdk#3545).
    form = {"client_id": registration.client_id, **form, **parameters}
    with services.login_session(requests.Session(), registration) as session:
        response = session.post(url, data=form, headers=credentials)
    if not response.ok:
        raise GrantError(_error(response))
    return response


def _error(response: requests.Response) -> str:
    try:
        answer: Any = response.json()
        return str(answer["error"])
    except _MALFORMED:
        return f"status {response.status_code}"

"""Client authentication at the token endpoint (RFC 6749 section 2.3, RFC 7523)."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from joserfc.errors import JoseError
from joserfc.jwk import import_key
from joserfc.jws import JWSRegistry

from django_dcr import protocol
from django_dcr.protocol.keys import is_key_for
from django_dcr.testing.messages import Request

# The library has another name for EdDSA (RFC 8037).
_ALGORITHMS = {"EdDSA": "Ed25519"}
_NO_KEY: dict[str, Any] = {}


def credentials(request: Request) -> tuple[str, str, str]:
    """Return client_id, secret or assertion, and the authentication method of a request.

    The method is "none" without authentication, and "several" with more than one.
    """
    form = request.form
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    used = []
    if request.authorization:
        used.append("client_secret_basic")
        client_id, secret = _basic(request.authorization)
    if "client_secret" in form:
        used.append("client_secret_post")
    if "client_assertion" in form:
        secret = form["client_assertion"]
        client_id = client_id or str(_part(secret, 1).get("sub", ""))
        is_mac = str(_part(secret, 0).get("alg", "")).startswith("HS")
        used.append("client_secret_jwt" if is_mac else "private_key_jwt")
    return client_id, secret, (used or ["none"])[0] if len(used) <= 1 else "several"


def _basic(header: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
    except ValueError:
        return "", ""
    client_id, _, secret = pair.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def asserted(
    assertion: str, client: Mapping[str, Any], *, audience: set[str], keys: Callable[[], Any]
) -> str:
    """Return the ``jti`` of an assertion that ``client`` has signed, "" for any other.

    ``keys`` returns the client's JWK Set.
    """
    header, claims = _part(assertion, 0), _part(assertion, 1)
    message, _, signature = assertion.rpartition(".")
    client_id = client["client_id"]
    is_valid = (
        claims.get("iss") == claims.get("sub") == client_id
        and claims.get("aud") in audience
        and claims.get("exp", 0) > time.time()
        and _is_signed(header, message.encode(), _bytes(signature), client, keys)
    )
    return str(claims.get("jti", "")) if is_valid else ""


def _is_signed(
    header: Mapping[str, Any],
    message: bytes,
    signature: bytes,
    client: Mapping[str, Any],
    keys: Callable[[], Any],
) -> bool:
    algorithm = header.get("alg", "")
    if algorithm in protocol.HASHES:
        mac = protocol.mac(client["client_secret"], algorithm, message)
        return hmac.compare_digest(mac, signature)
    jwks: list[dict[str, Any]] = (keys() or {}).get("keys", [])
    found = next((key for key in jwks if key.get("kid") == header.get("kid")), _NO_KEY)
    if algorithm not in protocol.KEY_TYPES or not is_key_for(algorithm, found):
        return False
    name = _ALGORITHMS.get(algorithm, algorithm)
    try:
        verifier = JWSRegistry(algorithms=[name]).get_alg(name)
        return verifier.verify(message, signature, import_key(found))
    except (JoseError, ValueError):
        return False


def _part(token: str, number: int) -> dict[str, Any]:
    try:
        part: dict[str, Any] = json.loads(_bytes(token.split(".")[number]))
    except (IndexError, ValueError):
        return {}
    return part


def _bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""

"""Signature algorithms and public keys (RFC 7517, RFC 7518); private keys are in ``jose``."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from django_dcr.exceptions import UnsupportedError
from django_dcr.protocol.client_metadata import PRIVATE_KEY_MEMBERS
from django_dcr.text import clean, hides_variables

#: The smallest size of an RSA key for these algorithms (RFC 7518 section 3.3).
MIN_RSA_BITS = 2048

#: Asymmetric algorithms with their key types, in order of preference: short signatures and keys
#: before long ones, PSS before PKCS #1.
KEY_TYPES: Mapping[str, tuple[str, str | int]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
    "PS256": ("RSA", MIN_RSA_BITS),
    "RS256": ("RSA", MIN_RSA_BITS),
    "RS384": ("RSA", MIN_RSA_BITS),
}
#: Algorithms with a shared secret, and the hash of each (RFC 7518 section 3.2).
HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}

# The members of a public key (RFC 7518 sections 6.2 and 6.3, RFC 8037 section 2).
_MATERIAL = {"kty", "crv", "x", "y", "n", "e"}


def has_key(document: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Whether a JWK Set contains a public key, under any ``kid``."""
    wanted = {name: value for name, value in key.items() if name in _MATERIAL}
    members = document.get("keys")
    return any(
        isinstance(each, dict) and wanted.items() <= each.items()
        for each in (members if isinstance(members, list) else ())
    )


def is_key_for(algorithm: str, key: Mapping[str, Any]) -> bool:
    """Whether a JWK is of the type and size that ``algorithm`` takes."""
    kind, size = KEY_TYPES[algorithm]
    if key.get("kty") != kind:
        return False
    return not is_too_small(key) if kind == "RSA" else key.get("crv") == size


def is_too_small(key: Mapping[str, Any]) -> bool:
    """Whether a JWK is an RSA key of fewer than ``MIN_RSA_BITS``."""
    # A modulus is base64url without leading zeros, four characters for three bytes.
    return key.get("kty") == "RSA" and len(str(key.get("n", ""))) * 6 < MIN_RSA_BITS


@hides_variables
def mac(secret: str, algorithm: str, message: bytes) -> bytes:
    """Return the message authentication code of ``message``, by one of ``HASHES``.

    Raises UnsupportedError for another algorithm.
    """
    if algorithm not in HASHES:
        raise UnsupportedError(
            f"A client cannot sign by {clean(algorithm, 50)} with its secret, and this one is "
            "registered so. Update it with another token_endpoint_auth_signing_alg."
        )
    return hmac.digest(secret.encode(), message, HASHES[algorithm])


def key_set(keys: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a JWK Set (RFC 7517 section 5) of the public members of ``keys``."""
    private = PRIVATE_KEY_MEMBERS
    return {"keys": [{k: v for k, v in key.items() if k not in private} for key in keys]}

"""Creating and loading private keys, and signing with them (RFC 7515, RFC 7517), by joserfc.

Importing joserfc takes a twentieth of a second, and most processes sign nothing, so the package
imports this module only when it is needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import Key, generate_key, import_key
from joserfc.jws import JWSRegistry

from django_dcr.protocol.keys import KEY_TYPES, is_key_for
from django_dcr.text import SensitiveText, hides_variables

# The library's names for the algorithms: RFC 9864 replaces "EdDSA", which servers still list.
_LIBRARY_NAMES = {"EdDSA": "Ed25519"}


@dataclass(frozen=True)
class NewKey:
    """A newly created key."""

    #: The thumbprint of the key (RFC 7638).
    kid: str
    #: The private key, as the JSON text of a JWK.
    private: str = field(repr=False)
    #: The members that may be published.
    public: dict[str, Any]


@hides_variables
def make_key(algorithm: str) -> NewKey:
    """Create a key for one of ``KEY_TYPES``."""
    kind: Any
    size: Any
    kind, size = KEY_TYPES[algorithm]
    key: Key = generate_key(kind, size)
    kid = key.thumbprint()
    public = {**key.as_dict(private=False), "kid": kid, "alg": algorithm, "use": "sig"}
    return NewKey(kid, SensitiveText(json.dumps(key.as_dict(private=True))), public)


@hides_variables
def open_key(private: str, algorithm: str) -> Key:
    """Load a key of ``make_key``; raises ValueError where it is not a key for ``algorithm``."""
    try:
        members = json.loads(private)
        fits = is_key_for(algorithm, members)
        key = import_key(members) if fits else None
    except (JoseError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        # Without its cause, which quotes the key.
        raise ValueError("cannot be read") from None
    if key is None:
        raise ValueError(f"is of the wrong type or size for {algorithm}")
    if not key.is_private:
        raise ValueError("has no private part")
    return key


@hides_variables
def signature(key: Key, algorithm: str, message: bytes) -> bytes:
    """Return the JWS signature of ``message`` (RFC 7515 section 5.1)."""
    name = _LIBRARY_NAMES.get(algorithm, algorithm)
    return JWSRegistry(algorithms=[name]).get_alg(name).sign(message, key)

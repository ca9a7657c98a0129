"""A client that proves who it is by what it signs (RFC 7521, RFC 7523, OpenID Connect Core 9)."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from django_dcr.text import SensitiveText, hides_variables

#: The methods by which a client signs, and sends no secret.
ASSERTION_METHODS = frozenset({"private_key_jwt", "client_secret_jwt"})

_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# In seconds. Some servers refuse a life of five minutes, and some a clock that is ahead at all.
_LIFETIME = 240
_MARGIN = 5
# Made once: json.dumps() makes one for each call that names separators.
_JSON = json.JSONEncoder(separators=(",", ":"))


@hides_variables
def client_assertion(
    client_id: str,
    audience: str,
    *,
    header: Mapping[str, str],
    sign: Callable[[bytes], bytes],
    clock_offset: int = 0,
) -> dict[str, str]:
    """Return the form parameters with which a client authenticates by an assertion.

    ``header`` has at least ``alg``, by which ``sign`` signs. ``clock_offset`` is by how many
    seconds this machine's clock is ahead of the server's. The assertion is good for four minutes,
    and for one use (RFC 7523 section 3).
    """
    now = int(time.time()) - clock_offset
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(24),
        "iat": now - _MARGIN,
        "exp": now + _LIFETIME - _MARGIN,
    }
    message = f"{_encoded(header)}.{_encoded(claims)}"
    signature = _base64url(sign(message.encode()))
    return {
        "client_id": client_id,
        "client_assertion_type": _TYPE,
        "client_assertion": SensitiveText(f"{message}.{signature}"),
    }


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64url(_JSON.encode(part).encode())


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

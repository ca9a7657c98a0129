"""How a registered client authenticates at the token endpoint.

By its secret (RFC 6749 section 2.3.1) or by a signed assertion (RFC 7521, RFC 7523, OpenID Connect
Core section 9).
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from django_dcr.exceptions import UnsupportedError
from django_dcr.protocol.client_metadata import SECRET_METHODS
from django_dcr.text import SensitiveText, clean, hides_variables

#: The methods by which a client sends its secret, or nothing, in order of preference.
PLAIN_METHODS = ("client_secret_basic", "client_secret_post", "none")
#: All methods by which this app can authenticate.
AUTHENTICATION_METHODS = (*PLAIN_METHODS, "private_key_jwt", "client_secret_jwt")
#: The methods by which a client signs and sends no secret.
ASSERTION_METHODS = frozenset({"private_key_jwt", "client_secret_jwt"})

_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# In seconds. Some servers refuse a lifetime of five minutes, and some any clock that is ahead.
_LIFETIME = 240
_MARGIN = 5
# json.dumps() with separators would create one at each call.
_JSON = json.JSONEncoder(separators=(",", ":"))


def check_authentication_method(method: str, *, has_secret: bool) -> None:
    """Raise UnsupportedError for a method that this app cannot use.

    That is one that is not in ``AUTHENTICATION_METHODS``, or needs a secret that is missing.
    """
    if method not in AUTHENTICATION_METHODS:
        raise _unusable(method)
    if method in SECRET_METHODS and not has_secret:
        raise UnsupportedError(
            f"The method {method} needs a client secret, and this registration has none. "
            "Renew it, or register again."
        )


def _unusable(method: str) -> UnsupportedError:
    return UnsupportedError(
        f'This app cannot authenticate by "{clean(method, 100)}". Request another '
        "token_endpoint_auth_method, or authenticate in the site's own code."
    )


@hides_variables
def client_authentication(
    client_id: str, client_secret: str | None, method: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the form parameters that authenticate by the registered ``method``.

    Exactly one of the two has the credentials (RFC 6749 section 2.3). ``method`` is one of
    ``PLAIN_METHODS``; for the others see ``client_assertion``. Raises UnsupportedError for any
    other method, and for one that needs a secret where there is none.
    """
    check_authentication_method(method, has_secret=client_secret is not None)
    if method not in PLAIN_METHODS:
        raise _unusable(method)  # rather than send the secret by another method
    if method == "none" or client_secret is None:
        return {}, {"client_id": client_id}
    if method == "client_secret_post":
        return {}, {"client_id": client_id, "client_secret": client_secret}
    # Each part is form-urlencoded first, or a colon in the id would end it.
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    basic = "Basic " + base64.b64encode(pair.encode()).decode()
    return {"Authorization": SensitiveText(basic)}, {}


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

    ``header`` has at least ``alg``, by which ``sign`` signs. ``clock_offset`` is the number of
    seconds by which this machine's clock is ahead of the server's. The assertion is valid for four
    minutes and for one use (RFC 7523 section 3).
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

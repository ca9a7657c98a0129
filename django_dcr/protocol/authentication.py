"""How a registered client authenticates at its token endpoint (RFC 6749 section 2.3.1)."""

from __future__ import annotations

import base64
from urllib.parse import quote_plus

from django_dcr.exceptions import UnsupportedError
from django_dcr.protocol.client_metadata import SECRET_METHODS
from django_dcr.text import SensitiveText, clean, hides_variables

#: The methods by which a client shows its secret, or nothing: those to choose from for lack of a
#: wish, the one to prefer first.
PLAIN_METHODS = ("client_secret_basic", "client_secret_post", "none")
#: The methods that this app can authenticate by.
AUTHENTICATION_METHODS = (*PLAIN_METHODS, "private_key_jwt", "client_secret_jwt")


def check_authentication_method(method: str, *, has_secret: bool) -> None:
    """Raise UnsupportedError for a method that this app cannot authenticate by.

    That is one that is not in ``AUTHENTICATION_METHODS``, or needs a secret that is not there.
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

    Exactly one of the two carries the credentials (RFC 6749 section 2.3). ``method`` is none, or
    shows the secret; what a client signs is made by ``client_assertion``. Raises UnsupportedError
    for a method that this app cannot authenticate by, and where it needs a secret and there is
    none.
    """
    check_authentication_method(method, has_secret=client_secret is not None)
    if method not in PLAIN_METHODS:
        raise _unusable(method)  # and show no secret by another method
    if method == "none" or client_secret is None:
        return {}, {"client_id": client_id}
    if method == "client_secret_post":
        return {}, {"client_id": client_id, "client_secret": client_secret}
    # Each part is form-urlencoded first, else a colon in the id would end it.
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    basic = "Basic " + base64.b64encode(pair.encode()).decode()
    return {"Authorization": SensitiveText(basic)}, {}

"""Authenticating at the token endpoint by the method that was registered."""

from __future__ import annotations

import base64
from urllib.parse import unquote_plus

import pytest

from django_dcr.exceptions import UnsupportedError
from django_dcr.protocol import client_authentication


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("client", "secret"),
        ("a:b", "a b+c%/é:"),
        ("https://rp.example/?a=1&b=2", " =~*•\U0001f600"),
    ],
    ids=["plain", "B22", "URL"],
)
def test_basic_credentials_are_form_urlencoded_before_base64(client_id, secret):
    """R-135, B22, and R-136: and they are not in the form as well."""
    headers, form = client_authentication(client_id, secret, "client_secret_basic")
    scheme, _, credentials = headers.pop("Authorization").partition(" ")
    encoded_id, encoded_secret = base64.b64decode(credentials).decode("ascii").split(":")
    assert scheme == "Basic"
    assert (unquote_plus(encoded_id), unquote_plus(encoded_secret)) == (client_id, secret)
    assert (headers, form) == ({}, {})


def test_a_space_becomes_a_plus_sign():
    """R-135: application/x-www-form-urlencoded, not %20."""
    headers, _ = client_authentication("c", "a b", "client_secret_basic")
    assert headers == {"Authorization": "Basic " + base64.b64encode(b"c:a+b").decode()}


def test_post_credentials_are_in_the_form_only():
    """R-136, B24: exactly one method, the registered one."""
    assert client_authentication("c", " s ", "client_secret_post") == (
        {},
        {"client_id": "c", "client_secret": " s "},
    )


def test_a_public_client_sends_its_id_and_never_a_secret():
    """R-081: a secret issued for method none is stored and not sent."""
    assert client_authentication("c", "issued anyway", "none") == ({}, {"client_id": "c"})


@pytest.mark.parametrize(
    ("secret", "method", "reason"),
    [
        ("s", "private_key_jwt", 'cannot authenticate by "private_key_jwt"'),
        ("s", "client_secret_basic ", "cannot authenticate"),
        ("s", "", "cannot authenticate"),
        (None, "client_secret_basic", "needs a client secret"),
        (None, "client_secret_post", "needs a client secret"),
    ],
    ids=["keys", "nearly", "empty", "basic without secret", "post without secret"],
)
def test_a_method_that_cannot_be_used_is_unsupported(secret, method, reason):
    with pytest.raises(UnsupportedError, match=reason):
        client_authentication("c", secret, method)

"""Keys and assertions, each checked by other libraries than the one that made them."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import jwt
import pytest
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws

from django_dcr.exceptions import UnsupportedError
from django_dcr.protocol import (
    KEY_TYPES,
    client_assertion,
    key_set,
    mac,
    make_key,
    open_key,
    signature,
)
from django_dcr.protocol.client_metadata import PRIVATE_KEY_MEMBERS

AUDIENCE = "https://as.example"


def asserted(algorithm: str, **options: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Form parameters, and the public key to check them with."""
    made = make_key(algorithm)
    key = open_key(made.private, algorithm)
    form = client_assertion(
        "c1",
        AUDIENCE,
        header={"alg": algorithm, "kid": made.kid},
        sign=lambda message: signature(key, algorithm, message),
        **options,
    )
    return form, made.public


@pytest.mark.parametrize("algorithm", KEY_TYPES)
def test_pyjwt_accepts_an_assertion(algorithm: str) -> None:
    """R-181, R-182, R-183."""
    form, public = asserted(algorithm)
    claims = jwt.decode(
        form["client_assertion"],
        jwt.PyJWK(public, algorithm),
        algorithms=[algorithm],
        audience=AUDIENCE,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
    )
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("c1", "c1", AUDIENCE)
    assert jwt.get_unverified_header(form["client_assertion"])["kid"] == public["kid"]


@pytest.mark.parametrize("algorithm", KEY_TYPES)
def test_jwcrypto_accepts_an_assertion(algorithm: str) -> None:
    """R-183; and both libraries have the same name for the key (RFC 7638)."""
    form, public = asserted(algorithm)
    key = jwcrypto_jwk.JWK(**public)
    token = jwcrypto_jws.JWS()
    token.deserialize(form["client_assertion"], key, alg=algorithm)
    assert json.loads(token.payload)["sub"] == "c1"
    assert key.thumbprint() == public["kid"]


def test_the_form_names_the_client_and_the_assertion_type() -> None:
    """R-180."""
    form, _public = asserted("ES256")
    assert form.keys() == {"client_id", "client_assertion_type", "client_assertion"}
    assert form["client_id"] == "c1"
    assert form["client_assertion_type"].endswith(":client-assertion-type:jwt-bearer")


@pytest.mark.parametrize("offset", [0, 300, -300], ids=["agrees", "ahead", "behind"])
def test_an_assertion_is_valid_for_four_minutes_by_the_servers_clock(offset: int) -> None:
    """R-181: some servers refuse a lifetime of five minutes, or a clock that is ahead."""
    form, _public = asserted("ES256", clock_offset=offset)
    claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
    server_time = time.time() - offset
    assert server_time - 60 < claims["iat"] < server_time
    assert claims["exp"] - claims["iat"] == 240
    assert "nbf" not in claims


def test_no_two_assertions_have_the_same_jti() -> None:
    """R-181."""
    tokens = [asserted("EdDSA")[0]["client_assertion"] for _ in range(20)]
    assert len({jwt.decode(t, options={"verify_signature": False})["jti"] for t in tokens}) == 20


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_pyjwt_accepts_a_message_authentication_code(algorithm: str) -> None:
    """R-186."""
    secret = "a secret of the server's é " * 3
    form = client_assertion(
        "c1",
        AUDIENCE,
        header={"alg": algorithm},
        sign=lambda message: mac(secret, algorithm, message),
    )
    claims = jwt.decode(form["client_assertion"], secret, [algorithm], audience=AUDIENCE)
    assert claims["iss"] == "c1"


@pytest.mark.parametrize("algorithm", ["none", "ES256", "HS1"])
def test_a_secret_is_not_used_for_other_algorithms(algorithm: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot sign by"):
        mac("secret", algorithm, b"")


@pytest.mark.parametrize("algorithm", KEY_TYPES)
def test_no_private_member_is_public(algorithm: str) -> None:
    """R-185."""
    made = make_key(algorithm)
    assert PRIVATE_KEY_MEMBERS & made.public.keys() == set()
    assert PRIVATE_KEY_MEMBERS & json.loads(made.private).keys()
    assert {"kid", "alg", "use", "kty"} <= made.public.keys()
    assert json.loads(made.private)["d"] not in repr(made)


def test_a_key_set_drops_private_members() -> None:
    """R-185, R-191: an object, never a bare list."""
    key = {"kty": "RSA", "n": "a", "e": "b", "kid": "c"}
    assert key_set([{**key, "d": "x", "p": "y", "qi": "z"}]) == {"keys": [key]}
    assert key_set([]) == {"keys": []}


def test_each_key_has_its_own_kid() -> None:
    """R-184."""
    assert len({make_key("EdDSA").kid for _ in range(20)}) == 20


ES256 = json.loads(make_key("ES256").private)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (json.dumps({**ES256, "x": "!"}), "cannot be read"),
        (json.dumps({**ES256, "crv": "P-384"}), "wrong type or size for ES256"),
        (json.dumps({"kty": "RSA", "n": "a", "d": "a"}), "wrong type or size for ES256"),
        (json.dumps({"kty": "oct", "k": "c2VjcmV0"}), "wrong type or size for ES256"),
        (json.dumps({k: v for k, v in ES256.items() if k != "d"}), "has no private part"),
    ],
    ids=["empty", "cut", "list", "deep", "point", "curve", "RSA", "secret", "public"],
)
def test_a_key_of_another_type_is_refused_without_being_quoted(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        open_key(text, "ES256")
    assert caught.value.__cause__ is None
    assert ES256["d"] not in repr(vars(caught.value))


def test_an_rsa_key_that_is_too_short_is_refused() -> None:
    short = jwcrypto_jwk.JWK.generate(kty="RSA", size=1024).export()
    with pytest.raises(ValueError, match="wrong type or size for RS256"):
        open_key(short, "RS256")


def test_an_assertion_is_masked_where_variables_are_shown() -> None:
    form, _public = asserted("ES256")
    assert form["client_assertion"] not in repr(form)
    assert pickle.loads(pickle.dumps(form)) == form  # noqa: S301

from __future__ import annotations

import time
from typing import Any

import pytest

from django_dcr import protocol
from django_dcr.exceptions import InvalidResponseError, NotAllowedError, UnsupportedError

ISSUER = "https://as.example/tenant"
PROMISE = {"authorization_response_iss_parameter_supported": True}


@pytest.mark.parametrize(
    ("iss", "metadata"),
    [
        pytest.param(ISSUER, PROMISE, id="promised"),
        pytest.param(ISSUER, {}, id="not promised"),
        pytest.param(None, {}, id="missing and not promised"),
        pytest.param(
            None, {"authorization_response_iss_parameter_supported": "true"}, id="no promise"
        ),
    ],
)
def test_an_authorization_response_that_names_the_issuer_is_accepted(
    iss: str | None, metadata: dict[str, Any]
) -> None:
    """R-155: RFC 9207 section 2.4."""
    protocol.check_response_issuer(iss, metadata, issuer=ISSUER, is_error=False)
    protocol.check_response_issuer(iss, metadata, issuer=ISSUER, is_error=True)


def test_an_error_response_need_not_name_the_issuer() -> None:
    protocol.check_response_issuer(None, PROMISE, issuer=ISSUER, is_error=True)


def test_an_error_response_that_names_another_issuer_is_refused() -> None:
    """R-155."""
    with pytest.raises(InvalidResponseError, match="names another issuer"):
        protocol.check_response_issuer("https://evil.example", {}, issuer=ISSUER, is_error=True)


@pytest.mark.parametrize(
    ("iss", "metadata", "message"),
    [
        pytest.param(None, PROMISE, "does not name its issuer", id="missing though promised"),
        pytest.param("https://evil.example", {}, "names another issuer", id="another"),
        pytest.param(f"{ISSUER}/", PROMISE, "names another issuer", id="a slash more"),
        pytest.param("https://AS.example/tenant", {}, "names another issuer", id="letter case"),
        pytest.param("", {}, "names another issuer", id="empty"),
    ],
)
def test_an_authorization_response_that_does_not_name_the_issuer_is_refused(
    iss: str | None, metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidResponseError, match=message) as caught:
        protocol.check_response_issuer(iss, metadata, issuer=ISSUER, is_error=False)
    assert "Begin the login again" in str(caught.value)


@pytest.mark.parametrize(
    ("offered", "auth_method", "expected"),
    [
        pytest.param(None, "client_secret_basic", "S256", id="nothing said"),
        pytest.param(["plain", "S256"], "none", "S256", id="offered"),
        pytest.param(["plain"], "client_secret_basic", "", id="refused, with a secret"),
    ],
)
def test_pkce_is_used_unless_the_server_refuses_it(
    offered: list[str] | None, auth_method: str, expected: str
) -> None:
    metadata = {} if offered is None else {"code_challenge_methods_supported": offered}
    assert protocol.code_challenge_method(metadata, auth_method) == expected


def test_a_client_without_a_secret_needs_pkce() -> None:
    metadata = {"code_challenge_methods_supported": ["plain"]}
    with pytest.raises(UnsupportedError, match="token_endpoint_auth_method client_secret_basic"):
        protocol.code_challenge_method(metadata, "none")


def claims(**changes: Any) -> dict[str, Any]:
    """Of an ID token; a claim of value ``...`` is left out, "exp_in" counts from now."""
    now = time.time()
    standing = {"iss": ISSUER, "aud": "c1", "sub": "jane", "iat_in": 0, "exp_in": 300}
    document = {}
    for name, value in {**standing, **changes}.items():
        if name.endswith("_in"):
            document[name.removesuffix("_in")] = now + value
        else:
            document[name] = value
    return {name: value for name, value in document.items() if value is not ...}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"aud": ["c1"]}, id="list of one"),
        pytest.param({"azp": "c1"}, id="azp"),
        pytest.param({"aud": ["c1", "c2"], "azp": "c1"}, id="several and azp"),
        pytest.param({"exp_in": -30}, id="clock ahead"),
        pytest.param({"iat_in": 30}, id="clock behind"),
        pytest.param({"exp": 10**400}, id="very long"),
    ],
)
def test_an_id_token_for_this_client_is_accepted(changes: dict[str, Any]) -> None:
    protocol.check_id_token(claims(**changes), issuer=ISSUER, client_id="c1")
    protocol.check_signed_claims(claims(**changes), issuer=ISSUER, client_id="c1")


PARTIES = {
    "another issuer": ({"iss": f"{ISSUER}/"}, "another issuer's"),
    "no issuer": ({"iss": ...}, "another issuer's"),
    "another audience": ({"aud": "c2"}, "for another client"),
    "another audience, azp": ({"aud": ["c2"], "azp": "c1"}, "for another client"),
    "no audience": ({"aud": ...}, "for another client"),
    "part of the audience": ({"aud": "c10"}, "for another client"),
    "several and no azp": ({"aud": ["c1", "c2"]}, "issued to another client"),
    "another azp": ({"azp": "c2"}, "issued to another client"),
    "several and another azp": ({"aud": ["c1", "c2"], "azp": "c2"}, "issued to another client"),
    "no subject": ({"sub": ...}, "whose it is"),
    "a subject that is not text": ({"sub": 7}, "whose it is"),
}
TIMES = {
    "no exp": ({"exp": ...}, "has expired"),
    "expired": ({"exp_in": -90}, "has expired"),
    "exp is text": ({"exp": "9999999999"}, "has expired"),
    "exp is true": ({"exp": True}, "has expired"),
    "exp is not a number": ({"exp": float("nan")}, "has expired"),
    "no iat": ({"iat": ...}, "was not issued yet"),
    "iat in the future": ({"iat_in": 90}, "was not issued yet"),
    "iat is not a number": ({"iat": float("nan")}, "was not issued yet"),
}


@pytest.mark.parametrize(
    ("changes", "message"), [*PARTIES.values(), *TIMES.values()], ids=[*PARTIES, *TIMES]
)
def test_an_id_token_for_another_client_or_without_times_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    """OpenID Connect Core section 3.1.3.7."""
    with pytest.raises(InvalidResponseError, match=message):
        protocol.check_id_token(claims(**changes), issuer=ISSUER, client_id="c1")


@pytest.mark.parametrize(("changes", "message"), PARTIES.values(), ids=PARTIES)
def test_signed_userinfo_for_another_client_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidResponseError, match=message):
        protocol.check_signed_claims(claims(**changes), issuer=ISSUER, client_id="c1")


def test_signed_userinfo_need_not_have_times() -> None:
    protocol.check_signed_claims(claims(exp=..., iat=...), issuer=ISSUER, client_id="c1")


SCOPES = {
    "both": ("a b", "b c", "b"),
    "nothing in common": ("a", "b", ""),
    "nothing asked": ("", "a b", "a b"),
    "nothing granted": ("a b", "", "a b"),
    "neither": ("", "", ""),
}


@pytest.mark.parametrize(("asked", "granted", "scope"), SCOPES.values(), ids=SCOPES.keys())
def test_the_scope_of_a_login_is_what_was_requested_and_granted(asked, granted, scope):
    assert protocol.requested_scope(asked, granted) == scope


def test_a_redirect_uri_of_a_native_app_is_compared_exactly():
    protocol.check_redirect_uri("com.example:/cb", ["com.example:/cb"])
    with pytest.raises(NotAllowedError, match="is not registered at this server, which has"):
        protocol.check_redirect_uri("com.example:/CB", ["com.example:/cb"])

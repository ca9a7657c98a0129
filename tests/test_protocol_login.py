from __future__ import annotations

from typing import Any

import pytest

from django_dcr import protocol
from django_dcr.exceptions import InvalidResponseError, UnsupportedError

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
def test_an_authorization_response_of_the_issuer_is_accepted(
    iss: str | None, metadata: dict[str, Any]
) -> None:
    """RFC 9207 section 2.4."""
    protocol.check_response_issuer(iss, metadata, issuer=ISSUER, is_error=False)
    protocol.check_response_issuer(iss, metadata, issuer=ISSUER, is_error=True)


def test_an_error_need_not_name_its_issuer() -> None:
    protocol.check_response_issuer(None, PROMISE, issuer=ISSUER, is_error=True)


def test_an_error_of_anyone_else_is_refused() -> None:
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
def test_an_authorization_response_of_anyone_else_is_refused(
    iss: str | None, metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidResponseError, match=message) as caught:
        protocol.check_response_issuer(iss, metadata, issuer=ISSUER, is_error=False)
    assert "Begin the login again" in str(caught.value)
    assert (caught.value.issuer, caught.value.step) == (ISSUER, "login")


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
    assert protocol.code_challenge_method(metadata, auth_method, issuer=ISSUER) == expected


def test_without_pkce_a_client_without_a_secret_logs_nobody_in() -> None:
    metadata = {"code_challenge_methods_supported": ["plain"]}
    with pytest.raises(UnsupportedError, match="token_endpoint_auth_method client_secret_basic"):
        protocol.code_challenge_method(metadata, "none", issuer=ISSUER)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(401, b'{"error": "invalid_client"}', True, id="401"),
        pytest.param(400, b'{"error": "invalid_client"}', True, id="400"),
        pytest.param(400, b'{"error": "invalid_grant"}', False, id="another error"),
        pytest.param(200, b'{"error": "invalid_client"}', False, id="success"),
        pytest.param(401, b"invalid_client", False, id="no JSON"),
        pytest.param(401, b'["invalid_client"]', False, id="no object"),
    ],
)
def test_a_refused_client_is_told_from_other_answers(
    status: int, body: bytes, expected: bool
) -> None:
    """RFC 6749 section 5.2."""
    assert protocol.is_invalid_client(status, body) is expected

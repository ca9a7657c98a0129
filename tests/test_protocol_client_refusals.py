"""What token and authorization endpoints say of a client that exists, and of one that does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from django_dcr import protocol
from django_dcr.transport import Reply

CALLBACK = "https://site.example/callback"
UNKNOWN = {"error": "invalid_request", "error_description": "unknown client"}
#: Words under another code, or none.
SAYINGS = [
    "unknown client",
    "Invalid client",
    "invalid OAuth client",
    "no such application",
    "Client not found",
    "The client abc does not exist.",
    "client abc is not registered here",
]


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {"Content-Type": "application/json", **headers}, content)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        pytest.param(401, {"error": "invalid_client"}, "invalid_client", id="401"),
        pytest.param(400, {"error": "invalid_client"}, "invalid_client", id="400"),
        pytest.param(401, {"error": "unauthorized_client"}, "unauthorized_client", id="Keycloak"),
        pytest.param(400, UNKNOWN, "invalid_request", id="under another code"),
        pytest.param(422, {"message": "Client not found"}, "422", id="a framework's message"),
        pytest.param(404, None, "404", id="404"),
        pytest.param(404, {"error": "invalid_grant"}, "", id="404 for a code"),
        pytest.param(422, {"message": "code is too short"}, "", id="422 about something else"),
        pytest.param(400, {"error": "invalid_grant"}, "", id="another error"),
        pytest.param(
            400,
            {"error": "invalid_grant", "error_description": "issued to an unknown client"},
            "",
            id="a code of another client",
        ),
        pytest.param(400, {"error": "invalid_request"}, "", id="a request that is malformed"),
        pytest.param(200, {"error": "invalid_client"}, "", id="success"),
        pytest.param(500, {"error": "invalid_client"}, "", id="failure"),
        pytest.param(401, b"<html>invalid client</html>", "", id="a page"),
        pytest.param(401, ["invalid_client"], "", id="no object"),
    ],
)
def test_the_refusal_of_a_client_is_recognized(status: int, body: Any, said: str) -> None:
    """RFC 6749 section 5.2."""
    assert protocol.client_refusal(reply(status, body)) == said


@pytest.mark.parametrize("words", SAYINGS)
def test_a_description_of_an_unknown_client_counts_as_the_code(words: str) -> None:
    document = {"error": "invalid_request", "error_description": words}
    assert protocol.client_refusal(reply(400, document)) == "invalid_request"


def test_a_client_whose_code_is_refused_is_accepted() -> None:
    assert protocol.accepts_client(reply(400, {"error": "invalid_grant"}))
    assert not protocol.accepts_client(reply(401, {"error": "invalid_client"}))
    assert not protocol.accepts_client(reply(500, {"error": "invalid_grant"}))


@pytest.mark.parametrize(
    ("status", "location", "known"),
    [
        (302, f"{CALLBACK}?error=login_required&state=s", True),
        (303, f"{CALLBACK}?state=s&code=c", True),
        (302, f"{CALLBACK}?error=login_required", None),
        (302, f"{CALLBACK}?state=another", None),
        (302, "https://as.example/login?state=s", None),
        (302, "", None),
        (302, f"{CALLBACK}/other?state=s", None),
        (302, CALLBACK, None),
        (400, "", False),
        (404, "", False),
        (500, "", None),
        (200, "", None),
    ],
)
def test_a_client_whose_users_are_redirected_is_known(
    status: int, location: str, known: bool | None
) -> None:
    """RFC 6749 section 4.1.2.1."""
    answer = reply(status, b"", Location=location)
    assert protocol.knows_client(answer, CALLBACK, "s") is known


def test_a_redirect_uri_may_have_a_query() -> None:
    place = f"{CALLBACK}?tenant=7"
    answer = reply(302, b"", Location=f"{place}&error=login_required&state=s")
    assert protocol.knows_client(answer, place, "s")

"""The example's code flow (``example/grants.py``) at servers that are out for codes and tokens."""

from __future__ import annotations

from typing import Any

import pytest
import responses

from django_dcr.exceptions import DCRError, InvalidResponseError, NotAllowedError, UnsupportedError
from example_project.example import grants
from tests.factories import CALLBACK, make_registration, make_server, server_metadata

pytestmark = pytest.mark.django_db

HOST = "https://mcp.example"
RESOURCE = f"{HOST}/mcp"
EVIL = "https://as.example"
ENDPOINTS = {
    "authorization_endpoint": f"{EVIL}/authorize",
    "token_endpoint": f"{EVIL}/token",
    "code_challenge_methods_supported": ["S256"],
}


TOKEN = '{"access_token": "t1", "token_type": "bearer", "expires_in": %s}'


def begin(stubs: responses.RequestsMock, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Begin for a resource whose server says this of itself."""
    server = make_server(metadata=server_metadata(**{**ENDPOINTS, **changes}))
    make_registration(server=server)
    place = f"{HOST}/.well-known/oauth-protected-resource/mcp"
    stubs.get(place, json={"resource": RESOURCE, "authorization_servers": [server.issuer]})
    return grants.begin_for(RESOURCE, "Bearer", CALLBACK)


def finish(stubs: responses.RequestsMock, answer: str) -> grants.Token:
    _place, attempt = begin(stubs)
    stubs.post(ENDPOINTS["token_endpoint"], body=answer)
    return grants.finish(attempt, {"code": "c", "iss": attempt["issuer"]})


def test_a_user_is_sent_to_the_server_that_the_resource_names(
    mocked_responses: responses.RequestsMock,
) -> None:
    place, attempt = begin(mocked_responses)
    assert place.startswith(f"{ENDPOINTS['authorization_endpoint']}?")
    assert attempt["resource"] == RESOURCE


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        ("https://honest.example/authorize", NotAllowedError),
        ("javascript:alert(1)", InvalidResponseError),
        (None, UnsupportedError),
    ],
)
def test_no_user_is_sent_where_a_hostile_server_says(
    endpoint: str | None, error: type[DCRError], mocked_responses: responses.RequestsMock
) -> None:
    """Else it would get the code of an honest server to redeem (RFC 9700 section 4.4)."""
    with pytest.raises(error):
        begin(mocked_responses, authorization_endpoint=endpoint)


def test_no_credentials_are_sent_to_the_token_endpoint_of_another_server() -> None:
    metadata = server_metadata(**{**ENDPOINTS, "token_endpoint": "https://honest.example/token"})
    registration = make_registration(server=make_server(metadata=metadata))
    with pytest.raises(NotAllowedError):
        grants.client_credentials(registration, resource=RESOURCE, scope="")


@pytest.mark.parametrize("lifetime", ["1e999", "-1e999", "1e17", "-1", "NaN", "null", "0"])
def test_a_lifetime_that_no_clock_can_reach_counts_as_not_said(
    lifetime: str, mocked_responses: responses.RequestsMock
) -> None:
    token = finish(mocked_responses, TOKEN % lifetime)
    assert (token.access_token, token.expires_at) == ("t1", None)


@pytest.mark.parametrize(
    "answer", ["[" * 100_000, TOKEN % f"1{'0' * 400}", TOKEN % "[1]", "[]"], ids=range(4)
)
def test_what_is_no_token_response_is_told(
    answer: str, mocked_responses: responses.RequestsMock
) -> None:
    with pytest.raises(grants.GrantError, match="did not issue a token response"):
        finish(mocked_responses, answer)


def test_a_deep_answer_does_not_end_the_reading_of_an_error(
    mocked_responses: responses.RequestsMock,
) -> None:
    _place, attempt = begin(mocked_responses)
    mocked_responses.post(ENDPOINTS["token_endpoint"], body="[" * 100_000, status=500)
    with pytest.raises(grants.GrantError, match="status 500"):
        grants.finish(attempt, {"code": "c", "iss": attempt["issuer"]})

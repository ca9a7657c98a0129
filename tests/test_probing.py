"""``probe()`` and ``dcr_probe``: what a server lets on about a client."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses
from django.core.management import CommandError, call_command
from django.db import transaction

from django_dcr import services
from django_dcr.exceptions import ConflictError, NetworkError, UnsupportedError
from django_dcr.models import ClientRegistration
from tests.factories import CALLBACK, GRANTED, make_registration, make_server, server_metadata

pytestmark = pytest.mark.django_db

AUTHORIZE, TOKEN = "https://as.example/authorize", "https://as.example/token"
ENDPOINTS = {"authorization_endpoint": AUTHORIZE, "token_endpoint": TOKEN}
#: Answers of the token endpoint, and of the authorization endpoint.
CODE, CLIENT = (400, "invalid_grant"), (401, "invalid_client")
BACK, PAGE, ELSEWHERE = (302, CALLBACK), (400, ""), (302, "https://as.example/login")


def a_client(**values: Any) -> ClientRegistration:
    server = make_server(metadata=server_metadata(**ENDPOINTS))
    return make_registration(server=server, **values)


def serve(
    stubs: responses.RequestsMock,
    token: tuple[int, str],
    page: tuple[int, str] = BACK,
    unknown: tuple[int, str] = CLIENT,
) -> None:
    """Answer the client as ``token`` and ``page`` say, and one that does not exist otherwise."""

    def tokens(request: Any) -> tuple[int, dict[str, str], str]:
        is_control = "unknown-" in parse_qs(request.body.decode()).get("client_id", [""])[0]
        status, error = unknown if is_control else token
        return status, {}, json.dumps({"error": error})

    def authorize(request: Any) -> tuple[int, dict[str, str], str]:
        status, place = page
        [state] = parse_qs(urlsplit(request.url).query)["state"]
        return status, {"Location": f"{place}?error=login_required&state={state}"}, ""

    stubs.add_callback("POST", TOKEN, tokens)
    stubs.add_callback("GET", AUTHORIZE, authorize)


@pytest.mark.parametrize(
    ("token", "page", "unknown", "accepted", "known"),
    [
        pytest.param(CODE, BACK, CLIENT, True, True, id="accepted"),
        pytest.param(CODE, PAGE, CLIENT, True, True, id="another redirect URI"),
        pytest.param(CLIENT, BACK, CLIENT, False, True, id="another secret"),
        pytest.param(CLIENT, PAGE, CLIENT, False, False, id="unknown"),
        pytest.param(CLIENT, ELSEWHERE, CLIENT, False, None, id="a page for everyone"),
        pytest.param(CODE, BACK, CODE, None, True, id="token endpoint tells nothing"),
        pytest.param(CODE, PAGE, CODE, None, None, id="tells nothing, and refuses"),
        pytest.param((500, "x"), BACK, CLIENT, None, True, id="token endpoint fails"),
        pytest.param((400, "invalid_request"), ELSEWHERE, CLIENT, None, None, id="nothing at all"),
    ],
)
def test_two_responses_reveal_the_state_of_a_client(
    token: tuple[int, str],
    page: tuple[int, str],
    unknown: tuple[int, str],
    accepted: bool | None,
    known: bool | None,
    mocked_responses: responses.RequestsMock,
) -> None:
    serve(mocked_responses, token, page, unknown)
    row = a_client()
    before = ClientRegistration.objects.values().get()
    found = services.probe(row)
    assert (found.credentials_accepted, found.client_known) == (accepted, known)
    assert ClientRegistration.objects.values().get() == before


def test_the_requests_are_those_of_a_login_without_a_user(
    mocked_responses: responses.RequestsMock,
) -> None:
    serve(mocked_responses, CODE)
    server = make_server(
        metadata=server_metadata(**ENDPOINTS, code_challenge_methods_supported=["S256"])
    )
    granted = {**GRANTED, "scope": "openid email"}
    services.probe(make_registration(server=server, metadata=granted))
    first, control, page = (call.request for call in mocked_responses.calls)
    assert first.headers["Authorization"].startswith("Basic ")
    assert "Authorization" not in control.headers
    form = parse_qs(str(first.body, "utf-8"))
    assert (form["grant_type"], form["redirect_uri"]) == (["authorization_code"], [CALLBACK])
    question = parse_qs(urlsplit(str(page.url)).query)
    assert question["prompt"] == ["none"]
    assert question["client_id"] == ["c1"]
    assert question["scope"] == ["openid email"]
    assert question["code_challenge_method"] == ["S256"]


def test_an_authorization_endpoint_may_have_a_query_and_a_server_no_pkce(
    mocked_responses: responses.RequestsMock,
) -> None:
    serve(mocked_responses, CODE)
    changes = {
        "authorization_endpoint": f"{AUTHORIZE}?p=policy",
        "code_challenge_methods_supported": ["plain"],
    }
    server = make_server(metadata=server_metadata(**{**ENDPOINTS, **changes}))
    assert services.probe(make_registration(server=server)).client_known
    question = parse_qs(urlsplit(str(mocked_responses.calls[-1].request.url)).query)
    assert question["p"] == ["policy"]
    assert "code_challenge" not in question


@pytest.mark.parametrize(
    ("metadata", "granted", "text"),
    [
        ({}, {"redirect_uris": []}, "the client has no redirect URI"),
        ({"require_pushed_authorization_requests": True}, {}, "pushed authorization requests"),
        ({"authorization_endpoint": "https://evil.example/a"}, {}, "trusted_origins"),
    ],
    ids=["no redirect URI", "PAR", "another origin"],
)
def test_the_authorization_endpoint_is_not_requested_where_no_login_is_possible(
    metadata: dict[str, Any],
    granted: dict[str, Any],
    text: str,
    mocked_responses: responses.RequestsMock,
) -> None:
    mocked_responses.post(TOKEN, status=401, json={"error": "invalid_client"})
    server = make_server(metadata=server_metadata(**{**ENDPOINTS, **metadata}))
    found = services.probe(make_registration(server=server, metadata={**GRANTED, **granted}))
    assert (found.credentials_accepted, found.client_known) == (False, None)
    assert text in found.authorization_endpoint


def test_a_server_that_does_not_answer_is_an_error(
    mocked_responses: responses.RequestsMock,
) -> None:
    mocked_responses.post(TOKEN, status=401, json={"error": "invalid_client"})
    mocked_responses.get(AUTHORIZE, body=requests.ConnectionError())
    with pytest.raises(NetworkError):
        services.probe(a_client())


def test_a_probe_that_is_not_possible_sends_nothing() -> None:
    row = a_client()
    with transaction.atomic(), pytest.raises(ConflictError, match="inside a transaction"):
        services.probe(row)
    row.status = "revoked"
    with pytest.raises(ConflictError, match="is closed"):
        services.probe(row)
    row.status, row.client_secret = "active", None
    with pytest.raises(UnsupportedError, match="needs a client secret"):
        services.probe(row)


def test_a_client_that_is_gone_may_still_be_accepted(
    mocked_responses: responses.RequestsMock,
) -> None:
    """Its registration access token was refused, which says nothing of the client."""
    serve(mocked_responses, CODE)
    assert services.probe(a_client(status="gone", live=None)).credentials_accepted


@pytest.mark.parametrize(
    ("values", "token", "page", "text"),
    [
        ({}, CLIENT, PAGE, r"no longer knows this client.*manage.py dcr_replace {pk}$"),
        (
            {"mechanism": "pre_registered"},
            CLIENT,
            PAGE,
            r"no longer knows this client.*register another client in the server's console",
        ),
        ({}, CLIENT, BACK, r"knows this client and refuses its credentials\. .*dcr_renew {pk}"),
        ({}, CLIENT, ELSEWHERE, r"The server refuses its credentials\. .*dcr_renew {pk}"),
    ],
    ids=["unknown", "of a console", "another secret", "refused"],
)
def test_the_command_fails_for_a_client_that_is_refused_and_says_what_to_do(
    values: dict[str, Any],
    token: tuple[int, str],
    page: tuple[int, str],
    text: str,
    mocked_responses: responses.RequestsMock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(mocked_responses, token, page)
    row = a_client(**values)
    with pytest.raises(CommandError, match=text.format(pk=row.pk)):
        call_command("dcr_probe", "--all")
    assert "s1" not in capsys.readouterr().out


def test_the_command_is_content_with_a_client_that_is_accepted(
    mocked_responses: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(mocked_responses, CODE)
    row = a_client()
    call_command("dcr_probe", str(row.pk))
    assert capsys.readouterr().err == "1 of 1 not refused.\n"


def test_the_command_says_where_nothing_is_to_be_found_out(
    mocked_responses: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(mocked_responses, CODE, unknown=CODE)
    call_command("dcr_probe", str(a_client().pk))
    err = capsys.readouterr().err
    assert "nothing can be said of the client" in err
    assert "answers in the same way to clients that do not exist" in err

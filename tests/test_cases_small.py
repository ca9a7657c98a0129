"""Cases from the field: small things that stood in somebody's way."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
import responses
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from django_dcr.exceptions import ConflictError, NotAllowedError
from django_dcr.models import ClientRegistration
from django_dcr.protocol import (
    check_client_metadata,
    client_information,
    differences,
    registration_request,
)
from django_dcr.services import read, register
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    ISSUER,
    WISHES,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
)
from tests.factories import (
    client_information as answer,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command(*arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


# --- members that only sound like secrets ------------------------------------------------------


@database
@pytest.mark.parametrize(
    "name",
    [
        "dpop_bound_access_tokens",
        "tls_client_certificate_bound_access_tokens",
        "backchannel_token_delivery_mode",
        "authorization_signed_response_alg",
    ],
)
def test_a_member_that_only_sounds_like_a_secret_may_be_set(
    name: str, mocked_responses: Stubs
) -> None:
    make_server()
    mocked_responses.post(ENDPOINT, status=201, json=answer())
    run("dcr_register", ISSUER, "--set", f"redirect_uris={CALLBACK}", "--set", f"{name}=true")
    assert ClientRegistration.objects.get().requested_metadata[name] is True


@database
@pytest.mark.parametrize(
    "name",
    [
        "client_secret",
        "client_secret#de",
        "access_token",
        "initialAccessToken",
        "registration_access_token",
        "private_key",
        "api-key",
        "password",
        "token",
    ],
)
def test_a_secret_is_not_taken_on_the_command_line(name: str) -> None:
    with pytest.raises(CommandError, match="secrets are not taken on the command line") as caught:
        run("dcr_register", ISSUER, "--set", f"{name}=hunter2")
    assert "hunter2" not in str(caught.value)


# --- a software statement alone ----------------------------------------------------------------


def statement(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


ALONE = statement(
    iss="https://directory.example",
    redirect_uris=[CALLBACK],
    token_endpoint_auth_method="client_secret_post",
    software_client_description="x",
)


@database
def test_a_software_statement_alone_is_enough(mocked_responses: Stubs) -> None:
    """RFC 7591 section 2.3: what it claims is as good as stated, and so is the method."""
    issued = answer(token_endpoint_auth_method="client_secret_post", software_statement=ALONE)
    mocked_responses.post(ENDPOINT, status=201, json=issued)
    row = register(make_draft(requested_metadata={"software_statement": ALONE}))
    assert json.loads(mocked_responses.calls[0].request.body) == {"software_statement": ALONE}
    assert (row.status, row.drift, row.deviations) == ("active", {}, [])
    assert row.client_authentication()[1]["client_secret"] == "s1"


def test_what_an_answer_leaves_out_is_as_the_statement_claims() -> None:
    information = client_information(
        {"client_id": "c1", "client_secret": "s1"}, requested={"software_statement": ALONE}
    )
    assert information.metadata == {
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "client_secret_post",
    }


def test_what_a_statement_claims_and_came_otherwise_is_drift() -> None:
    drift = differences({"software_statement": ALONE}, {"redirect_uris": ["https://b.example"]})
    assert drift["redirect_uris"] == {"asked": [CALLBACK], "granted": ["https://b.example"]}


def test_a_statement_without_redirect_uris_needs_some() -> None:
    with pytest.raises(NotAllowedError, match="needs redirect_uris"):
        check_client_metadata({"software_statement": statement(iss="a")})


def test_nobody_but_its_server_knows_what_an_unreadable_statement_claims() -> None:
    check_client_metadata({"software_statement": "opaque"})


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"grant_types": ["implicit"]}, "add token or id_token to response_types"),
        ({"redirect_uris": ["https://a.example/#b"]}, "has a fragment"),
        ({"redirect_uris": ["https://[", CALLBACK], "subject_type": "pairwise"}, "in full"),
    ],
)
def test_the_claims_of_a_statement_are_checked_as_if_they_were_stated(
    claims: dict[str, Any], fault: str
) -> None:
    document = {"software_statement": statement(**{"redirect_uris": [CALLBACK], **claims})}
    with pytest.raises(NotAllowedError, match=fault):
        check_client_metadata(document)


BASIC = {"token_endpoint_auth_method": "client_secret_basic"}
NATIVE = {"application_type": "native"}


@pytest.mark.parametrize(
    ("claims", "stated"),
    [
        ({}, {**BASIC, **NATIVE}),
        (NATIVE, BASIC),
        ({"token_endpoint_auth_method": "none", **NATIVE}, {}),
    ],
    ids=["nothing", "kind", "kind and method"],
)
def test_what_a_statement_claims_is_not_stated_again(
    claims: dict[str, Any], stated: dict[str, Any]
) -> None:
    claims = {"redirect_uris": ["http://127.0.0.1/callback"], **claims}
    wishes = {"software_statement": statement(**claims)}
    assert registration_request(wishes, {}) == {**wishes, **stated}


# --- drift -------------------------------------------------------------------------------------

GRANTED_BESIDES = {
    "client_id_expires_at": 0,
    "default_max_age": 0,
    "id_token_signed_response_alg": "ES256",
    "require_pushed_authorization_requests": True,
    "scope": "openid profile",
}


@database
def test_what_nobody_asked_for_is_granted_and_no_drift(mocked_responses: Stubs) -> None:
    mocked_responses.post(ENDPOINT, status=201, json=answer(**GRANTED_BESIDES))
    row = register(make_draft())
    assert (row.drift, row.has_drift) == ({}, False)
    assert row.metadata.items() >= GRANTED_BESIDES.items()


@database
@pytest.mark.parametrize(
    ("name", "asked", "granted"),
    [
        ("scope", "openid email", "openid"),
        ("id_token_signed_response_alg", "RS256", "ES256"),
        ("client_name#de", "Laden", None),
    ],
)
def test_what_was_asked_and_came_otherwise_is_drift(
    name: str, asked: str, granted: str | None
) -> None:
    metadata = {**WISHES, "token_endpoint_auth_method": "client_secret_basic", name: granted}
    row = make_registration(requested_metadata={**WISHES, name: asked}, metadata=metadata)
    assert row.drift == {name: {"asked": asked, "granted": granted}}


LOGOUT = {
    "post_logout_redirect_uris": (["https://site.example/bye"], "end_session_endpoint"),
    "backchannel_logout_uri": ("https://site.example/logout", "backchannel_logout_supported"),
    "frontchannel_logout_uri": ("https://site.example/logout", "frontchannel_logout_supported"),
}


@database
@pytest.mark.parametrize(("name", "value", "needs"), [(k, *v) for k, v in LOGOUT.items()])
def test_what_a_server_was_not_sent_does_not_look_like_a_refusal(
    name: str, value: object, needs: str, mocked_responses: Stubs
) -> None:
    mocked_responses.post(ENDPOINT, status=201, json=answer())
    row = register(make_draft(requested_metadata={**WISHES, name: value}))
    assert name not in json.loads(mocked_responses.calls[0].request.body)
    assert row.drift == {}
    row.server.metadata = server_metadata(**{needs: "https://as.example/logout"})
    assert row.drift == {name: {"asked": value, "granted": None}}


# --- a list that is not known ------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_list_that_fails_before_its_first_row_prints_no_document() -> None:
    table = ClientRegistration._meta.db_table
    output = io.StringIO()
    with connection.schema_editor() as editor:
        editor.alter_db_table(ClientRegistration, table, f"{table}_away")
    try:
        with pytest.raises(CommandError, match="The database refused"):
            call_command("dcr_list", format="json", stdout=output)
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(ClientRegistration, f"{table}_away", table)
    assert output.getvalue() == ""


@database
def test_an_empty_list_is_a_document() -> None:
    assert json.loads(run("dcr_list", "--format", "json")) == []


# --- what the admin offers ---------------------------------------------------------------------


@pytest.fixture
def staff() -> Client:
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


def replaced() -> ClientRegistration:
    """A registration whose client was renewed by a successor, and not deleted yet."""
    row = make_registration(status="revoking", live=None)
    make_registration(server=row.server, client_id="c2")
    return row


@database
def test_what_was_replaced_is_not_offered_to_be_read_again(staff: Client) -> None:
    row = replaced()
    page = staff.get(f"/admin/django_dcr/clientregistration/{row.pk}/change/")
    assert page.status_code == 200
    assert "Read from the server" not in page.content.decode()
    with pytest.raises(ConflictError):
        read(row)


@database
def test_what_is_being_revoked_and_was_not_replaced_may_be_read(staff: Client) -> None:
    row = make_registration(status="revoking")
    page = staff.get(f"/admin/django_dcr/clientregistration/{row.pk}/change/")
    assert "Read from the server" in page.content.decode()


@database
def test_a_servers_page_names_the_origins_that_have_to_be_trusted(staff: Client) -> None:
    metadata = server_metadata(token_endpoint="https://t.example/token")
    server = make_server(metadata=metadata)
    url = f"/admin/django_dcr/authorizationserver/{server.pk}/change/"
    assert "are on other origins" in staff.get(url).content.decode()
    server.trusted_origins = ["https://t.example"]
    server.save()
    assert "are on other origins" not in staff.get(url).content.decode()

"""Where a server's metadata is, whose client it has, and how operators edit its row."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import responses
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_dcr import services
from django_dcr.admin import AuthorizationServerAdmin
from django_dcr.exceptions import InvalidResponseError, UnsupportedError
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import (
    ENDPOINT,
    ISSUER,
    WELL_KNOWN,
    WISHES,
    client_information,
    make_registration,
    make_server,
    server_metadata,
)

pytestmark = pytest.mark.django_db

ELSEWHERE = "https://cdn.example/platform.json"


def test_metadata_is_read_where_the_row_says(mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.get(ELSEWHERE, json=server_metadata())
    server = make_server(discovery_url=ELSEWHERE, fresh_until=None, metadata={})
    assert services.discover(server).metadata_url == ELSEWHERE
    assert services.discover(server).metadata == server_metadata()  # without another request


def test_metadata_of_another_place_is_not_fresh(mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.get(ELSEWHERE, json=server_metadata(name="new"))
    server = make_server()
    assert server.is_fresh
    server.discovery_url = ELSEWHERE
    server.save()
    assert not server.is_fresh
    assert services.discover(server).metadata["name"] == "new"


def test_metadata_elsewhere_is_still_the_issuers_own(
    mocked_responses: responses.RequestsMock,
) -> None:
    mocked_responses.get(ELSEWHERE, json=server_metadata(issuer="https://evil.example"))
    server = make_server(discovery_url=ELSEWHERE, fresh_until=None)
    with pytest.raises(InvalidResponseError, match="another issuer"):
        services.discover(server)


def test_no_other_place_is_asked(mocked_responses: responses.RequestsMock) -> None:
    mocked_responses.get(ELSEWHERE, status=404)
    server = make_server(discovery_url=ELSEWHERE, fresh_until=None, metadata={})
    with pytest.raises(UnsupportedError, match=ELSEWHERE):
        services.discover(server)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"discovery_url": "http://as.example/x"}, "discovery_url"),
        ({"discovery_url": "nowhere"}, "discovery_url"),
        ({"mechanisms": ["pre_registered"]}, "mechanisms"),
        ({"mechanisms": "dynamic"}, "mechanisms"),
    ],
)
def test_a_row_that_would_not_work_is_not_saved(values: dict[str, Any], field: str) -> None:
    server = AuthorizationServer(issuer=ISSUER, **values)
    with pytest.raises(ValidationError) as caught:
        server.clean()
    assert [*caught.value.message_dict] == [field]


def test_an_internal_discovery_url_may_be_http(settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://as.internal"]
    AuthorizationServer(
        issuer=ISSUER, discovery_url="http://as.internal/x", mechanisms=["dynamic"]
    ).clean()


def test_metadata_that_a_person_entered_is_used_and_never_refreshed() -> None:
    server = make_server(metadata={}, fresh_until=None)
    server.enter_metadata(server_metadata())
    assert services.discover(server, refresh=True).metadata == server_metadata()
    assert server.is_fresh
    page = AuthorizationServerAdmin(AuthorizationServer, site)
    assert page.freshness(server) == "Entered by hand; never fetched from the server."
    with pytest.raises(InvalidResponseError):
        server.enter_metadata(server_metadata(issuer="https://other.example"))


def test_metadata_by_hand_that_is_missing_is_told() -> None:
    server = make_server(metadata={}, metadata_by_hand=True)
    with pytest.raises(UnsupportedError, match="dcr_server"):
        services.discover(server)


# -- a client for every owner --------------------------------------------------------------------


def test_the_sites_client_serves_every_owner_where_the_row_says_so() -> None:
    site = make_registration(server=make_server(shared=True))
    own = make_registration(server=site.server, owner="own", client_id="c2")
    assert services.get_or_register(ISSUER, "acme").pk == site.pk
    assert services.get_or_register(ISSUER, "own").pk == own.pk
    assert services.get_or_register(ISSUER).pk == site.pk


def test_a_shared_client_is_one_query_away() -> None:
    make_registration(server=make_server(shared=True))
    with CaptureQueriesContext(connection) as queries:
        services.get_or_register(ISSUER, "acme")
    assert len(queries) == 1


def test_the_sites_client_is_its_own_by_default(mocked_responses: responses.RequestsMock) -> None:
    make_registration(server=make_server())
    mocked_responses.post(ENDPOINT, json=client_information(client_id="c2"), status=201)
    assert services.get_or_register(ISSUER, "acme", metadata=WISHES).owner == "acme"


def test_the_first_owner_registers_the_shared_client(
    mocked_responses: responses.RequestsMock,
) -> None:
    make_server(shared=True)
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    first = services.get_or_register(ISSUER, "acme", metadata=WISHES)
    assert (first.owner, first.status) == ("", "active")
    assert services.get_or_register(ISSUER, "other").pk == first.pk


def test_an_owner_changes_nothing_for_the_others() -> None:
    site = make_registration(server=make_server(shared=True))
    other = {**WISHES, "client_name": "Acme"}
    found = services.get_or_register(ISSUER, "acme", metadata=other)
    assert (found.pk, found.requested_metadata) == (site.pk, WISHES)


def test_a_shared_draft_keeps_its_own_wishes(mocked_responses: responses.RequestsMock) -> None:
    make_registration(server=make_server(shared=True), status="draft", client_id="")
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    found = services.get_or_register(ISSUER, "acme", metadata={**WISHES, "client_name": "Acme"})
    assert found.requested_metadata == WISHES


def test_a_login_with_a_shared_client_ends_where_it_began() -> None:
    endpoints = {"authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t"}
    site = make_registration(server=make_server(shared=True, metadata=server_metadata(**endpoints)))
    attempt = services.login_attempt(services.for_login(ISSUER, "acme"))
    returned = services.resume_login(attempt)
    assert returned.pk == site.pk
    services.check_login(returned, attempt, None)


# -- dcr_server ----------------------------------------------------------------------------------


def run(*arguments: object) -> None:
    call_command("dcr_server", *map(str, arguments))


def test_a_row_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    make_server(name="Acme", initial_access_token="hidden")
    run(ISSUER, "--format", "json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["issuer"], shown["name"], shown["enabled"]) == (ISSUER, "Acme", True)
    assert (shown["metadata_url"], shown["has_initial_access_token"]) == (WELL_KNOWN, True)
    assert "hidden" not in str(shown)


def test_a_row_is_edited() -> None:
    run(
        ISSUER,
        *("--set", "enabled=false", "--set", "requests_per_minute=60"),
        *("--set", 'mechanisms=["dynamic"]', "--set", f"discovery_url={ELSEWHERE}"),
        *("--set", "shared=true"),
    )
    row = AuthorizationServer.objects.get()
    assert (row.enabled, row.requests_per_minute, row.shared) == (False, 60, True)
    assert (row.mechanisms, row.discovery_url) == (["dynamic"], ELSEWHERE)
    run(ISSUER, "--set", "enabled=", "--set", "mechanisms=", "--set", "requests_per_minute=")
    row.refresh_from_db()
    assert (row.enabled, row.mechanisms, row.requests_per_minute) == (True, [], None)


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t1\n")
    run(ISSUER, "--initial-access-token-file", file)
    assert AuthorizationServer.objects.get().initial_access_token.reveal() == "t1"


def test_metadata_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(json.dumps(server_metadata()).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    run(ISSUER, "--metadata", "-")
    row = AuthorizationServer.objects.get()
    assert (row.metadata_by_hand, row.metadata) == (True, server_metadata())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([ISSUER], "dcr_discover"),
        (["nothing"], "is not an absolute"),
        ([ISSUER, "--set", "initial_access_token=x"], "not a column"),
        ([ISSUER, "--initial-access-token", "x"], "command line"),
        ([ISSUER, "--set", "enabled"], "NAME=VALUE"),
        ([ISSUER, "--set", "enabled=maybe"], "takes JSON"),
        ([ISSUER, "--set", "enabled=7"], "Nothing was changed.\nenabled"),
        ([ISSUER, "--set", "requests_per_minute=0"], "requests_per_minute"),
        ([ISSUER, "--set", "discovery_url=ftp://a"], "discovery_url"),
        ([ISSUER, "--metadata", "-", "--initial-access-token-file", "-"], "Only one"),
    ],
)
def test_what_a_row_cannot_be_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)


# -- the admin -----------------------------------------------------------------------------------


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    return client


def form(**values: Any) -> dict[str, Any]:
    blank = {"name": "", "client_metadata": "{}", "trusted_origins": "[]", "mechanisms": "[]"}
    return {"issuer": ISSUER, "enabled": "on", "initial_access_token": "", **blank, **values}


def test_metadata_is_entered_on_the_page(staff: Client) -> None:
    document = json.dumps(server_metadata())
    path = "/admin/django_dcr/authorizationserver/add/"
    values = form(metadata_by_hand="on", entered_metadata=document)
    assert staff.post(path, values).status_code == 302
    row = AuthorizationServer.objects.get()
    assert (row.metadata, row.metadata_by_hand) == (server_metadata(), True)
    page = staff.get(f"/admin/django_dcr/authorizationserver/{row.pk}/change/").text
    assert "Entered by hand" in page
    assert "registration_endpoint" in page


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"entered_metadata": json.dumps(server_metadata())}, "Check this to use the document"),
        (
            {"metadata_by_hand": "on", "entered_metadata": '{"issuer": "https://b.example"}'},
            "another issuer",
        ),
    ],
)
def test_metadata_that_cannot_be_meant_is_refused(
    staff: Client, values: dict[str, str], message: str
) -> None:
    answer = staff.post("/admin/django_dcr/authorizationserver/add/", form(**values))
    assert message in answer.text
    assert not ClientRegistration.objects.exists()

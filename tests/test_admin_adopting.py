"""The admin's form for a client of a server's console, and what pages show of each mechanism."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import responses
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_dcr import services
from django_dcr.admin import AuthorizationServerAdmin, ClientRegistrationAdmin
from django_dcr.admin.events import EventInline
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import (
    CALLBACK,
    ISSUER,
    URI,
    WISHES,
    client_information,
    events_of,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
)

pytestmark = pytest.mark.django_db

PATH = "/admin/django_dcr/clientregistration/adopt/"
LIST = "/admin/django_dcr/clientregistration/"


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    return client


def form(**values: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, "client_id": "c1", "client_secret": " pasted ", **values}


def test_a_client_of_a_console_is_entered(staff: Client) -> None:
    values = form(
        owner="acme",
        client_secret_expires_at="2100-01-01 00:00",
        token_endpoint_auth_method="client_secret_post",
        redirect_uris=f"{CALLBACK}\n",
        scope="openid",
    )
    answer = staff.post(PATH, values, follow=True)
    row = ClientRegistration.objects.get()
    assert "used from now on" in answer.text
    assert (row.owner, row.client_id, row.client_secret.reveal()) == ("acme", "c1", "pasted")
    assert row.client_secret_expires_at == 4_102_466_400  # in the site's own zone
    assert row.requested_metadata == {
        "token_endpoint_auth_method": "client_secret_post",
        "redirect_uris": [CALLBACK],
        "scope": "openid",
    }
    assert events_of(row)[0].actor == "staff"
    assert LogEntry.objects.get().get_change_message() == "Adopt: done."
    assert "pre-registered: A person registered this client" in answer.text
    assert "pasted" not in answer.text


def test_a_client_with_management_credentials_is_read(
    staff: Client, mocked_responses: responses.RequestsMock
) -> None:
    mocked_responses.get(URI, json=client_information(client_name="Console"))
    staff.post(PATH, form(registration_client_uri=URI, registration_access_token="t1"))
    assert ClientRegistration.objects.get().metadata["client_name"] == "Console"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"client_secret": "********"}, "The client_secret is masked"),
        ({"client_id": ""}, "This field is required"),
        ({"issuer": "http://as.example"}, "is not https"),
        ({"client_secret_expires_at": "soon"}, "Enter a valid date"),
    ],
)
def test_a_form_that_cannot_be_stored_shows_the_reason_and_no_secret(
    staff: Client, values: dict[str, str], message: str
) -> None:
    answer = staff.post(PATH, form(**{"client_secret": "very-secret", **values}))
    assert answer.status_code == 200
    assert message in answer.text
    assert "very-secret" not in answer.text
    assert not ClientRegistration.objects.exists()


def test_an_owner_who_has_a_client_gets_another_where_the_form_says_so(staff: Client) -> None:
    services.adopt(ISSUER, client_id="c1", client_secret="s1")
    assert "--replace" in staff.post(PATH, form(client_secret="s2")).text
    staff.post(PATH, form(client_secret="s2", replace="on"))
    assert services.get_or_register(ISSUER).client_secret.reveal() == "s2"


def test_the_form_is_reached_from_the_list_and_from_a_server(staff: Client) -> None:
    assert PATH in staff.get(LIST).text
    server = make_server()
    page = staff.get(f"/admin/django_dcr/authorizationserver/{server.pk}/change/").text
    assert f"{PATH}?server={server.pk}" in page
    assert f'value="{ISSUER}"' in staff.get(f"{PATH}?server={server.pk}").text
    assert "value=" not in re.findall(r'<input[^>]*name="issuer"[^>]*>', staff.get(PATH).text)[0]


@pytest.mark.parametrize("names", [["add"], ["register", "view"]])
def test_users_who_may_not_register_cannot_adopt(names: list[str]) -> None:
    user = User.objects.create_user("clerk", is_staff=True)
    codenames = [f"{name}_clientregistration" for name in [*names, "view"]]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    assert client.get(PATH).status_code == 403
    assert client.post(PATH, form()).status_code == 403
    assert PATH not in client.get(LIST).text
    assert not ClientRegistration.objects.exists()


def site(request: Any) -> tuple[int, dict[str, str], bytes]:
    answer = Client().get(urlsplit(request.url).path)
    return answer.status_code, dict(answer.headers), answer.content


def test_the_page_of_a_document_shows_it(
    staff: Client, settings: Any, mocked_responses: responses.RequestsMock
) -> None:
    settings.DCR_BASE_URL = "https://shop.example"
    make_server(metadata=server_metadata(client_id_metadata_document_supported=True))
    mocked_responses.add_callback("GET", re.compile("https://shop.example/.+"), callback=site)
    row = services.get_or_register(ISSUER, metadata=WISHES)
    page = staff.get(f"{LIST}{row.pk}/change/").text
    assert "The document is published." in page
    assert "&quot;client_id&quot;: &quot;https://shop.example/oauth/clients/" in page
    assert "field-access_token" not in page
    assert 'value="read"' not in page
    answer = staff.post(
        LIST, {"action": "revoke", "_selected_action": row.pk, "_confirmed": "1"}, follow=True
    )
    assert "The document is taken down." in answer.text


def test_a_document_that_is_not_published_shows_nothing() -> None:
    row = ClientRegistration(mechanism="metadata_document")
    assert ClientRegistrationAdmin(ClientRegistration, admin.site).document(row) == "-"


def test_the_history_says_why_a_mechanism_was_passed_over(
    settings: Any, mocked_responses: responses.RequestsMock
) -> None:
    settings.DCR_BASE_URL = "https://localhost"
    server = make_server()
    endpoint = server.metadata["registration_endpoint"]
    mocked_responses.post(endpoint, json=client_information(), status=201)
    row = services.get_or_register(ISSUER, metadata=WISHES)
    history = EventInline(ClientRegistration, admin.site)
    assert "only this network knows" in history.result(row.events.latest("pk"))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"registration_endpoint": None}, "offers no registration"),
        ({"client_id_metadata_document_supported": True}, "sites serve. Yes, apparently without"),
        (
            {"client_id_metadata_document_supported": True, "registration_endpoint": None},
            "that sites serve.",
        ),
    ],
)
def test_a_servers_page_says_how_clients_come_about(
    metadata: dict[str, Any], words: str, staff: Client
) -> None:
    document = {k: v for k, v in server_metadata(**metadata).items() if v is not None}
    server = make_server(metadata=document)
    assert words in AuthorizationServerAdmin(AuthorizationServer, admin.site).registration(server)
    page = staff.get("/admin/django_dcr/authorizationserver/").text
    assert ("icon-yes" in page.partition("field-registers")[2]) is (
        "offers no registration" not in words
    )
    assert AuthorizationServer.objects.count() == 1


def test_a_registration_moves_by_the_page(
    staff: Client, mocked_responses: responses.RequestsMock
) -> None:
    row = make_registration()
    mocked_responses.delete(URI, status=204)
    new = client_information(client_id="c2", registration_client_uri=f"{URI}2")
    endpoint = row.server.metadata["registration_endpoint"]
    mocked_responses.post(endpoint, json=new, status=201)
    values = {"action": "replace", "_selected_action": row.pk, "_from_page": "1"}
    assert "takes the place of the client c1" in staff.post(LIST, values).text
    answer = staff.post(LIST, {**values, "_confirmed": "1"}, follow=True)
    assert "A new client took its place." in answer.text


def test_saving_other_metadata_advises_no_button_that_is_missing(staff: Client) -> None:
    row = services.adopt(ISSUER, client_id="c1")
    path = f"{LIST}{row.pk}/change/"
    values = {"requested_metadata": "{}", "client_name": "New", "redirect_uris": "", "scope": ""}
    answer = staff.post(path, {**values, "token_endpoint_auth_method": ""}, follow=True)
    row.refresh_from_db()
    assert (row.requested_metadata, row.has_drift) == ({"client_name": "New"}, True)
    assert "Nothing was sent to the server yet" not in answer.text
    assert "change the client in the server&#x27;s console" in staff.get(path).text


def test_the_button_registers_by_the_first_mechanism_that_is_possible(
    staff: Client, settings: Any, mocked_responses: responses.RequestsMock
) -> None:
    settings.DCR_BASE_URL = "https://shop.example"
    server = make_server(metadata=server_metadata(client_id_metadata_document_supported=True))
    row = make_draft(server=server)
    mocked_responses.add_callback("GET", re.compile("https://shop.example/.+"), callback=site)
    values = {"action": "register", "_selected_action": row.pk, "_from_page": "1"}
    answer = staff.post(LIST, values, follow=True)
    row.refresh_from_db()
    assert (row.mechanism, row.status) == ("metadata_document", "active")
    assert "The document is published." in answer.text

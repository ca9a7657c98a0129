"""The form of a registration: common metadata in fields, the rest as JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import (
    CALLBACK,
    GRANTED,
    WISHES,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)
from tests.test_admin import REGISTRATIONS, browser, cells, change_page, notices, page, staff

if TYPE_CHECKING:
    from pytest_django import Settings

__all__ = ["staff"]  # a fixture

pytestmark = pytest.mark.django_db

ADD = f"{REGISTRATIONS}add/"
CHOICES = {
    "grant_types_supported": ["authorization_code", "password", "urn:x:own"],
    "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
    "scopes_supported": ["read", "write"],
}


def add(client: Client, server: AuthorizationServer, **fields: Any) -> Any:
    return client.post(ADD, {"server": server.pk, "owner": "", "requested_metadata": "", **fields})


def grants(text: str) -> list[str]:
    """The grant types that a page offers."""
    return re.findall('name="grant_types" value="(.*?)"', text)


def methods(text: str) -> list[str]:
    """The ways of client authentication that a page offers."""
    select = text.split('<select name="token_endpoint_auth_method"')[1].split("</select>")[0]
    return re.findall('<option value="(.*?)"', select)


def test_the_fields_become_members(staff: Client) -> None:
    server = make_server(metadata=server_metadata(**CHOICES))
    fields = {
        "client_name": "Shop",
        "redirect_uris": f" {CALLBACK}\r\n\r\nhttps://site.example/two ",
        "scope": "read write",
        "grant_types": ["authorization_code"],
        "token_endpoint_auth_method": "client_secret_post",
        "requested_metadata": '{"client_name#ja": "店", "logo_uri": null}',
    }
    add(staff, server, **fields)
    row = ClientRegistration.objects.get()
    assert row.requested_metadata == {
        "client_name": "Shop",
        "redirect_uris": [CALLBACK, "https://site.example/two"],
        "scope": "read write",
        "grant_types": ["authorization_code"],
        "token_endpoint_auth_method": "client_secret_post",
        "client_name#ja": "店",
        "logo_uri": None,
    }
    text = change_page(staff, row)
    assert f"{CALLBACK}\nhttps://site.example/two</textarea>" in text
    assert 'value="authorization_code" id="id_grant_types_0" checked' in text
    response = staff.post(f"{REGISTRATIONS}{row.pk}/change/", fields)
    assert len(notices(response)) == 1  # nothing was changed
    assert stored(row).requested_metadata == row.requested_metadata


def test_what_is_left_blank_is_not_requested(staff: Client) -> None:
    row = make_draft(requested_metadata={**WISHES, "scope": "read", "grant_types": []})
    staff.post(f"{REGISTRATIONS}{row.pk}/change/", {"redirect_uris": CALLBACK})
    assert stored(row).requested_metadata == {"redirect_uris": [CALLBACK]}


def test_the_choices_are_those_of_the_server(staff: Client) -> None:
    server = make_server(metadata=server_metadata(**CHOICES))
    text = page(staff, f"{ADD}?server={server.pk}")
    assert grants(text) == ["authorization_code", "urn:x:own"]
    assert methods(text) == ["", "client_secret_post", "none"]
    assert "The server offers: read write." in cells(text)
    wrong = add(staff, server, redirect_uris=CALLBACK, token_endpoint_auth_method="private_key_jwt")
    assert "Select a valid choice." in cells(wrong.content.decode())
    assert not ClientRegistration.objects.exists()


@pytest.mark.parametrize("query", ["", "?server=77"])
def test_without_a_server_the_usual_choices_are_offered(staff: Client, query: str) -> None:
    text = page(staff, f"{ADD}{query}")
    assert grants(text) == [
        "authorization_code",
        "refresh_token",
        "client_credentials",
    ]
    assert methods(text)[:2] == ["", "client_secret_basic"]


def test_what_was_requested_stays_a_choice_whatever_the_server_offers(staff: Client) -> None:
    wishes = {**WISHES, "grant_types": ["old"], "token_endpoint_auth_method": "tls_client_auth"}
    server = make_server(metadata=server_metadata(**CHOICES))
    text = change_page(staff, make_draft(server=server, requested_metadata=wishes))
    assert grants(text)[-1] == "old"
    assert methods(text)[-1] == "tls_client_auth"


def test_the_form_shows_the_defaults(staff: Client, settings: Settings) -> None:
    settings.DCR_CLIENT_METADATA = {"client_name": "Site of {owner}", "redirect_uris": [CALLBACK]}
    shown = cells(page(staff, ADD))
    assert f"One per line, such as https://shop.example/callback. Default: {CALLBACK}." in shown
    assert "Default: Site of" in shown


def test_malformed_defaults_break_no_page(staff: Client, settings: Settings) -> None:
    server = make_server(client_metadata=["no object"])
    assert page(staff, f"{ADD}?server={server.pk}")


def test_values_that_no_field_can_show_stay_in_the_json(staff: Client) -> None:
    odd = {"client_name": None, "redirect_uris": CALLBACK, "scope": "", "grant_types": [1]}
    text = change_page(staff, make_draft(requested_metadata=odd))
    shown = cells(text.split('id="id_requested_metadata"')[1].split("</textarea>")[0])
    assert json.loads(shown.split("> ")[-1]) == odd


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"client_name": "A", "requested_metadata": '{"client_name": "B"}'}, "not in both"),
        ({"redirect_uris": "http://site.example/"}, "https"),
        ({"scope": "a  b"}, "single spaces"),
        ({"grant_types": ["implicit"]}, "Select a valid choice."),
        ({"requested_metadata": "{"}, "Enter a valid JSON."),
        ({"requested_metadata": "[1]"}, "one JSON object"),
    ],
    ids=["twice", "redirect", "scope", "grant", "not JSON", "no object"],
)
def test_an_error_is_shown_with_what_was_typed(
    staff: Client, fields: dict[str, Any], error: str
) -> None:
    fields = {"redirect_uris": CALLBACK, "client_name": "Typed", **fields}
    response = add(staff, make_server(), **fields)
    text = response.content.decode()
    assert error in cells(text)
    assert f'value="{fields["client_name"]}"' in text
    assert not ClientRegistration.objects.exists()


def test_editing_updates_the_drift(staff: Client) -> None:
    row = make_registration()
    change = f"{REGISTRATIONS}{row.pk}/change/"
    staff.post(change, {"client_name": "Other", "redirect_uris": CALLBACK})
    assert stored(row).has_drift
    staff.post(change, {"client_name": GRANTED["client_name"], "redirect_uris": CALLBACK})
    assert not stored(row).has_drift


def test_users_with_view_permission_only_see_what_is_requested() -> None:
    row = make_draft()
    text = change_page(browser(["view"]), row)
    assert "<textarea" not in text
    assert CALLBACK in text

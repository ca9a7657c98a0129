"""Markup that a server, an owner or a row says is text on every page of the admin."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.test import Client

from django_dcr.admin.columns import compare
from django_dcr.models import AuthorizationServer, ClientRegistration, Status
from tests.factories import CALLBACK, make_registration, make_server, server_metadata

pytestmark = pytest.mark.django_db

#: An element, an attribute that runs, and an end to every kind of quotation.
MARKUP = """<x-markup onload=alert(1)>"'`</textarea></script><script>alert(1)</script>&lt;"""
SERVERS = "/admin/django_dcr/authorizationserver/"
REGISTRATIONS = "/admin/django_dcr/clientregistration/"


class Elements(HTMLParser):
    """Collects what of a page came from the markup, and is not text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.texts: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        names = [tag, *(name for name, _value in attrs)]
        self.found += [name for name in names if "x-markup" in name or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        self.found += [data] * (self._in_script and "alert(1)" in data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


def visible_text(response: Any) -> str:
    """Check a page, and return its text."""
    assert response.status_code == 200, response.status_code
    page = Elements()
    page.feed(response.content.decode())
    assert page.found == []
    return "".join(page.texts)


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(username=f"admin{MARKUP[:30]}"))
    return client


@pytest.fixture
def server() -> AuthorizationServer:
    said = {
        name: [MARKUP]
        for name in (
            "scopes_supported",
            "grant_types_supported",
            "response_types_supported",
            "token_endpoint_auth_methods_supported",
            "code_challenge_methods_supported",
        )
    }
    metadata = server_metadata(
        **said,
        op_policy_uri=MARKUP,
        op_tos_uri=MARKUP,
        **{f"{MARKUP}_endpoint": MARKUP, "token_endpoint": MARKUP},
    )
    return make_server(
        name=MARKUP,
        metadata=metadata,
        metadata_url=MARKUP,
        etag=MARKUP,
        last_error=MARKUP,
        client_metadata={"client_name": f"{{owner}} {MARKUP}", "scope": MARKUP, MARKUP: MARKUP},
    )


def marked(server: AuthorizationServer, status: str) -> ClientRegistration:
    row = make_registration(
        server=server,
        status=status,
        owner=f"{status} {MARKUP}",
        client_id=f"{status} {MARKUP}",
        live=True if status == "active" else None,
        requested_metadata={
            "client_name": MARKUP,
            "redirect_uris": [CALLBACK, MARKUP],
            "scope": MARKUP,
            "grant_types": [MARKUP],
            "token_endpoint_auth_method": MARKUP,
            MARKUP: {MARKUP: [MARKUP]},
        },
        metadata={"client_name": f"other {MARKUP}", MARKUP: MARKUP, "scope": MARKUP},
        deviations=[MARKUP],
        last_error=MARKUP,
        has_drift=True,
        registration_client_uri=MARKUP,
    )
    row.events.create(actor=MARKUP, action=MARKUP[:16], outcome=status, error=MARKUP[:60])
    return row


def log(admin: Client, row: models.Model) -> None:
    LogEntry.objects.create(
        user_id=admin.session["_auth_user_id"],
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(row.pk),
        object_repr=MARKUP,
        action_flag=CHANGE,
        change_message=MARKUP,
    )


@pytest.mark.parametrize("path", ["", "?q=<x-markup>", "add/", "{pk}/change/", "{pk}/history/"])
def test_no_page_of_a_server_renders_its_markup(
    admin: Client, server: AuthorizationServer, path: str
) -> None:
    log(admin, server)
    visible_text(admin.get(SERVERS + path.format(pk=server.pk)))


def test_the_deletion_page_renders_no_markup(admin: Client, server: AuthorizationServer) -> None:
    visible_text(admin.get(f"{SERVERS}{server.pk}/delete/"))
    row = marked(server, "active")
    assert "x-markup" in visible_text(admin.get(f"{SERVERS}{server.pk}/delete/"))
    assert "x-markup" in visible_text(admin.get(f"{REGISTRATIONS}{row.pk}/delete/"))
    chosen = {"action": "delete_selected", "_selected_action": [row.pk]}
    assert "x-markup" in visible_text(admin.post(REGISTRATIONS, chosen))


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("path", ["{pk}/change/", "{pk}/history/", "{pk}/delete/"])
def test_no_page_of_a_registration_renders_its_markup(
    admin: Client, server: AuthorizationServer, status: str, path: str
) -> None:
    row = marked(server, status)
    log(admin, row)
    assert "x-markup" in visible_text(admin.get(REGISTRATIONS + path.format(pk=row.pk)))


@pytest.mark.parametrize("path", ["", "?server={server}", "?status__exact=active", "?q=<x-markup>"])
def test_no_list_renders_markup_of_its_rows(
    admin: Client, server: AuthorizationServer, path: str
) -> None:
    for status in Status.values:
        marked(server, status)
    assert "x-markup" in visible_text(admin.get(REGISTRATIONS + path.format(server=server.pk)))


def test_the_help_texts_of_a_form_render_no_markup_of_the_server(
    admin: Client, server: AuthorizationServer
) -> None:
    text = visible_text(admin.get(f"{REGISTRATIONS}add/?server={server.pk}"))
    assert f"The server offers: {MARKUP}." in text
    assert "Default: " in text


def test_errors_render_no_markup_that_was_typed(admin: Client, server: AuthorizationServer) -> None:
    typed = {
        "server": server.pk,
        "owner": MARKUP,
        "client_name": MARKUP,
        "redirect_uris": MARKUP,
        "scope": MARKUP,
        "grant_types": [MARKUP],
        "token_endpoint_auth_method": MARKUP,
        "requested_metadata": json.dumps({MARKUP: MARKUP}),
    }
    assert "x-markup" in visible_text(admin.post(f"{REGISTRATIONS}add/", typed))
    assert "x-markup" in visible_text(
        admin.post(f"{REGISTRATIONS}add/", {**typed, "requested_metadata": MARKUP})
    )
    issuer = {"issuer": MARKUP, "client_metadata": MARKUP, "trusted_origins": MARKUP}
    assert "x-markup" in visible_text(admin.post(f"{SERVERS}add/", {**issuer, "name": MARKUP}))


@pytest.mark.parametrize(
    "action", ["register", "read", "update", "renew", "retry", "revoke", "forget"]
)
def test_no_confirmation_and_no_message_renders_markup(
    admin: Client, server: AuthorizationServer, action: str
) -> None:
    rows = [marked(server, status) for status in ("active", "unknown", "draft")]
    server.enabled = False  # so that each is an error of this app's
    server.save()
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    assert "x-markup" in visible_text(admin.post(REGISTRATIONS, chosen))
    told = admin.post(REGISTRATIONS, {**chosen, "_confirmed": "1"}, follow=True)
    assert "x-markup" in visible_text(told)


def test_the_page_of_a_secret_renders_no_markup(admin: Client, server: AuthorizationServer) -> None:
    row = marked(server, "active")
    row.client_secret = MARKUP
    row.save()
    path = f"{REGISTRATIONS}{row.pk}/reveal/"
    assert "x-markup" in visible_text(admin.post(path))
    assert MARKUP in visible_text(admin.post(path, {"_confirmed": "1"}))


def test_the_choice_of_a_server_is_json(admin: Client, server: AuthorizationServer) -> None:
    query = {"app_label": "django_dcr", "model_name": "clientregistration", "field_name": "server"}
    answer = admin.get("/admin/autocomplete/", query)
    assert answer["Content-Type"] == "application/json"
    assert [each["text"] for each in answer.json()["results"]] == [MARKUP]


# --- bounds ---------------------------------------------------------------------------------------


def test_a_page_shows_the_first_hundred_members_and_counts_the_others(admin: Client) -> None:
    """A row of an earlier release, which knew no limit."""
    many = {f"member{number}": "x" for number in range(70_000)}
    row = make_registration(metadata={**many, "client_name": "Other"})
    members, more = compare(row)
    assert (len(members), len(members) + more) == (100, 70_003)
    assert members[0].name == "client_name"
    text = visible_text(admin.get(f"{REGISTRATIONS}{row.pk}/change/"))
    assert f"{more} more members are not shown." in text
    assert len(text) < 100_000


def test_a_page_offers_the_first_hundred_endpoints_and_methods(admin: Client) -> None:
    many = {f"a{number}_endpoint": "https://as.example/" for number in range(5_000)}
    methods = [f"method{number}" for number in range(5_000)]
    metadata = server_metadata(**many, token_endpoint_auth_methods_supported=methods)
    server = make_server(metadata=metadata)
    shown = visible_text(admin.get(f"{SERVERS}{server.pk}/change/"))
    assert shown.count("_endpoint") < 110
    assert "registration_endpoint" in shown, "is not hidden by the others"
    form = visible_text(admin.get(f"{REGISTRATIONS}add/?server={server.pk}"))
    assert form.count("method") < 110


@pytest.mark.parametrize("value", ["9" * 23, "9" * 19, "-1", "٣", "1.0", "x", "", "\x00"])
def test_a_primary_key_that_overflows_is_no_error(admin: Client, value: str) -> None:
    make_registration()
    for path in ("", "add/"):
        assert admin.get(REGISTRATIONS + path, {"server": value}).status_code == 200

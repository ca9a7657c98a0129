"""The pages of the admin, through Django's test client."""

from __future__ import annotations

import html
import json
import random
import re
import string
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, connections, models
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from responses import RequestsMock

from django_dcr import services
from django_dcr.admin import AuthorizationServerAdmin, ClientRegistrationAdmin
from django_dcr.admin.columns import compare
from django_dcr.admin.events import EventInline
from django_dcr.admin.pages import prospect
from django_dcr.models import AuthorizationServer, ClientRegistration, Status
from tests.factories import (
    APPENDED_OPENID,
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WELL_KNOWN,
    WELL_KNOWN_OPENID,
    WISHES,
    client_information,
    events_of,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

if TYPE_CHECKING:
    from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

pytestmark = pytest.mark.django_db

DOCUMENTED = (Path(__file__).parent.parent / "docs/admin.md").read_text()
SERVERS = "/admin/django_dcr/authorizationserver/"
REGISTRATIONS = "/admin/django_dcr/clientregistration/"
DAY = 24 * 3600
PAGES = ClientRegistrationAdmin(ClientRegistration, admin.site)
#: A page that a browser would run, were it not escaped; and characters that turn lines round.
HOSTILE = "<script>alert(1)</script>\u202e\r\nEvil"
OTHER_KEY = "6WgpHc9E8zyBNW6ZDFMUv8NCjx2rO8m3xMLm6NhnHg8="

TABLE = ("add", "change", "delete", "view")
ALL = (*TABLE, "discover", "register", "update", "renew", "revoke", "reveal")


def browser(may: Iterable[str] = ALL) -> Client:
    """A browser of someone from the staff with these permissions on both tables."""
    person = User.objects.create(username="-".join(may) or "nobody", is_staff=True)
    tables = ("authorizationserver", "clientregistration")
    names = [f"{verb}_{table}" for verb in may for table in tables]
    person.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(person)
    return client


def on_servers(may: Iterable[str]) -> Client:
    """A browser of someone with permissions on the servers only."""
    client = browser(may)
    person = User.objects.get(pk=client.session["_auth_user_id"])
    person.user_permissions.remove(*Permission.objects.filter(codename__endswith="registration"))
    return client


@pytest.fixture
def staff() -> Client:
    return browser()


def page(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def change_page(client: Client, row: models.Model) -> str:
    folder = SERVERS if isinstance(row, AuthorizationServer) else REGISTRATIONS
    return page(client, f"{folder}{row.pk}/change/")


def act(client: Client, action: str, *rows: models.Model, **fields: str) -> Any:
    """Run an action of the list on the rows, as the list and the pages do.

    What the list asks about, and the pages do not, is confirmed.
    """
    folder = SERVERS if isinstance(rows[0], AuthorizationServer) else REGISTRATIONS
    if action in ("register", "read", "update", "renew"):
        fields.setdefault("_confirmed", "1")
    fields = {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], **fields}
    return client.post(folder, fields)


def asked(client: Client, action: str, *rows: models.Model, **fields: str) -> str:
    """The text of the page that asks before it acts."""
    fields = {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], **fields}
    response = client.post(REGISTRATIONS, fields)
    assert response.status_code == 200
    return cells(response.content.decode())


def confirmed(client: Client, action: str, *rows: models.Model) -> list[str]:
    """Run an action and say yes on the page that asks; return the messages."""
    question = act(client, action, *rows)
    assert question.status_code == 200
    fields = re.findall(
        r'<input type="hidden" name="(?!csrf)(\w+)" value="(\w+)"', question.content.decode()
    )
    rows_of_page = [value for name, value in fields if name == ACTION_CHECKBOX_NAME]
    return notices(client.post(REGISTRATIONS, {**dict(fields), ACTION_CHECKBOX_NAME: rows_of_page}))


def notices(response: Any) -> list[str]:
    """The messages that this request left for the next page."""
    assert response.status_code == 302
    return [str(message) for message in response.wsgi_request._messages._queued_messages]


def history() -> list[str]:
    return [entry.change_message for entry in LogEntry.objects.order_by("pk")]


def cells(text: str) -> str:
    """The text of a page, without its tags, on one line."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


# -- servers -------------------------------------------------------------------------------------

NEW_SERVER = {
    "issuer": ISSUER,
    "name": "Tenant",
    "enabled": "on",
    "client_metadata": "",
    "trusted_origins": "",
    "assertion_audience": "issuer",
    "assertion_typ": "client-authentication+jwt",
    "initial_access_token": "",
}


def test_adding_a_server_discovers_at_once(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    with django_capture_on_commit_callbacks(execute=True):
        response = staff.post(f"{SERVERS}add/", {**NEW_SERVER, "initial_access_token": "iat-1"})
    server = AuthorizationServer.objects.get()
    assert response["Location"] == f"{SERVERS}{server.pk}/change/"
    assert notices(response)[1:] == ["Fetched the server's metadata."]
    assert server.metadata == server_metadata()
    assert (server.client_metadata, server.trusted_origins) == ({}, [])
    assert server.initial_access_token is not None
    assert server.initial_access_token.reveal() == "iat-1"
    assert history() == ['[{"added": {}}]', "Discover again: done."]


def test_a_server_that_is_not_found_stays_with_a_warning(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    mocked_responses.get(WELL_KNOWN, json={"issuer": "https://evil.example"})
    with django_capture_on_commit_callbacks(execute=True):
        response = staff.post(f"{SERVERS}add/", NEW_SERVER)
    [_added, warning] = response.wsgi_request._messages
    assert warning.level_tag == "warning"
    server = AuthorizationServer.objects.get()
    assert cells(str(warning)).startswith(server.last_error)
    assert f"<br>{WELL_KNOWN} failed " in str(warning), "and why stands above"
    assert html.escape(server.last_error[:60]) in change_page(staff, server)
    assert history()[-1] == "Discover again: failed (InvalidResponseError)."


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"issuer": "http://as.example"}, "https"),
        ({"issuer": "as.example"}, "issuer"),
        ({"issuer": "https://listed.example"}, "already listed"),
        ({"client_metadata": "[1]"}, "one JSON object"),
        ({"client_metadata": '{"redirect_uris": "https://a.example"}'}, "redirect_uris must be"),
        ({"client_metadata": "{"}, "Enter a valid JSON."),
        ({"client_metadata": "[" * 200_000}, "Enter a valid JSON."),
        ({"trusted_origins": '["https://a.example/path"]'}, "Write a list of origins"),
        ({"initial_access_token": "Bearer iat-1"}, "without spaces"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_server_is_refused_with_a_reason(
    staff: Client, fields: dict[str, str], error: str
) -> None:
    make_server(issuer="https://listed.example")
    response = staff.post(f"{SERVERS}add/", {**NEW_SERVER, **fields})
    assert response.status_code == 200
    assert error in cells(response.content.decode())
    assert AuthorizationServer.objects.count() == 1


def test_invalid_input_is_shown_again_as_it_was_typed(staff: Client) -> None:
    typed = '{"scope":   oops}'
    response = staff.post(
        f"{SERVERS}add/",
        {**NEW_SERVER, "client_metadata": typed, "initial_access_token": "iat-secret"},
    )
    assert html.escape(typed) in response.content.decode()
    assert "iat-secret" not in response.content.decode()


def edited(staff: Client, server: AuthorizationServer, **fields: str) -> Any:
    return staff.post(
        f"{SERVERS}{server.pk}/change/",
        {**NEW_SERVER, "client_metadata": "{}", "trusted_origins": "[]", **fields},
    )


def test_the_issuer_of_a_server_with_registrations_cannot_be_changed(staff: Client) -> None:
    """Fault L31."""
    server = make_registration().server
    assert 'name="issuer"' not in change_page(staff, server)
    edited(staff, server, issuer="https://attacker.example", name="Renamed")
    server.refresh_from_db()
    assert (server.issuer, server.name) == (ISSUER, "Renamed")


def test_a_server_whose_issuer_is_no_longer_allowed_can_be_edited(
    staff: Client, settings: Settings
) -> None:
    server = make_server()
    settings.DCR_ALLOWED_ISSUERS = ["https://other.example"]
    edited(staff, server, name="Renamed")
    server.refresh_from_db()
    assert server.name == "Renamed"


@pytest.mark.parametrize(
    ("fields", "token", "message"),
    [
        ({}, "iat-1", "No fields changed."),
        ({"initial_access_token": "iat-2"}, "iat-2", "Initial access token"),
        ({"remove_initial_access_token": "on"}, None, "Initial access token"),
    ],
    ids=["blank keeps it", "a new one replaces it", "a tick removes it"],
)
def test_an_initial_access_token_is_written_and_never_shown(
    staff: Client, fields: dict[str, str], token: str | None, message: str
) -> None:
    server = make_server(initial_access_token="iat-1", name="Tenant")
    assert "One is stored, encrypted." in change_page(staff, server)
    edited(staff, server, **fields)
    server.refresh_from_db()
    kept = server.initial_access_token
    assert (kept.reveal() if kept else None) == token
    assert message in LogEntry.objects.get().get_change_message()


def test_a_token_cannot_be_entered_and_removed_at_once(staff: Client) -> None:
    server = make_server(initial_access_token="iat-1")
    response = edited(staff, server, initial_access_token="iat-2", remove_initial_access_token="on")
    assert "Enter a new one or remove the old one." in response.content.decode()
    assert stored_token(server) == "iat-1"


def stored_token(server: AuthorizationServer) -> str:
    token = AuthorizationServer.objects.get(pk=server.pk).initial_access_token
    assert token is not None
    return token.reveal()


def test_a_server_without_a_stored_token_offers_no_removal(staff: Client) -> None:
    text = change_page(staff, make_server())
    assert "None is stored." in text
    assert "remove_initial_access_token" not in text


def test_a_form_writes_only_what_was_edited(staff: Client) -> None:
    """Another process stores an answer between the form's reading and its writing."""
    server = make_server()
    model_admin = AuthorizationServerAdmin(AuthorizationServer, admin.site)
    request = RequestFactory().post("/")
    request.user = User.objects.get()
    form = model_admin.get_form(request, server, change=True)(
        {**NEW_SERVER, "client_metadata": "{}", "trusted_origins": "[]"}, instance=server
    )
    assert form.is_valid()
    AuthorizationServer.objects.update(metadata={"issuer": "stored meanwhile"})
    model_admin.save_model(request, server, form, change=True)
    server.refresh_from_db()
    assert (server.name, server.metadata) == ("Tenant", {"issuer": "stored meanwhile"})


def test_a_server_shows_what_it_offers(staff: Client) -> None:
    """R-011, R-012, R-015 and R-025: defaults, PKCE, policy and terms, as text."""
    metadata = server_metadata(
        token_endpoint="https://as.example/token",
        scopes_supported=["read", "write"],
        code_challenge_methods_supported=["S256"],
        op_policy_uri="javascript:alert(1)",
        op_tos_uri={"odd": 1},
    )
    text = change_page(staff, make_server(metadata=metadata))
    shown = cells(text)
    assert "registration_endpoint https://as.example/register" in shown
    assert "Client authentication client_secret_basic" in shown
    assert "Grant types authorization_code implicit" in shown
    assert "Response types not stated" in shown
    assert "Scopes read write PKCE with S256 yes" in shown
    assert 'Policy javascript:alert(1) Terms of service {"odd": 1}' in shown
    assert not re.search(r'href="(javascript|https?):', text)


def test_a_server_whose_metadata_was_never_fetched_says_so(staff: Client) -> None:
    server = make_server(metadata={})
    shown = cells(change_page(staff, server))
    assert "Registration: unknown Offer: Not known yet" in shown
    assert "icon-unknown" in page(staff, SERVERS)


def test_the_list_of_servers_finds_and_filters(staff: Client) -> None:
    make_server(name="Bank", last_error=HOSTILE)
    make_server(issuer="https://other.example", enabled=False)
    assert "<script>alert" not in page(staff, SERVERS)
    assert "Evil" in page(staff, SERVERS)
    assert ISSUER not in page(staff, f"{SERVERS}?q=other")
    assert ISSUER in page(staff, f"{SERVERS}?q=bank")
    assert "other.example" not in page(staff, f"{SERVERS}?enabled__exact=1")


def test_discovering_again_fetches_metadata_that_is_still_fresh(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    server = make_server()
    mocked_responses.get(WELL_KNOWN, json=server_metadata(scopes_supported=["new"]))
    assert ">Discover again</button>" in change_page(staff, server)
    response = act(staff, "discover", server, _from_page="1")
    assert response["Location"] == f"{SERVERS}{server.pk}/change/"
    assert notices(response) == [f"“{ISSUER}”: Fetched the server's metadata."]
    assert AuthorizationServer.objects.get().metadata["scopes_supported"] == ["new"]


def test_every_url_that_was_tried_is_shown_with_its_outcome(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    mocked_responses.get(WELL_KNOWN, status=404)
    mocked_responses.get(WELL_KNOWN_OPENID, body="<p>Hello</p>")
    mocked_responses.get(APPENDED_OPENID, status=500)
    with django_capture_on_commit_callbacks(execute=True):
        response = staff.post(f"{SERVERS}add/", NEW_SERVER)
    warning = str(list(response.wsgi_request._messages)[1])
    assert f"<br>{WELL_KNOWN} answered 404" in warning
    assert f"<br>{WELL_KNOWN_OPENID} is not a JSON object" in warning
    assert f"<br>{APPENDED_OPENID} answered 500" in warning
    server = AuthorizationServer.objects.get()
    [again] = notices(act(staff, "discover", server))
    assert f"<br>{WELL_KNOWN} answered 404" in again
    one, two = notices(act(staff, "discover", server, make_server(issuer="https://as2.example")))
    assert "<br>" not in one + two


def test_a_server_added_without_the_permission_to_discover_is_sent_nothing(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        browser(TABLE).post(f"{SERVERS}add/", NEW_SERVER)
    assert not AuthorizationServer.objects.get().metadata


@pytest.mark.parametrize(
    ("values", "registers", "fresh"),
    [
        ({"fresh_until": None}, "Yes", "-"),
        ({"metadata": {"issuer": ISSUER}}, "It offers no registration", "in 59 minutes"),
        ({}, "Yes, apparently without an initial access token", "in 59 minutes"),
        (
            {"initial_access_token": "t"},
            "the initial access token stored here is sent",
            "in 59 minutes",
        ),
        ({"fresh_until": timezone.now()}, "Yes", "fetched again at the next use"),
    ],
    ids=["not fresh", "no endpoint", "open", "token", "stale"],
)
def test_a_server_says_how_it_registers_and_how_fresh_that_is(
    staff: Client, values: dict[str, Any], registers: str, fresh: str
) -> None:
    shown = cells(change_page(staff, make_server(**values)))
    assert registers in shown.split("Registration:")[1]
    assert fresh in shown.split("Fresh until:")[1]


def test_a_server_links_to_its_registrations_and_to_a_new_one(staff: Client) -> None:
    server = make_server()
    text = change_page(staff, server)
    links = re.findall(r'<a href="([^"]*)" class="button">(.*?)</a>', text)
    assert links == [
        (f"{REGISTRATIONS}add/?server={server.pk}", "Register a client here"),
        (f"{REGISTRATIONS}adopt/?server={server.pk}", "Enter a client from its console"),
        (f"{REGISTRATIONS}?server={server.pk}", "Registrations here"),
    ]
    assert "Register a client here" not in change_page(browser(["view", "discover"]), server)
    assert "Registrations here" not in change_page(on_servers(["view"]), server)


# -- registrations -------------------------------------------------------------------------------


def test_a_new_registration_is_saved_and_not_sent(staff: Client) -> None:
    server = make_server(metadata=server_metadata(op_policy_uri="https://as.example/policy"))
    response = staff.post(
        f"{REGISTRATIONS}add/",
        {"server": server.pk, "owner": "acme", "requested_metadata": json.dumps(WISHES)},
    )
    row = ClientRegistration.objects.get()
    assert response["Location"] == f"{REGISTRATIONS}{row.pk}/change/"
    assert "Nothing was sent to the server yet. Press “Register” for that." in notices(response)
    assert (row.status, row.owner, row.requested_metadata) == ("draft", "acme", WISHES)
    shown = cells(change_page(staff, row))
    assert "Register it next." in shown
    # whoever registers sees the server's policy.
    assert "Policy: https://as.example/policy" in shown


def test_someone_who_may_only_add_goes_to_the_front_page() -> None:
    server = make_server()
    response = browser(["add"]).post(
        f"{REGISTRATIONS}add/", {"server": server.pk, "requested_metadata": json.dumps(WISHES)}
    )
    assert response["Location"] == "/admin/"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"requested_metadata": "[]"}, "one JSON object"),
        ({"requested_metadata": ""}, "needs redirect_uris"),
        ({"requested_metadata": '{"client_id": "x"}'}, "assigned by the server"),
        ({"owner": "acme"}, "already has a registration"),
        ({"server": ""}, "This field is required."),
        ({"server": "77"}, "Select a valid choice."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_registration_is_refused_with_a_reason(
    staff: Client, fields: dict[str, Any], error: str
) -> None:
    row = make_draft(owner="acme")
    good = {"server": row.server_id, "owner": "", "requested_metadata": json.dumps(WISHES)}
    response = staff.post(f"{REGISTRATIONS}add/", {**good, **fields})
    assert response.status_code == 200
    assert error in cells(response.content.decode())
    assert ClientRegistration.objects.count() == 1


def test_only_the_requested_metadata_of_a_registration_can_be_edited(staff: Client) -> None:
    row = make_registration(owner="acme")
    other = make_server(issuer="https://attacker.example")
    wishes = {**WISHES, "client_name": "Café"}
    response = staff.post(
        f"{REGISTRATIONS}{row.pk}/change/",
        {
            "requested_metadata": json.dumps(wishes),
            "server": other.pk,
            "owner": "mallory",
            "client_id": "c2",
            "registration_client_uri": "https://attacker.example/c1",
        },
    )
    assert "Nothing was sent to the server yet. Press “Update at the server” for that." in notices(
        response
    )
    after = stored(row)
    assert after.requested_metadata == wishes
    assert (after.server, after.owner, after.client_id) == (row.server, "acme", "c1")
    assert after.registration_client_uri == URI
    assert "Café" in change_page(staff, row)


@pytest.mark.parametrize("status", ["active", "revoked"])
def test_saving_without_a_change_gives_no_hint_about_the_server(staff: Client, status: str) -> None:
    row = make_registration(status=status)
    wishes = WISHES if status == "active" else {**WISHES, "client_name": "New"}
    response = staff.post(
        f"{REGISTRATIONS}{row.pk}/change/", {"requested_metadata": json.dumps(wishes)}
    )
    assert len(notices(response)) == 1


def test_requested_and_granted_metadata_are_compared_with_differences_first(staff: Client) -> None:
    row = make_registration(
        requested_metadata={**WISHES, "scope": "read write", "client_name#ja-JP": "店"},
        metadata={**WISHES, "scope": "read", "client_name#ja-jp": "店", "jwks": {"keys": []}},
        deviations=["scope came as a list"],
        client_id_issued_at=1_700_000_000,
    )
    members = {member.name: member for member in compare(row)[0]}
    assert [name for name, member in members.items() if member.differs] == ["scope"]
    assert next(iter(members)) == "scope"
    assert members["client_name#ja-jp"].granted == ["店"]
    shown = cells(change_page(staff, row))
    assert "scope differs read write read" in shown
    assert 'jwks - {"keys": []}' in shown
    assert "scope came as a list" in shown
    assert "Nov. 14, 2023" in shown


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"client_secret": None}, "-"),
        ({"client_secret_expires_at": 0}, "never"),
        ({"client_secret_expires_at": None}, "unknown"),
        ({"client_secret_expires_at": 1}, "expired"),
        ({"client_secret_expires_at": 6 * DAY + 3600}, "in 6 days"),
    ],
    ids=["no secret", "never", "unknown", "expired", "soon"],
)
def test_expiry_is_shown_in_words(values: dict[str, int | None], text: str) -> None:
    lifetime = values.get("client_secret_expires_at")
    if lifetime and lifetime > 1:
        values["client_secret_expires_at"] = int(time.time()) + lifetime
    row = make_registration(**values)
    assert cells(PAGES.expiry(row)).lstrip("!✕ ") == text
    assert cells(PAGES.expiry_date(row)).endswith(text)
    assert ("." in PAGES.expiry_date(row)) is (row.secret_expiry is not None)


def in_days(days: int) -> int:
    return int(time.time()) + days * DAY


def test_the_list_filters_and_searches(staff: Client) -> None:
    first, second = make_server(name="Bank"), make_server(issuer="https://other.example")
    for owner, days in [("late", -1), ("soon", 6), ("later", 20), ("far", 90)]:
        expires = in_days(days)
        make_registration(
            server=first, owner=owner, client_id=owner, client_secret_expires_at=expires
        )
    make_draft(server=second, owner="drafted")

    def owners(query: str) -> set[str]:
        found = staff.get(f"{REGISTRATIONS}?{query}").context["cl"].result_list
        return {row.owner for row in found}

    everyone = {"late", "soon", "later", "far", "drafted"}
    assert owners("expires=0") == {"late"}
    assert owners("expires=soon") == {"soon"}
    assert owners("expires=30") == {"late", "soon", "later"}
    assert owners("expires=x") == everyone
    assert owners(f"server={second.pk}") == {"drafted"}
    assert owners("server=x") == everyone
    assert owners("status__exact=draft") == {"drafted"}
    assert owners("q=bank") == {"late", "soon", "later", "far"}
    assert owners("q=other.example") == {"drafted"}
    assert owners("q=far") == {"far"}


def test_the_list_makes_as_many_queries_for_fifty_rows_as_for_one(staff: Client) -> None:
    make_registration()
    with CaptureQueriesContext(connection) as for_one:
        page(staff, REGISTRATIONS)
    for number in range(50):
        server = make_server(issuer=f"https://as{number}.example")
        make_registration(server=server, client_id=f"c-{number}")
    with CaptureQueriesContext(connection) as for_fifty:
        page(staff, REGISTRATIONS)
    assert len(for_one) == len(for_fifty) < 10


SECRETS = {"client_secret": "the-secret", "registration_access_token": "the-token"}


def test_no_page_contains_a_secret(staff: Client, mocked_responses: RequestsMock) -> None:
    """Faults A6 and A11: neither the value nor its ciphertext."""
    server = make_server(initial_access_token="the-iat")
    row = make_registration(server=server, **SECRETS)
    answer = client_information(**SECRETS)
    mocked_responses.get(URI, json=answer)
    act(staff, "read", row)
    pages = [
        page(staff, SERVERS),
        page(staff, REGISTRATIONS),
        change_page(staff, server),
        change_page(staff, row),
        page(staff, f"{REGISTRATIONS}{row.pk}/history/"),
        page(staff, f"{REGISTRATIONS}{row.pk}/delete/"),
        act(staff, "revoke", row).content.decode(),
        change_page(browser(["view"]), server),
        change_page(browser(["change"]), row),
    ]
    sealed = [server.initial_access_token, row.client_secret, row.registration_access_token]
    secrets = ["the-iat", *SECRETS.values(), *(each.ciphertext for each in sealed if each)]
    assert [secret for secret in secrets if any(secret in text for text in pages)] == []
    assert "stored, encrypted" in pages[3]
    assert "the-" not in "".join(history())


def test_a_lost_key_breaks_no_page(staff: Client, settings: Settings) -> None:
    server = make_server(initial_access_token="the-iat")
    row = make_registration(server=server, **SECRETS)
    settings.DCR_ENCRYPTION_KEYS = [OTHER_KEY]
    for text in (
        page(staff, SERVERS),
        page(staff, REGISTRATIONS),
        change_page(staff, server),
        change_page(staff, row),
    ):
        assert ISSUER in text
    edited(staff, server, name="Renamed")
    [message] = notices(act(staff, "read", row))
    assert "None of DCR_ENCRYPTION_KEYS opens" in message


def test_what_a_server_wrote_is_escaped_and_cleaned_everywhere(staff: Client) -> None:
    """Faults 135 and A5."""
    row = make_registration(
        owner=HOSTILE.replace("\r\n", " "),
        client_id=HOSTILE,
        metadata={"client_name": HOSTILE, HOSTILE: HOSTILE, "x": {HOSTILE: 1}},
        deviations=[HOSTILE],
        last_error=HOSTILE,
        registration_client_uri="javascript:alert(1)",
    )
    server = row.server
    server.metadata = server_metadata(**{f"{HOSTILE}_endpoint": HOSTILE, "op_tos_uri": [HOSTILE]})
    server.save()
    for text in (
        page(staff, REGISTRATIONS),
        change_page(staff, row),
        change_page(staff, server),
        act(staff, "forget", row).content.decode(),
        page(staff, f"{REGISTRATIONS}{row.pk}/delete/"),
        page(staff, f"{REGISTRATIONS}{row.pk}/history/"),
    ):
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "&lt;script&gt;" in text
        assert 'href="javascript' not in text


def test_no_page_has_inline_script_or_style(staff: Client) -> None:
    row = make_registration()
    for text in (
        page(staff, REGISTRATIONS),
        change_page(staff, row),
        change_page(staff, row.server),
        act(staff, "revoke", row).content.decode(),
    ):
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", text)
        assert "django_dcr/admin.css" in text


def test_malformed_metadata_breaks_no_page(staff: Client) -> None:
    row = make_registration(requested_metadata=["not an object"])
    assert "must be one JSON object" in change_page(staff, row)
    assert "These members differ now: ?." in asked(staff, "update", row)


# -- actions -------------------------------------------------------------------------------------


def test_registering_stores_what_the_server_issues(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_draft(owner="acme")
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    assert ">Register</button>" in change_page(staff, row)
    response = act(staff, "register", row, _from_page="1")
    assert response["Location"] == f"{REGISTRATIONS}{row.pk}/change/"
    assert notices(response) == [f"“acme at {ISSUER}”: Registered at the server."]
    assert (stored(row).status, stored(row).client_id) == ("active", "c1")
    assert history() == ["Register: done."]


def test_a_refusal_is_shown_and_the_history_has_no_text_of_the_server(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    """Fault A7."""
    row = make_draft()
    refusal = {"error": "invalid_redirect_uri", "error_description": HOSTILE}
    mocked_responses.post(ENDPOINT, json=refusal, status=400)
    [message] = notices(act(staff, "register", row))
    assert "invalid_redirect_uri" in message
    assert "\u202e" not in message
    assert stored(row).status == "rejected"
    assert "edit the metadata and register again" in change_page(staff, row).lower()
    assert history() == ["Register: failed (RequestRejectedError)."]


def test_reading_updating_and_renewing_report_their_outcome(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    text = f"“this site at {ISSUER}”: "
    assert notices(act(staff, "read", row)) == [f"{text}Read from the server."]
    assert notices(act(staff, "update", row)) == [f"{text}Updated at the server."]
    mocked_responses.put(URI, json=client_information(client_secret="s3"))
    assert notices(act(staff, "renew", row)) == [f"{text}The server issued a new secret."]
    assert history() == [
        "Read from the server: done.",
        "Update at the server: done.",
        "Renew the secret: done.",
    ]


def test_a_renewal_by_a_new_client_redirects_to_its_row(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_registration(client_secret_expires_at=in_days(1))
    expires = in_days(30)
    again = client_information(client_secret_expires_at=row.client_secret_expires_at)
    mocked_responses.get(URI, json=again)
    mocked_responses.put(URI, json=again)
    new = client_information(client_id="c2", client_secret="s2", client_secret_expires_at=expires)
    mocked_responses.post(ENDPOINT, json=new, status=201)
    mocked_responses.delete(URI, status=204)
    response = act(staff, "renew", row, _from_page="1")
    successor = ClientRegistration.objects.get(client_id="c2")
    assert response["Location"] == f"{REGISTRATIONS}{successor.pk}/change/"
    assert stored(row).status == "revoked"
    logged = LogEntry.objects.order_by("pk").values_list("object_id", flat=True)
    assert list(logged) == [str(row.pk), str(successor.pk)]


def test_revoking_asks_for_confirmation_and_says_what_will_happen(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_registration()
    question = act(staff, "revoke", row, _from_page="1").content.decode()
    assert f"The client c1 is deleted at {ISSUER}" in cells(question)
    assert f'href="{REGISTRATIONS}{row.pk}/change/"' in question
    assert 'name="_from_page"' in question
    assert stored(row).status == "active"
    mocked_responses.delete(URI, status=204)
    [message] = confirmed(staff, "revoke", row)
    assert message.endswith("Revoked: the server no longer has this client.")
    assert stored(row).status == "revoked"


def test_forgetting_warns_that_the_server_may_keep_the_client(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_registration()
    assert "the server may keep the client" in cells(act(staff, "forget", row).content.decode())
    mocked_responses.delete(URI, status=403)
    [message] = confirmed(staff, "forget", row)
    assert "the server may still hold the client" in message
    assert stored(row).status == "revoked"


def test_forgetting_says_when_the_server_deleted_the_client(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    mocked_responses.delete(URI, status=204)
    [message] = confirmed(staff, "forget", make_registration())
    assert message.endswith("Closed: the server no longer has this client.")


@pytest.mark.parametrize(
    ("values", "revoke", "forget"),
    [
        ({"status": "draft"}, "nothing is sent", "nothing is sent"),
        ({"status": "rejected"}, "nothing is sent", "nothing is sent"),
        ({"status": "registering"}, "will be refused", "will be refused"),
        ({"status": "revoked"}, "will be refused", "will be refused"),
        ({"status": "gone"}, "is deleted at https://as.example/tenant", "may keep"),
        ({"registration_client_uri": ""}, "console, then forget", "may keep the client c1"),
        (
            {"status": "unknown", "client_id": "", "registration_client_uri": ""},
            "client of unknown ID",
            "client of unknown ID",
        ),
        ({"status": "revoking"}, "is deleted at https://as.example/tenant", "may keep"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_prospect_depends_on_the_row(values: dict[str, str], revoke: str, forget: str) -> None:
    row = make_registration(**values)
    assert revoke in prospect(row, "revoke")
    assert forget in prospect(row, "forget")


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ({"status": "draft"}, ["register"]),
        ({"status": "registering"}, []),
        ({"status": "active"}, ["read", "update", "renew", "replace", "revoke", "forget"]),
        ({"registration_client_uri": ""}, ["renew", "replace", "forget"]),
        ({"status": "unknown"}, ["retry", "revoke", "forget"]),
        ({"status": "revoking"}, ["read", "revoke", "forget"]),
        ({"status": "revoked"}, []),
        ({"status": "gone"}, ["read", "retry", "forget"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value)[:30],
)
def test_a_page_offers_the_actions_that_its_status_allows(
    staff: Client, values: dict[str, str], offered: list[str]
) -> None:
    text = change_page(staff, make_registration(**values))
    assert re.findall(r'name="action" value="(\w+)"', text) == offered


def test_a_small_list_is_sorted_by_any_column(staff: Client) -> None:
    assert {"issuer", "whose", "expiry"} <= {*staff.get(REGISTRATIONS).context["cl"].sortable_by}


def test_every_status_has_a_badge_and_buttons() -> None:
    for status in Status:
        row = make_registration(
            server=make_server(issuer=f"https://{status}.example"), status=status
        )
        assert PAGES.state(row)
        PAGES.offered_actions(row)


def test_the_list_asks_for_confirmation_and_says_what_will_happen(staff: Client) -> None:
    row = make_registration(metadata={**GRANTED, "client_name": "Other"})
    outlook = {
        "read": f"The client c1 is read at {ISSUER}",
        "update": "These members differ now: client_name.",
        "renew": f"A new secret of the client c1 is requested at {ISSUER}.",
        "register": "This will be refused, because its status is “active”.",
        "retry": "This will be refused",
    }
    for action, text in outlook.items():
        question = asked(staff, action, row)
        assert "This is what will happen:" in question
        assert text in question
    assert events_of(row) == []


def test_the_confirmation_says_what_will_happen_to_a_draft_or_a_lost_client(staff: Client) -> None:
    draft = make_draft()
    lost = make_registration(server=draft.server, status="gone", live=None, client_digest=None)
    assert f"A client is registered at {ISSUER}." in asked(staff, "register", draft)
    assert "The server may keep the old client" in asked(staff, "retry", lost)
    same = make_registration(server=draft.server, owner="x", client_id="c2")
    assert "differ now: none." in prospect(same, "update")


def test_trying_again_registers_again_and_redirects_to_the_new_row(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_registration(status="unknown")
    mocked_responses.post(ENDPOINT, json=client_information(client_id="c2"), status=201)
    assert "takes the place of this one" in asked(staff, "retry", row, _from_page="1")
    response = act(staff, "retry", row, _from_page="1", _confirmed="1")
    successor = ClientRegistration.objects.get(client_id="c2")
    assert response["Location"] == f"{REGISTRATIONS}{successor.pk}/change/"
    assert notices(response) == [
        f"“this site at {ISSUER}”: A new client was registered in its place. "
        f"Registration {row.pk} was replaced by {successor.pk}."
    ]
    assert [event.actor for event in events_of(row)] == [staff_name(staff)]


def staff_name(client: Client) -> str:
    return User.objects.get(pk=client.session["_auth_user_id"]).username


def test_a_page_shows_the_history_newest_first(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    row = make_draft()
    mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    services.register(row)
    mocked_responses.get(URI, status=500)
    act(staff, "read", row)
    table = cells(change_page(staff, row)).split(" Outcome ")[1]
    read = f"{staff_name(staff)} Read from the server active (InvalidResponseError)"
    registered = "this site's code Register active"
    assert table.index(read) < table.index(registered)


def test_the_history_names_a_new_secret() -> None:
    row = make_registration()
    row.events.create(action="renew", outcome="active", new_secret=False)
    row.events.create(action="renew", outcome="active", new_secret=True)
    newest, oldest = row.events.order_by("-pk")
    inline = EventInline(ClientRegistration, admin.site)
    assert (inline.step(newest), inline.result(newest)) == (
        "Renew the secret",
        "active (new secret)",
    )
    assert inline.result(oldest) == "active (no new secret)"


def test_the_list_shows_state_expiry_and_drift_as_badges(staff: Client) -> None:
    server = make_server()
    make_registration(server=server, client_secret_expires_at=in_days(6), has_drift=True)
    make_registration(server=server, owner="b", client_id="c2", client_secret_expires_at=1)
    make_draft(server=server, owner="c")
    table = page(staff, REGISTRATIONS).split("<tbody>")[1].split("</tbody>")[0]
    drafted, late, soon = (cells(row) for row in table.split("</tr>")[:3])
    assert drafted.endswith(" c Shop draft - - dynamic registration")
    assert late.endswith(" b Shop ✓ active ✕ expired as requested dynamic registration")
    assert " this site Shop ✓ active ! in " in soon
    assert soon.endswith(" ! differs dynamic registration")


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"has_drift": True}, "update the client at the server, or change what is requested."),
        ({"client_secret_expires_at": 1, "has_drift": True}, "Its secret expired on "),
        ({"client_secret_expires_at": in_days(6)}, "Its secret expires on "),
        ({"client_secret_expires_at": in_days(30)}, "The server knows this client."),
        (
            {"client_secret_expires_at": in_days(6), "renewed_at": timezone.now()},
            "The server knows this client.",
        ),
        ({"client_secret": None}, "The method client_secret_basic needs a client secret"),
        (
            {"metadata": {**GRANTED, "token_endpoint_auth_method": "tls_client_auth"}},
            "This app cannot authenticate by",
        ),
        ({}, "The server knows this client."),
    ],
    ids=["drift", "expired", "soon", "later", "a moment ago", "no secret", "method", "none"],
)
def test_an_active_registration_shows_its_next_step(values: dict[str, Any], advice: str) -> None:
    said = PAGES.next_step(make_registration(**values))
    assert advice in said
    assert said.count(". ") <= 3
    assert ("renew" in said.lower()) == ("secret" in advice or "expired" in advice)


def test_the_list_is_filtered_by_drift(staff: Client) -> None:
    make_registration(has_drift=True, owner="drifted")
    make_registration(server=AuthorizationServer.objects.get(), client_id="c2", owner="same")
    found = staff.get(f"{REGISTRATIONS}?has_drift__exact=1").context["cl"].result_list
    assert [row.owner for row in found] == ["drifted"]


def test_a_site_may_leave_the_registrations_out_of_its_admin() -> None:
    server_admin = AuthorizationServerAdmin(AuthorizationServer, admin.AdminSite())
    assert server_admin.links(RequestFactory().get("/"), make_server()) == []


# -- many rows -----------------------------------------------------------------------------------


def rows_at_one_server(number: int) -> list[ClientRegistration]:
    server = make_server()
    return [
        make_registration(
            server=server,
            owner=f"owner-{index}",
            client_id=f"c{index}",
            registration_client_uri=f"{ENDPOINT}/c{index}",
        )
        for index in range(number)
    ]


def test_ten_rows_have_a_message_each_and_the_others_are_listed(
    staff: Client, mocked_responses: RequestsMock, settings: Settings
) -> None:
    """Fault A5: all of them fit a cookie, whatever the server says."""
    settings.MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
    rows = rows_at_one_server(14)
    random.seed(1)
    for row in rows[:3]:
        answer = client_information(client_id=row.client_id)
        mocked_responses.get(row.registration_client_uri, json=answer)
    for row in rows[3:]:
        noise = "".join(random.choices(string.ascii_letters, k=200))  # noqa: S311
        refusal = {"error": "invalid_request", "error_description": noise}
        mocked_responses.get(row.registration_client_uri, json=refusal, status=400)
    fields = {"action": "read", "_confirmed": "1", ACTION_CHECKBOX_NAME: [row.pk for row in rows]}
    response = staff.post(REGISTRATIONS, fields, follow=True)
    *single, failed, done = map(str, response.context["messages"])
    assert ["invalid_request" in message for message in single] == [True] * 10
    assert failed == f"Also failed: {rows[3].pk}."
    assert done == f"Also done: {rows[2].pk}, {rows[1].pk}, {rows[0].pk}."


def test_more_rows_than_one_request_may_act_on_are_refused(staff: Client) -> None:
    """Fault A8."""
    rows = rows_at_one_server(51)
    for action in ("read", "revoke"):
        [message] = notices(act(staff, action, *rows))
        assert "select at most 50 rows" in message
    assert history() == []


def test_no_further_row_is_started_after_the_time_limit(
    staff: Client, mocked_responses: RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault A8."""
    monkeypatch.setattr(ClientRegistrationAdmin, "action_max_seconds", -1.0)
    first, second = rows_at_one_server(2)
    mocked_responses.get(
        second.registration_client_uri, json=client_information(client_id=second.client_id)
    )
    _done, message = notices(act(staff, "read", first, second))
    assert message.startswith("The time limit was reached")
    assert message.endswith(f": {first.pk}.")


def test_rows_that_were_deleted_meanwhile_are_ignored(staff: Client) -> None:
    row = make_draft()
    pk = row.pk
    row.delete()
    row.pk = pk
    assert notices(act(staff, "register", row, _from_page="1")) == []
    assert notices(act(staff, "revoke", row)) == []


# -- who may do what -----------------------------------------------------------------------------


def test_a_get_request_never_acts(staff: Client) -> None:
    """Fault A1."""
    row = make_registration()
    for path in (
        f"{REGISTRATIONS}?action=read&{ACTION_CHECKBOX_NAME}={row.pk}",
        f"{REGISTRATIONS}{row.pk}/change/?action=revoke&_confirmed=1",
    ):
        staff.get(path)
    assert stored(row).status == "active"
    assert history() == []


def test_an_action_needs_a_csrf_token() -> None:
    """Fault A1."""
    row = make_registration()
    person = User.objects.create_superuser("root")
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(person)
    assert act(forged, "revoke", row, _confirmed="1").status_code == 403


NEEDED = {
    "discover": "discover",
    "register": "register",
    "read": "update",
    "update": "update",
    "renew": "renew",
    "retry": "register",
    "revoke": "revoke",
    "forget": "revoke",
}


@pytest.mark.parametrize("action", NEEDED)
def test_an_action_without_its_permission_does_nothing(action: str) -> None:
    """Fault A2: no button, and a crafted form sends nothing."""
    states = {"register": Status.DRAFT, "retry": Status.GONE}
    row = make_registration(status=states.get(action, Status.ACTIVE))
    target: models.Model = row.server if action == "discover" else row
    button = f'name="action" value="{action}"'
    permitted = browser(["view", NEEDED[action]])
    assert button in change_page(permitted, target)
    everything_else = browser([verb for verb in ALL if verb != NEEDED[action]])
    assert button not in change_page(everything_else, target)
    act(everything_else, action, target, _confirmed="1")
    assert events_of(row) == []
    assert history() == []


def test_the_permissions_are_documented() -> None:
    documented = re.findall(r"(?m)^\| `(\w+)` \|", DOCUMENTED.split("## Permissions")[1])
    models = apps.get_app_config("django_dcr").get_models()
    made = [name for model in models for name, _label in model._meta.permissions]
    assert sorted(documented) == sorted(made)


def test_users_with_view_permission_only_can_edit_nothing() -> None:
    server = make_server(initial_access_token="iat-1")
    client = browser(["view"])
    text = change_page(client, server)
    assert "<textarea" not in text
    assert "Initial access token: stored, encrypted" in cells(text)
    assert edited(client, server, name="Renamed").status_code == 403


def test_a_permission_is_checked_for_each_row(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault A2: a site's own rules on single rows hold for actions."""

    def has_permission(
        self: ClientRegistrationAdmin, request: HttpRequest, obj: Any = None
    ) -> bool:
        return obj is None or obj.owner != "secret"

    for name in ("has_view_permission", "has_change_permission"):
        monkeypatch.setattr(ClientRegistrationAdmin, name, has_permission)
    row = make_registration(owner="open")
    hidden = make_registration(server=row.server, owner="secret", client_id="c2")
    assert act(staff, "read", row, hidden).status_code == 403
    assert history() == []


def test_with_atomic_requests_the_actions_run_outside_a_transaction(
    staff: Client, mocked_responses: RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault L5."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    row = make_registration()
    mocked_responses.get(URI, json=client_information())
    assert notices(act(staff, "read", row)) == [f"“this site at {ISSUER}”: Read from the server."]


# -- deleting rows -------------------------------------------------------------------------------

KEPT = ["active", "registering", "revoking", "unknown", "gone"]


@pytest.mark.parametrize("status", KEPT)
def test_a_row_whose_client_may_exist_is_not_deleted(staff: Client, status: str) -> None:
    """Faults A3 and A4."""
    row = make_registration(status=status)
    for response in (
        staff.post(f"{REGISTRATIONS}{row.pk}/delete/", {"post": "yes"}),
        act(staff, "delete_selected", row, post="yes"),
    ):
        assert "revoke or forget it first" in response.content.decode()
    assert stored(row).status == status


@pytest.mark.parametrize("status", ["draft", "rejected", "revoked"])
def test_a_row_without_a_client_at_the_server_is_deleted(staff: Client, status: str) -> None:
    one = make_draft(status=status, live=None)
    assert "Are you sure" in page(staff, f"{REGISTRATIONS}{one.pk}/delete/")
    staff.post(f"{REGISTRATIONS}{one.pk}/delete/", {"post": "yes"})
    two = make_draft(server=one.server, status=status, live=None)
    assert "Are you sure" in act(staff, "delete_selected", two).content.decode()
    act(staff, "delete_selected", two, post="yes")
    assert not ClientRegistration.objects.exists()


def deletion(client: Client, *rows: ClientRegistration) -> tuple[str, dict[str, Any]]:
    """The page that refuses to delete the rows, and what its form would send."""
    if len(rows) == 1:
        text = page(client, f"{REGISTRATIONS}{rows[0].pk}/delete/")
    else:
        text = act(client, "delete_selected", *rows).content.decode()
    hidden = re.findall(r'<input type="hidden" name="(_\w+)" value="(\w+)"', text)
    names = {name for name, _value in hidden}
    return text, {name: [v for n, v in hidden if n == name] for name in names}


@pytest.mark.parametrize(
    ("action", "status", "outcome"),
    [
        ("revoke", 204, "Revoked: the server no longer has this client. The row was deleted."),
        ("forget", 204, "Closed: the server no longer has this client. The row was deleted."),
        ("forget", 403, "The row was deleted."),
    ],
)
def test_a_row_is_deleted_with_its_client_or_forgotten_and_the_message_says_which(
    staff: Client, mocked_responses: RequestsMock, action: str, status: int, outcome: str
) -> None:
    """Faults A3 and A4."""
    row = make_registration()
    text, fields = deletion(staff, row)
    assert "Revoke at the server, then delete" in text
    assert "Forget, then delete" in text
    question = staff.post(REGISTRATIONS, {**fields, "action": action}).content.decode()
    assert "are deleted here" in question
    assert 'name="_then_delete"' in question
    mocked_responses.delete(URI, status=status)
    answer = staff.post(REGISTRATIONS, {**fields, "action": action, "_confirmed": "1"})
    [message] = notices(answer)
    assert message.endswith(outcome)
    assert ("may still hold the client" in message) is (status == 403)
    assert not ClientRegistration.objects.exists()
    assert LogEntry.objects.order_by("pk").last().is_deletion()  # type: ignore[union-attr]


def test_a_row_whose_client_could_not_be_deleted_is_kept(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    one, two = rows_at_one_server(2)
    _text, fields = deletion(staff, one, two)
    mocked_responses.delete(one.registration_client_uri, status=403)
    mocked_responses.delete(two.registration_client_uri, status=204)
    failed, done = notices(
        staff.post(REGISTRATIONS, {**fields, "action": "revoke", "_confirmed": "1"})
    )
    assert "was deleted" not in failed
    assert "The row was deleted." in done
    assert list(ClientRegistration.objects.all()) == [one]


def test_a_row_on_which_nothing_was_done_is_not_deleted(staff: Client) -> None:
    row = make_draft()
    [message] = notices(act(staff, "read", row, _then_delete="1"))
    assert "has not been sent to the server yet" in message
    assert stored(row).status == "draft"


def test_deleting_with_the_client_requires_both_permissions() -> None:
    row = make_registration()
    text, _fields = deletion(browser(["view", "delete"]), row)
    assert "Nothing was deleted." in text
    assert "then delete" not in text
    client = browser(["view", "revoke"])
    assert act(client, "revoke", row, _then_delete="1", _confirmed="1").status_code == 403
    assert stored(row).status == "active"


def test_a_row_that_was_registered_meanwhile_is_not_deleted(rf: RequestFactory) -> None:
    row = make_draft()
    ClientRegistration.objects.update(status="active")
    ClientRegistrationAdmin(ClientRegistration, admin.site).delete_model(rf.post("/"), row)
    assert ClientRegistration.objects.exists()


def test_a_server_with_registrations_is_not_deleted(staff: Client) -> None:
    row = make_draft()
    response = staff.post(f"{SERVERS}{row.server_id}/delete/", {"post": "yes"})
    assert "protected" in response.content.decode()
    assert AuthorizationServer.objects.exists()

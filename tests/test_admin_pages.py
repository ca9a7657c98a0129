"""The pages never mislead: the next step is told to those who can take it, and it is true."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import site
from django.test import Client
from responses import RequestsMock

from django_dcr.admin import ClientRegistrationAdmin
from django_dcr.admin.actions import Outcome
from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    ISSUER,
    WELL_KNOWN,
    make_registration,
    make_server,
    server_metadata,
    stored,
)
from tests.test_admin import (
    ALL,
    NEW_SERVER,
    REGISTRATIONS,
    SERVERS,
    TABLE,
    act,
    asked,
    browser,
    cells,
    change_page,
    notices,
    page,
    staff,
)
from tests.test_admin_form import add

if TYPE_CHECKING:
    from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

__all__ = ["staff"]  # a fixture

pytestmark = pytest.mark.django_db


# -- the issuer ----------------------------------------------------------------------------------


def button(text: str) -> str:
    """The issuer that a button of the page offers, or ""."""
    found = re.search(r'<button type="submit"[^>]* name="_issuer" value="([^"]*)"', text)
    return found[1] if found else ""


def saved(client: Client, capture: DjangoCaptureOnCommitCallbacks, path: str, **fields: str) -> Any:
    with capture(execute=True):
        return client.post(f"{SERVERS}{path}/", {**NEW_SERVER, **fields})


def test_the_url_of_a_metadata_document_is_replaced_by_its_issuer_with_one_click(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    capture = django_capture_on_commit_callbacks
    text = saved(staff, capture, "add", issuer=WELL_KNOWN).content.decode()
    assert "is the address of a metadata document" in text
    assert button(text) == ISSUER
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    response = saved(staff, capture, "add", issuer=WELL_KNOWN, _issuer=ISSUER)
    server = AuthorizationServer.objects.get()
    assert (server.issuer, server.name, server.has_metadata) == (ISSUER, "Tenant", True)
    assert response["Location"] == f"{SERVERS}{server.pk}/change/"


def test_a_misspelt_issuer_of_a_stored_server_is_corrected_with_one_click(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    capture = django_capture_on_commit_callbacks
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    response = saved(staff, capture, "add", issuer=f"{ISSUER}/", initial_access_token="iat")
    warning = str(list(response.wsgi_request._messages)[1])
    assert button(warning) == ISSUER
    assert warning.count("slash at its end") == 1
    server = AuthorizationServer.objects.get()
    assert button(notices(act(staff, "discover", server, _from_page="1"))[0]) == ISSUER
    assert button(notices(act(staff, "discover", server))[0]) == "", "the list has no such form"
    response = saved(staff, capture, f"{server.pk}/change", issuer=f"{ISSUER}/", _issuer=ISSUER)
    assert response["Location"] == f"{SERVERS}{server.pk}/change/"
    assert notices(response)[-1] == "Fetched the server's metadata."
    server = AuthorizationServer.objects.get()
    assert (server.issuer, server.has_metadata, server.last_error) == (ISSUER, True, "")
    assert server.initial_access_token is not None, "it is the same server's"


def test_credentials_stored_for_one_server_go_to_no_other(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Fault L31."""
    server = make_server(initial_access_token="iat-1")
    other = "https://other.example"
    place = f"{other}/.well-known/oauth-authorization-server"
    mocked_responses.get(place, json=server_metadata(issuer=other))
    capture = django_capture_on_commit_callbacks
    saved(staff, capture, f"{server.pk}/change", issuer=other)
    moved = AuthorizationServer.objects.get()
    assert (moved.issuer, moved.initial_access_token) == (other, None)
    assert moved.metadata["issuer"] == other
    AuthorizationServer.objects.update(issuer="no issuer", initial_access_token="iat-2")
    saved(staff, capture, f"{server.pk}/change", issuer=other)
    assert AuthorizationServer.objects.get().initial_access_token is None


def test_no_issuer_is_suggested_that_is_not_allowed(
    staff: Client, mocked_responses: RequestsMock, settings: Settings
) -> None:
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    server = make_server()
    mocked_responses.get(WELL_KNOWN, json=server_metadata(issuer="https://other.example"))
    assert button(notices(act(staff, "discover", server, _from_page="1"))[0]) == ""
    settings.DCR_ALLOWED_ISSUERS = []
    assert button(notices(act(staff, "discover", server, _from_page="1"))[0])
    make_registration(server=server)
    assert button(notices(act(staff, "discover", server, _from_page="1"))[0]) == ""


def test_one_empty_field_is_one_error(staff: Client) -> None:
    response = staff.post(f"{SERVERS}add/", {**NEW_SERVER, "issuer": ""})
    assert response.context["errors"] == [["This field is required."]]


def test_a_reason_is_shown_once_and_cut_between_words() -> None:
    reason = "The server cannot be reached: " + "word " * 50
    outcome = Outcome(
        None, 40, reason, [("https://a", f"failed: {reason}"), ("https://b", "x" * 9)]
    )
    text = outcome.render(500)
    assert "<br>https://a failed<br>https://b xxxxxxxxx" in text
    long = Outcome(None, 40, "No.", [("https://a", f"failed: {reason}")]).render(500)
    assert long.rstrip().endswith(" word …")


# -- a server that will not do -------------------------------------------------------------------


def test_a_server_without_registration_is_a_warning_at_once(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    elsewhere = {"issuer": ISSUER, "token_endpoint": "https://token.example/t"}
    mocked_responses.get(WELL_KNOWN, json=elsewhere)
    response = saved(staff, django_capture_on_commit_callbacks, "add")
    [_added, warning] = response.wsgi_request._messages
    assert warning.level_tag == "warning"
    assert "It offers no registration: its metadata has no registration endpoint." in str(warning)
    assert 'lists these: ["https://token.example"].' in str(warning)
    shown = cells(change_page(staff, AuthorizationServer.objects.get()))
    assert "Registration: It offers no registration" in shown


def test_a_truncated_list_says_how_many_items_are_missing(staff: Client) -> None:
    scopes = [f"scope{number}" for number in range(103)]
    many = {f"x{number}_endpoint": "https://as.example/x" for number in range(120)}
    server = make_server(metadata={**server_metadata(scopes_supported=scopes), **many})
    shown = cells(change_page(staff, server))
    assert "scope99 and 3 more" in shown
    assert "Further endpoints and 21 more" in shown
    row = make_registration(server=server, deviations=[f"Oddity {n}." for n in range(101)])
    assert "Oddity 99. and 1 more" in cells(change_page(staff, row))


# -- who may -------------------------------------------------------------------------------------


def test_users_who_lack_a_permission_see_its_name(
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    clerk = browser(TABLE)
    response = saved(clerk, django_capture_on_commit_callbacks, "add")
    assert notices(response)[-1] == (
        "The server's metadata was not fetched. “Discover again” requires the permission “Can ask "
        "servers what they offer”, which you do not have: ask somebody who has it, such as a "
        "superuser."
    )
    server = AuthorizationServer.objects.get()
    response = add(clerk, server, redirect_uris=CALLBACK)
    added, hint = notices(response)
    assert "was added successfully" in added
    assert hint.startswith(
        "Nothing was sent to the server yet. “Register” requires the permission “Can reg"
    )
    shown = cells(change_page(clerk, ClientRegistration.objects.get()))
    assert "do not have the permissions for: Register (“Can register clients at their serv" in shown
    assert "Press “" not in shown
    shown = cells(change_page(browser(ALL), ClientRegistration.objects.get()))
    assert "You do not have" not in shown


# -- what took the place -------------------------------------------------------------------------


def test_a_replaced_row_links_to_its_successor_and_offers_no_action(
    staff: Client,
) -> None:
    old = make_registration(status="unknown", live=None, registration_access_token=None)
    new = make_registration(server=old.server)
    text = change_page(staff, old)
    assert "kept as a record" in text
    assert f'<a href="{REGISTRATIONS}{new.pk}/change/">replaced by {new.pk}</a>' in text
    assert 'name="action"' not in text
    assert f"{old.pk} {ISSUER} this site Shop ✕ unknown replaced by {new.pk}" in cells(
        page(staff, REGISTRATIONS)
    )
    text = change_page(staff, new)
    assert f'<a href="{REGISTRATIONS}{old.pk}/change/">in place of {old.pk}</a>' in text
    assert "replaced by" not in text


def test_trying_again_without_success_redirects_to_the_new_row_too(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    old = make_registration(status="unknown", client_id="")
    mocked_responses.post(ENDPOINT, status=400, json={"error": "invalid_client_metadata"})
    response = act(staff, "retry", old, _from_page="1", _confirmed="1")
    new = ClientRegistration.objects.get(status="rejected")
    assert response["Location"] == f"{REGISTRATIONS}{new.pk}/change/"
    assert notices(response)[0].endswith(f" Registration {old.pk} was replaced by {new.pk}.")


def test_an_earlier_replacement_is_not_reported_again(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    old = make_registration(status="gone", live=None)
    make_registration(server=old.server)
    response = act(staff, "forget", old, _from_page="1", _confirmed="1")
    assert response["Location"] == f"{REGISTRATIONS}{old.pk}/change/"
    assert "was replaced by" not in notices(response)[0]


# -- the form of a registration ------------------------------------------------------------------


def faults(response: Any) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = response.context["adminform"].form.errors
    return errors


def test_each_error_is_shown_at_its_own_field(staff: Client) -> None:
    response = add(
        staff,
        make_server(),
        redirect_uris=f"not a url\n{CALLBACK}\nhttp://site.example/",
        requested_metadata='{"logo_uri": "x"}',
    )
    found = faults(response)
    assert set(found) == {"redirect_uris", "requested_metadata"}
    first, second = found["redirect_uris"]
    assert first.startswith('In redirect_uris, "not a url" is not an absolute URL; write it in')
    assert second.startswith('In redirect_uris, "http://site.example/" is http on another machine')
    assert found["requested_metadata"] == ["The member logo_uri must be an absolute https URL."]


def test_an_error_in_the_json_says_where_it_is(staff: Client) -> None:
    server = make_server()
    response = add(staff, server, requested_metadata='{"redirect_uris": ["x"]}')
    assert set(faults(response)) == {"requested_metadata"}
    response = add(staff, server, requested_metadata='{"logo_uri": "x",\n "tos_uri": oops}')
    assert faults(response) == {
        "requested_metadata": [
            "Enter a valid JSON.",
            "The mistake is in line 2, column 13, at “oops}”.",
        ]
    }
    response = add(staff, server, requested_metadata='{"logo_uri":')
    assert faults(response)["requested_metadata"][1] == "The text ends too early."


def test_an_unusable_authentication_method_is_marked_and_a_warning(
    staff: Client,
) -> None:
    metadata = server_metadata(
        token_endpoint_auth_methods_supported=["tls_client_auth", "client_secret_post"]
    )
    server = make_server(metadata=metadata)
    shown = cells(page(staff, f"{REGISTRATIONS}add/?server={server.pk}"))
    assert "client_secret_post tls_client_auth (only with code of your own)" in shown
    fields = {"redirect_uris": CALLBACK, "token_endpoint_auth_method": "tls_client_auth"}
    response = add(staff, server, **fields)
    assert notices(response)[1].startswith("This app cannot authenticate by tls_client_auth,")
    row = ClientRegistration.objects.get()
    assert "Warnings: This app cannot authenticate by tls_client_auth" in cells(
        change_page(staff, row)
    )
    response = staff.post(f"{REGISTRATIONS}{row.pk}/change/", fields)
    assert len(notices(response)) == 1, "nothing was changed, and nothing is said again"


def test_metadata_that_the_app_chose_is_shown_as_requested_and_marked(staff: Client) -> None:
    shown = cells(change_page(staff, make_registration()))
    assert (
        "token_endpoint_auth_method client_secret_basic chosen by this site client_secret_basic"
    ) in shown


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "Shop"),
        ({"metadata": {}, "requested_metadata": {"client_name": "Wished"}}, "Wished"),
        ({"metadata": {}, "requested_metadata": []}, "-"),
    ],
)
def test_the_list_shows_the_name_of_the_client(values: dict[str, Any], name: str) -> None:
    pages = ClientRegistrationAdmin(ClientRegistration, site)
    assert pages.client_name(make_registration(**values)) == name


# -- questions -----------------------------------------------------------------------------------


def test_confirmations_and_secrets_have_breadcrumbs(staff: Client) -> None:
    row = make_registration()
    text = asked(staff, "revoke", row, _from_page="1")
    assert f"Client registrations this site at {ISSUER} Revoke" in text
    other = make_registration(server=row.server, owner="b", client_id="c2")
    assert "Client registrations Revoke" in asked(staff, "revoke", row, other)
    for fields in ({}, {"_confirmed": "1"}):
        response = staff.post(f"{REGISTRATIONS}{row.pk}/reveal/", fields)
        assert f"{ISSUER} Reveal the secret" in cells(response.content.decode())


def test_the_buttons_of_final_actions_look_different(staff: Client) -> None:
    row = make_registration()
    text = change_page(staff, row)
    final = re.findall('value="(\\w+)" class="button dcr-final"', text)
    assert final == ["replace", "revoke", "forget"]
    question = act(staff, "revoke", row).content.decode()
    assert 'class="button dcr-final" value="Revoke"' in question
    question = act(staff, "update", row, _confirmed="").content.decode()
    assert "dcr-final" not in question


# -- the history ---------------------------------------------------------------------------------


def test_the_history_is_on_the_page_newest_first_and_cannot_be_edited(
    staff: Client,
) -> None:
    row = make_registration()
    row.events.create(action="register", outcome="active", actor="alice")
    row.events.create(action="read", outcome="gone", error="RegistrationGoneError")
    looker = browser(["view"])
    for client in (staff, looker):
        text = change_page(client, row)
        table = cells(text.partition('id="events-group"')[2].partition("</table>")[0])
        assert "this site's code Read from the server gone (RegistrationGoneError)" in table
        assert table.index("Read from the server") < table.index("alice Register active")
        assert not re.findall('name="events-[0-9]+-(?!id|registration)', text)
        assert 'name="events-MAX_NUM_FORMS" value="0"' in text, "no script adds rows"
    forged = {
        "events-TOTAL_FORMS": "3",
        "events-INITIAL_FORMS": "2",
        "events-0-id": str(row.events.order_by("-pk")[0].pk),
        "events-0-DELETE": "on",
        "events-0-actor": "mallory",
        "events-2-action": "renew",
    }
    fields = {"client_name": "Other", "redirect_uris": CALLBACK, **forged}
    staff.post(f"{REGISTRATIONS}{row.pk}/change/", fields)
    assert stored(row).requested_metadata["client_name"] == "Other"
    assert [event.actor for event in row.events.order_by("pk")] == ["alice", ""]
    text = page(staff, f"{REGISTRATIONS}add/")
    assert "events-group" not in text

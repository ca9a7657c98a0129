"""Protected resources in the admin: what was found, tried and refused, and the choice."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Permission, User
from django.test import Client
from responses import RequestsMock

from django_dcr.admin import ProtectedResourceAdmin
from django_dcr.models import AuthorizationServer, ProtectedResource
from tests.factories import ISSUER
from tests.test_admin import HOSTILE, cells, notices, page
from tests.test_services_resources import (
    HOST,
    OTHER,
    PLACE,
    RESOURCE,
    ROOT,
    document,
    make_resource,
)

if TYPE_CHECKING:
    from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

pytestmark = pytest.mark.django_db

RESOURCES = "/admin/django_dcr/protectedresource/"
NEW = {"resource": RESOURCE, "alias": "", "trusted_origins": "[]"}


def browser(*verbs: str) -> Client:
    """A browser of somebody who may do this to resources."""
    person = User.objects.create(username="-".join(verbs), is_staff=True)
    names = [f"{verb}_protectedresource" for verb in verbs]
    person.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def staff() -> Client:
    return browser("add", "change", "delete", "view", "discover")


def change_page(client: Client, row: ProtectedResource) -> str:
    return page(client, f"{RESOURCES}{row.pk}/change/")


def edited(client: Client, row: ProtectedResource, **fields: str) -> Any:
    values = {"pinned_issuer": "", "alias": "", "trusted_origins": "[]", **fields}
    return client.post(f"{RESOURCES}{row.pk}/change/", values)


def discover(client: Client, row: ProtectedResource) -> Any:
    fields = {"action": "discover", ACTION_CHECKBOX_NAME: [row.pk], "_from_page": "1"}
    return client.post(RESOURCES, fields)


def choices(text: str) -> list[str]:
    found = re.search(r'(?s)<select name="pinned_issuer".*?</select>', text)
    assert found
    return re.findall(r'<option value="(.*?)"', found[0])


def test_adding_a_resource_discovers_at_once(
    staff: Client,
    mocked_responses: RequestsMock,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    mocked_responses.get(PLACE, json=document(scopes_supported=["read"]))
    with django_capture_on_commit_callbacks(execute=True):
        response = staff.post(f"{RESOURCES}add/", NEW)
    row = ProtectedResource.objects.get()
    assert response["Location"] == f"{RESOURCES}{row.pk}/change/"
    assert notices(response)[1:] == ["Fetched the resource's metadata."]
    shown = cells(change_page(staff, row))
    for part in (ISSUER, "read", PLACE, RESOURCE):
        assert part in shown


def test_users_who_may_not_discover_see_the_permission(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        response = browser("add", "change").post(f"{RESOURCES}add/", NEW)
    assert "The resource's metadata was not fetched." in notices(response)[1]
    assert "Can ask resources for their metadata" in notices(response)[1]


def test_urls_without_a_document_are_shown(staff: Client, mocked_responses: RequestsMock) -> None:
    row = ProtectedResource.objects.for_resource(RESOURCE)
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, body="<html>")
    [message] = notices(discover(staff, row))
    assert "No metadata was found." in message
    shown = cells(change_page(staff, row))
    assert f"{PLACE} answered 404" in shown
    assert f"{ROOT} is not a JSON object" in shown
    assert "no metadata document of this resource was read" in shown


def test_an_error_without_attempts_is_shown_without_them(staff: Client) -> None:
    row = make_resource(last_error="The site forbids it.")
    assert "The site forbids it." in cells(change_page(staff, row))


def test_refused_servers_are_shown_with_the_reason(staff: Client, settings: Settings) -> None:
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    row = make_resource(OTHER, "http://as.example")
    shown = cells(change_page(staff, row))
    assert f"{OTHER}: The issuer {OTHER} is not in DCR_ALLOWED_ISSUERS" in shown
    assert "http://as.example: The issuer is not https" in shown
    assert "names no authorization server that this site allows" in shown
    assert choices(change_page(staff, row)) == [""]


def test_a_server_is_chosen_among_those_that_are_named_and_allowed(
    staff: Client, mocked_responses: RequestsMock
) -> None:
    """R-042."""
    AuthorizationServer.objects.create(issuer="https://off.example", enabled=False)
    row = make_resource(ISSUER, OTHER, "https://off.example")
    assert "names 2 authorization servers" in cells(change_page(staff, row))
    assert choices(change_page(staff, row)) == ["", ISSUER, OTHER]
    assert edited(staff, row, pinned_issuer=OTHER).status_code == 302
    row.refresh_from_db()
    assert (row.pinned_issuer, row.choose_issuer()) == (OTHER, OTHER)
    mocked_responses.get(PLACE, json=document(ISSUER))
    [message] = notices(discover(staff, row))
    assert "is not among those that the resource names" in message
    assert choices(change_page(staff, row)) == ["", ISSUER, OTHER]
    assert edited(staff, row).status_code == 302
    row.refresh_from_db()
    assert row.choose_issuer() == ISSUER


def test_a_server_inside_the_network_is_pinned_by_a_person(staff: Client, settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["https://login.internal"]
    inside = "https://login.internal/realm"
    row = make_resource(ISSUER, inside)
    assert choices(change_page(staff, row)) == ["", ISSUER, inside]
    assert f"{inside} (inside your network)" in change_page(staff, row)
    assert row.choose_issuer() == ISSUER
    edited(staff, row, pinned_issuer=inside)
    row.refresh_from_db()
    assert row.choose_issuer() == inside
    assert "(inside your network)" not in change_page(staff, row)


def test_an_alias_is_accepted_on_the_page(staff: Client, mocked_responses: RequestsMock) -> None:
    """R-033."""
    row = ProtectedResource.objects.for_resource(RESOURCE)
    response = edited(staff, row, alias=OTHER)
    assert "Write an address on the same origin" in cells(response.content.decode())
    assert edited(staff, row, alias=HOST).status_code == 302
    mocked_responses.get(PLACE, json=document(resource=HOST))
    assert notices(discover(staff, row))[-1].endswith("Fetched the resource's metadata.")
    assert HOST in cells(change_page(staff, row))


def test_the_url_of_a_stored_resource_cannot_be_changed(staff: Client) -> None:
    """What is stored of it holds for no other."""
    row = make_resource()
    edited(staff, row, resource=OTHER)
    row.refresh_from_db()
    assert row.resource == RESOURCE


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"resource": f"{RESOURCE}#a"}, "has a fragment"),
        ({"resource": "http://mcp.example/mcp"}, "is not https"),
        ({"resource": OTHER}, "already listed"),
        ({"alias": "https://evil.example"}, "same origin"),
        ({"trusted_origins": '["https://a.example/path"]'}, "is not an origin"),
    ],
    ids=str,
)
def test_an_invalid_resource_is_refused_with_a_reason(
    staff: Client, fields: dict[str, str], error: str
) -> None:
    make_resource(resource=OTHER)
    response = staff.post(f"{RESOURCES}add/", {**NEW, **fields})
    assert response.status_code == 200
    assert error in cells(response.content.decode())
    assert ProtectedResource.objects.count() == 1


def test_the_list_shows_what_each_resource_names(
    staff: Client, django_assert_max_num_queries: Any
) -> None:
    make_resource(ISSUER, OTHER)
    make_resource(resource=OTHER, metadata={})
    for number in range(10):
        make_resource(OTHER, resource=f"{HOST}/{number}")
    with django_assert_max_num_queries(10):
        shown = cells(page(staff, RESOURCES))
    assert f"{ISSUER} +1" in shown
    assert f"{RESOURCE} {ISSUER}" in " ".join(shown.split())


def test_no_markup_of_a_resource_is_rendered(staff: Client) -> None:
    issuers = [f"https://as.example/{HOSTILE}", HOSTILE]
    row = make_resource(*issuers, last_error=HOSTILE)
    ProtectedResource.objects.update(
        metadata=document(*issuers, scopes_supported=[HOSTILE]),
        failure={"attempts": [[HOSTILE, HOSTILE]], "silent": False, "task": "discover",
                 "conditions": "", "pause": 1},
    )  # fmt: skip
    for text in (change_page(staff, row), page(staff, RESOURCES)):
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert html.escape("<script>alert") in text


def test_the_page_links_to_the_known_servers(staff: Client) -> None:
    server = AuthorizationServer.objects.create(issuer=ISSUER, name="Bank")
    row = make_resource(known_issuers=[ISSUER, OTHER])
    link = f'<a href="/admin/django_dcr/authorizationserver/{server.pk}/change/"'
    assert link not in change_page(staff, row)  # who may see no servers
    person = User.objects.get(username="add-change-delete-view-discover")
    person.user_permissions.add(Permission.objects.get(codename="view_authorizationserver"))
    assert f'{link} class="button">Bank</a>' in change_page(staff, row)


def test_a_site_without_the_admin_of_servers_has_no_links_to_them(rf: Any) -> None:
    pages = ProtectedResourceAdmin(ProtectedResource, AdminSite())
    assert pages.links(rf.get("/"), make_resource(known_issuers=[ISSUER])) == []


def test_users_with_view_permission_only_see_the_row(staff: Client) -> None:
    row = make_resource(ISSUER, OTHER, pinned_issuer=OTHER)
    shown = cells(change_page(browser("view"), row))
    assert OTHER in shown
    assert "<select" not in shown


def test_a_pin_stays_a_choice_where_its_server_is_refused(
    staff: Client, settings: Settings
) -> None:
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    row = make_resource(ISSUER, OTHER, pinned_issuer=OTHER)
    assert choices(change_page(staff, row)) == ["", ISSUER, OTHER]

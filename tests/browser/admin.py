"""The admin in a real browser: Debian's Chromium on the example site, driven by playwright.

Not collected by its name: ``make browser`` runs it. Every page that a test comes by is looked at
by axe-core and must fit the window, and nothing may break the Content-Security-Policy. With
SCREENSHOTS=FOLDER each page is photographed.
"""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Browser, expect

from tests.browser.conftest import LOOKS, Site, Visitor, name_of, visit

pytestmark = pytest.mark.network


def add_server(visitor: Visitor) -> None:
    visitor.go("authorizationserver/add/")
    visitor.page.fill("#id_issuer", visitor.site.issuer)
    visitor.page.fill("#id_name", "Example bank")
    visitor.press("Save")
    visitor.sees("Fetched the server's metadata.")


def add_draft(visitor: Visitor, owner: str) -> None:
    visitor.page.get_by_role("link", name="Register a client here").click()
    visitor.page.fill("#id_owner", owner)
    visitor.page.fill("#id_client_name", "Shop")
    visitor.page.fill("#id_redirect_uris", "https://shop.example/callback")
    visitor.look_at("registration-add")
    visitor.press("Save")


@pytest.mark.parametrize("visitor", LOOKS, ids=name_of, indirect=True)
def test_a_registration_goes_through_its_life_cycle_on_the_pages(visitor: Visitor) -> None:
    site, page = visitor.site, visitor.page
    visitor.go("authorizationserver/add/")
    visitor.look_at("server-add")
    add_server(visitor)
    visitor.look_at("server")
    add_draft(visitor, "acme")
    visitor.sees("Nothing was sent to the server yet")
    visitor.look_at("registration-draft")
    visitor.press("Register")
    visitor.sees("Registered at the server.")
    visitor.look_at("registration-active")
    own_page = page.url

    site.of_clients("UPDATE oauth2_provider_application SET name = 'Renamed by its operator'")
    visitor.press("Read from the server")
    expect(page.locator(".dcr-differs")).to_contain_text("Renamed by its operator")
    visitor.look_at("registration-drift")
    visitor.go("clientregistration/")
    expect(page.locator(".field-drifted")).to_contain_text("differs")
    visitor.look_at("registrations")

    page.goto(own_page)
    visitor.press("Update at the server")
    visitor.sees("Updated at the server.")
    expect(page.locator(".dcr-differs")).to_have_count(0)
    visitor.press("Renew the secret")
    visitor.sees("The server issued no new secret.")
    visitor.look_at("renewal-refused")

    visitor.press("Reveal the secret")
    visitor.look_at("reveal-question")
    visitor.press("Reveal the secret")
    secret = page.locator("#dcr-secret").inner_text()
    assert len(secret) > 20
    visitor.look_at("reveal")
    visitor.press("Copy")
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.get_by_role("link", name="Back").click()
    assert secret not in page.content()
    visitor.look_at("registration-history")

    visitor.press("Revoke")
    visitor.look_at("revoke-question")
    visitor.press("Revoke")
    visitor.sees("Revoked: the server no longer has this client.")
    visitor.look_at("registration-revoked")


@pytest.mark.parametrize("visitor", LOOKS, ids=name_of, indirect=True)
def test_each_refusal_says_what_to_do_next(visitor: Visitor, nobody: str) -> None:
    page = visitor.page
    visitor.go("authorizationserver/add/")
    page.fill("#id_issuer", "as.example")
    page.fill("#id_client_metadata", "{")
    visitor.press("Save")
    visitor.sees("Enter a valid JSON.")
    visitor.look_at("server-mistakes")
    page.fill("#id_issuer", f"{nobody}/tenant")
    page.fill("#id_client_metadata", "{}")
    visitor.press("Save")
    visitor.sees(f"{nobody}/tenant/.well-known/openid-configuration answered 404")
    visitor.look_at("server-not-found")

    add_server(visitor)
    add_draft(visitor, "acme")
    page.fill("#id_redirect_uris", "http://shop.example/callback")
    visitor.press("Save")
    visitor.sees("Please correct the error below.")
    visitor.look_at("registration-mistakes")
    page.fill("#id_redirect_uris", "https://shop.example/callback")
    for grant in ("authorization_code", "client_credentials"):
        page.check(f"input[name=grant_types][value={grant}]")
    visitor.press("Save and continue editing")
    visitor.press("Register")
    expect(page.locator(".field-state")).to_contain_text("rejected")
    expect(page.locator(".field-next_step")).to_contain_text("Edit the metadata and register again")
    visitor.look_at("registration-rejected")


@pytest.mark.parametrize("visitor", LOOKS, ids=name_of, indirect=True)
def test_a_client_of_the_servers_console_is_entered_and_managed(visitor: Visitor) -> None:
    page, issuer = visitor.page, visitor.site.issuer
    add_server(visitor)
    wishes = {"client_name": "Shop", "redirect_uris": ["https://shop.example/callback"]}
    client = requests.post(f"{issuer}/register/", json=wishes, timeout=30).json()

    visitor.go("clientregistration/")
    page.get_by_role("link", name="Enter a client from a server's console").click()
    visitor.look_at("adopt")
    page.fill("#id_issuer", issuer)
    page.fill("#id_client_id", client["client_id"])
    page.fill("#id_client_secret", "********")
    page.fill("#id_redirect_uris", "https://shop.example/callback")
    visitor.press("Store this client")
    visitor.sees("The client_secret is masked, as the server's console shows it")
    assert page.input_value("#id_client_id") == client["client_id"]
    assert page.input_value("#id_client_secret") == ""
    visitor.look_at("adopt-refused")

    page.fill("#id_client_secret", f" {client['client_secret']} ")
    page.fill("#id_registration_client_uri", client["registration_client_uri"])
    page.fill("#id_registration_access_token", client["registration_access_token"])
    visitor.press("Store this client")
    visitor.sees("The client is stored and used from now on.")
    expect(page.locator(".field-how")).to_contain_text("pre-registered")
    assert client["client_secret"] not in page.content()
    visitor.look_at("adopted")
    visitor.press("Read from the server")
    visitor.sees("Read from the server.")
    visitor.go("clientregistration/?mechanism__exact=pre_registered")
    expect(page.locator(".field-mechanism")).to_have_text("pre-registered")
    visitor.look_at("registrations-adopted")


@pytest.mark.parametrize("visitor", [LOOKS[0], LOOKS[3]], ids=name_of, indirect=True)
def test_a_misspelt_issuer_is_corrected_with_one_click(visitor: Visitor) -> None:
    issuer = visitor.site.issuer
    for typed in (f"{issuer}/", issuer.replace("/o", "/.well-known/oauth-authorization-server/o")):
        visitor.site.empty()
        visitor.go("authorizationserver/add/")
        visitor.page.fill("#id_issuer", typed)
        visitor.press("Save")
        visitor.look_at("server-misspelt")
        visitor.press(f"Use {issuer}")
        visitor.sees("Fetched the server's metadata.")
        assert visitor.page.input_value("#id_issuer") == issuer


def test_a_client_that_the_server_lost_is_reported_and_registered_again(visitor: Visitor) -> None:
    site, page = visitor.site, visitor.page
    add_server(visitor)
    add_draft(visitor, "acme")
    visitor.press("Register")
    own_page = page.url
    site.sql("DELETE FROM oauth2_provider_accesstoken")
    visitor.press("Read from the server")
    expect(page.locator(".field-state")).to_contain_text("gone")
    visitor.look_at("registration-gone")
    page.click(".deletelink")
    visitor.sees("Nothing was deleted.")
    visitor.look_at("delete-refused")
    page.goto(own_page)
    visitor.press("Try again")
    visitor.look_at("retry-question")
    visitor.press("Try again")
    expect(page.locator(".field-state")).to_contain_text("active")

    page.goto(own_page)
    page.click(".deletelink")
    visitor.press("Forget, then delete")
    visitor.look_at("forget-question")
    visitor.press("Forget")
    visitor.sees("The row was deleted.")
    visitor.look_at("forgotten")


def test_the_buttons_are_reachable_by_keyboard(visitor: Visitor) -> None:
    page = visitor.page
    add_server(visitor)
    add_draft(visitor, "acme")
    expect(page.get_by_role("button", name="Register", exact=True)).to_be_visible()
    page.wait_for_load_state()  # before there is a body, nothing has the focus
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        if reached[-1] == "Register":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) != "none"  # where one is can be seen
    page.keyboard.press("Enter")
    visitor.sees("Registered at the server.")


def test_users_with_view_permission_only_see_no_button(chromium: Browser, site: Site) -> None:
    admin = visit(chromium, site, *LOOKS[0])
    admin.log_in("admin")
    add_server(admin)
    add_draft(admin, "acme")
    guest = visit(chromium, site, *LOOKS[2])
    guest.log_in("guest")
    guest.page.goto(admin.page.url)
    guest.look_at("registration-guest")
    expect(guest.page.locator(".dcr-actions button")).to_have_count(0)
    guest.sees("You do not have the permissions for: Register (“Can register clients at their")
    assert guest.complaints == admin.complaints == []


def test_a_secret_is_shown_without_scripts_and_not_by_get(
    chromium: Browser, visitor: Visitor
) -> None:
    add_server(visitor)
    add_draft(visitor, "acme")
    visitor.press("Register")
    plain = visit(chromium, visitor.site, *LOOKS[2], scripts=False)
    plain.log_in("admin")
    plain.page.goto(visitor.page.url)
    plain.press("Reveal the secret")
    plain.press("Reveal the secret")
    expect(plain.page.locator("#dcr-secret")).to_be_visible()
    expect(plain.page.get_by_role("button", name="Copy")).to_have_count(0)
    address = plain.page.url
    plain.page.goto(address)
    assert plain.page.url == address.replace("reveal", "change")


def test_the_list_asks_for_confirmation(visitor: Visitor) -> None:
    page = visitor.page
    add_server(visitor)
    add_draft(visitor, "acme")
    visitor.go("clientregistration/")
    page.check(".action-select")
    page.select_option("select[name=action]", "register")
    page.click("button[name=index]")
    visitor.sees(f"A client is registered at {visitor.site.issuer}.")
    visitor.look_at("register-question")
    visitor.press("Register")
    visitor.sees("Registered at the server.")


def test_faults_of_the_app_and_of_django_are_distinguished(chromium: Browser, site: Site) -> None:
    visitor = visit(chromium, site, *LOOKS[0])
    visitor.log_in("admin")
    visitor.go("clientregistration/")
    add = "html => document.querySelector('#content').insertAdjacentHTML('beforeend', html)"
    visitor.page.evaluate(add, "<img src='/static/admin/img/icon-yes.svg'>")
    with pytest.raises(AssertionError, match="image-alt"):
        visitor.look_at("image-without-text")
    visitor.page.evaluate(add, "<p style='color: red'>red</p>")
    visitor.page.wait_for_timeout(100)
    assert "violates style-src-attr" in str(visitor.complaints)
    visitor.page.context.close()

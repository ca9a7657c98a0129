"""A user's login in a real browser: the example site is the client and the server.

``make browser`` runs it, and what is said in ``admin.py`` holds here, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import LOOKS, Site, Visitor, name_of, visit

pytestmark = pytest.mark.network


@pytest.fixture
def stranger(chromium: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Someone whom neither the site nor its server knows yet."""
    stranger = visit(chromium, site, *getattr(request, "param", LOOKS[0]))
    stranger.page.goto(site.address)
    yield stranger
    complaints = stranger.complaints
    stranger.page.context.close()
    assert complaints == []


def test_nothing_is_registered_before_someone_logs_in(stranger: Visitor) -> None:
    expect(stranger.page.get_by_role("listitem").first).to_contain_text("Not registered yet")


@pytest.mark.parametrize("stranger", LOOKS, ids=name_of, indirect=True)
def test_a_user_logs_in_with_the_client_that_a_click_registered(stranger: Visitor) -> None:
    page, site = stranger.page, stranger.site
    stranger.look_at("login-servers")
    stranger.press(f"Log in at {site.issuer}")
    expect(page.locator("header")).to_contain_text("Example server")
    stranger.look_at("login-server")
    page.fill("#id_username", "guest")
    page.fill("#id_password", "guest")
    stranger.press("Log in")
    expect(page.get_by_role("heading")).to_have_text("May “Example site” log you in?")
    expect(page.locator("main")).to_contain_text("Your name")
    stranger.look_at("login-consent")
    stranger.press("Yes, log me in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, guest")
    assert page.url == f"{site.address}/"
    expect(page.locator("main")).to_contain_text(site.issuer)
    [(client_id,)] = site.sql("SELECT client_id FROM django_dcr_clientregistration")
    expect(page.locator("dl")).to_contain_text(str(client_id))
    stranger.look_at("login-done")

    stranger.press("Log out")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    expect(page.get_by_role("listitem").first).to_contain_text(f"Active: client {client_id}")
    stranger.press(f"Log in at {site.issuer}")  # with the same client
    stranger.press("Yes, log me in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello, guest")
    assert site.sql("SELECT count(*) FROM django_dcr_clientregistration") == [(1,)]


def log_in(stranger: Visitor) -> None:
    stranger.press(f"Log in at {stranger.site.issuer}")
    stranger.page.fill("#id_username", "guest")
    stranger.page.fill("#id_password", "guest")
    stranger.press("Log in")


def test_a_user_who_denies_access_sees_why_the_login_failed(stranger: Visitor) -> None:
    log_in(stranger)
    stranger.press("No")
    alert = stranger.page.get_by_role("alert")
    expect(alert).to_have_text("Not logged in. You said no at the server.")
    stranger.look_at("login-refused")


def test_a_client_that_the_server_lost_while_a_user_logs_in_is_gone(stranger: Visitor) -> None:
    log_in(stranger)
    consent = stranger.page.url
    stranger.site.of_clients("UPDATE oauth2_provider_application SET client_secret = 'another'")
    stranger.page.goto(consent)
    stranger.press("Yes, log me in")
    expect(stranger.page.get_by_role("alert")).to_contain_text("Not logged in. invalid_client")
    [(error,)] = stranger.site.sql("SELECT last_error FROM django_dcr_clientregistration")
    assert "The token endpoint refused" in str(error)


def test_a_wrong_password_stays_at_the_server(stranger: Visitor) -> None:
    stranger.press(f"Log in at {stranger.site.issuer}")
    stranger.page.fill("#id_username", "guest")
    stranger.page.fill("#id_password", "wrong")
    stranger.press("Log in")
    expect(stranger.page.get_by_role("alert")).to_contain_text("correct username and password")
    stranger.look_at("login-mistake")

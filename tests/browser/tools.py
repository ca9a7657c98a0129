"""A tool server is connected by its address in a real browser, used, and disconnected.

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
    """Someone on the page where tool servers are connected."""
    stranger = visit(chromium, site, *getattr(request, "param", LOOKS[0]))
    stranger.page.goto(site.address)
    stranger.page.get_by_role("link", name="connect a tool server").click()
    yield stranger
    complaints = stranger.complaints
    stranger.page.context.close()
    assert complaints == []


def connect(stranger: Visitor) -> None:
    stranger.press("Connect")
    stranger.page.fill("#id_username", "guest")
    stranger.page.fill("#id_password", "guest")
    stranger.press("Log in")


def has_good_tokens(site: Site) -> bool:
    [(count,)] = site.sql("SELECT count(*) FROM oauth2_provider_accesstoken WHERE user_id NOT NULL")
    return bool(count)


@pytest.mark.parametrize("stranger", LOOKS, ids=name_of, indirect=True)
def test_a_tool_is_called_at_a_server_of_which_only_the_address_was_known(
    stranger: Visitor,
) -> None:
    page, site = stranger.page, stranger.site
    stranger.look_at("tools-connect")
    connect(stranger)
    expect(page.get_by_role("heading")).to_have_text("May “Example site” use your notes?")
    expect(page.locator("main")).to_contain_text("Read your notes")
    expect(page.locator("main")).not_to_contain_text("Write notes")
    stranger.look_at("tools-consent")
    stranger.press("Yes, it may")
    expect(page.get_by_role("heading", level=1)).to_have_text("Connected")
    stranger.look_at("tools-connected")
    stranger.press("Call whoami")
    expect(page.get_by_role("status")).to_contain_text("You are guest.")
    stranger.look_at("tools-called")

    page.get_by_label("Text").fill("Buy carrots.")
    stranger.press("Call remember")
    expect(page.locator("main")).to_contain_text("Write notes")
    stranger.look_at("tools-step-up")
    stranger.press("Yes, it may")
    expect(page.locator("dl")).to_contain_text("tools:write")
    page.get_by_label("Text").fill("Buy carrots.")
    stranger.press("Call remember")
    expect(page.get_by_role("status")).to_contain_text("Noted.")

    page.get_by_role("link", name="All tool servers").click()
    stranger.look_at("tools-list")
    assert has_good_tokens(site)
    [(kept,)] = site.sql("SELECT access_token FROM example_connection")
    tokens = [token for (token,) in site.sql("SELECT token FROM oauth2_provider_accesstoken")]
    assert not [token for token in tokens if str(token) in str(kept)]
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status")).to_contain_text("Disconnected from")
    stranger.look_at("tools-disconnected")
    assert not has_good_tokens(site)
    assert site.sql("SELECT count(*) FROM example_connection") == [(0,)]


def test_a_user_who_denies_access_sees_why_the_login_failed(stranger: Visitor) -> None:
    connect(stranger)
    stranger.press("No")
    expect(stranger.page.get_by_role("alert")).to_have_text(
        "Not connected. You said no at the server."
    )
    stranger.look_at("tools-refused")


def test_a_url_that_is_not_a_tool_server_is_explained(stranger: Visitor) -> None:
    stranger.page.get_by_label("Address").fill(stranger.site.address)
    stranger.press("Connect")
    expect(stranger.page.get_by_role("alert")).to_contain_text("Not connected. No tool server")
    stranger.look_at("tools-mistake")


def test_a_connection_of_another_user_is_not_found(
    stranger: Visitor, chromium: Browser, site: Site
) -> None:
    connect(stranger)
    stranger.press("Yes, it may")
    expect(stranger.page.get_by_role("heading", level=1)).to_have_text("Connected")
    other = chromium.new_context().new_page()
    answer = other.goto(stranger.page.url)
    assert answer is not None
    assert answer.status == 404
    other.context.close()

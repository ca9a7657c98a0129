"""The admin in a real browser: Debian's Chromium on the example site, driven by playwright.

Not collected by its name: ``make browser`` runs it. Every page that a test comes by is looked at
by axe-core and must fit the window, and nothing may break the Content-Security-Policy. With
SCREENSHOTS=FOLDER each page is photographed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

pytestmark = pytest.mark.network

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


def _name(look: object) -> str:
    return "-".join(map(str, look)) if isinstance(look, tuple) else str(look)


class Site:
    """A running site: its address, and the tables of the authorization server that it is, too."""

    def __init__(self, address: str, database: Path) -> None:
        self.address = address
        self.issuer = f"{address}/o"
        self.database = database

    def sql(self, statement: str, *parameters: object) -> None:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            connection.execute(statement, parameters)

    def empty(self) -> None:
        for table in (
            "django_dcr_clientregistration",
            "django_dcr_authorizationserver",
            "oauth2_provider_accesstoken",
            "oauth2_provider_application",
        ):
            self.sql(f"DELETE FROM {table}")  # noqa: S608


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    database = tmp_path_factory.mktemp("site") / "db.sqlite3"
    command = [sys.executable, "-m", "tests.browser.site", str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address, "the site did not start; its message is above"
        yield Site(address, database)
        process.terminate()


@pytest.fixture
def site(running: Site) -> Site:
    running.empty()
    return running


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[str]:
    """The address of a server that has no metadata, nor anything else."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "No Chromium on this machine. Next step: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


class Visitor:
    """Someone at a window of some size, in light or dark, who looks at every page."""

    def __init__(self, page: Page, site: Site, look: str) -> None:
        self.page = page
        self.site = site
        self.look = look
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        # An answer such as 405 is an "error", too, and meant.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def log_in(self, name: str) -> None:
        self.page.goto(f"{self.site.address}/admin/login/?next=/admin/")
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", name)
        self.page.click("input[type=submit]")

    def go(self, path: str) -> None:
        self.page.goto(f"{self.site.address}/admin/django_dcr/{path}")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def sees(self, text: str) -> None:
        expect(self.page.locator("#container")).to_contain_text(text)

    def look_at(self, name: str) -> None:
        """Check what is true of every good page, and photograph it where that is asked for."""
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            self.page.screenshot(path=Path(folder, f"{name}-{self.look}.png"), full_page=True)
        self.page.evaluate(AXE)
        run = "levels => axe.run(document, {runOnly: levels})"
        found = self.page.evaluate(run, LEVELS)["violations"]
        faults = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]
        assert faults == [], name
        width = "document.documentElement.scrollWidth - window.innerWidth"
        assert self.page.evaluate(width) <= 0, f"{name} is wider than the window"


def visit(chromium: Browser, site: Site, width: int, scheme: str, **options: bool) -> Visitor:
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=options.get("scripts", True),
        permissions=["clipboard-read", "clipboard-write"],
    )
    return Visitor(context.new_page(), site, f"{width}-{scheme}")


@pytest.fixture
def visitor(chromium: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    width, scheme = getattr(request, "param", LOOKS[0])
    visitor = visit(chromium, site, width, scheme)
    visitor.log_in("admin")
    yield visitor
    visitor.page.context.close()
    assert visitor.complaints == []


def add_server(visitor: Visitor) -> None:
    visitor.go("authorizationserver/add/")
    visitor.page.fill("#id_issuer", visitor.site.issuer)
    visitor.page.fill("#id_name", "Example bank")
    visitor.press("Save")
    visitor.sees("Found out what the server offers.")


def add_draft(visitor: Visitor, owner: str) -> None:
    visitor.page.get_by_role("link", name="Register a client here").click()
    visitor.page.fill("#id_owner", owner)
    visitor.page.fill("#id_client_name", "Shop")
    visitor.page.fill("#id_redirect_uris", "https://shop.example/callback")
    visitor.look_at("registration-add")
    visitor.press("Save")


@pytest.mark.parametrize("visitor", LOOKS, ids=_name, indirect=True)
def test_a_registration_lives_its_whole_life_in_the_pages(visitor: Visitor) -> None:
    site, page = visitor.site, visitor.page
    visitor.go("authorizationserver/add/")
    visitor.look_at("server-add")
    add_server(visitor)
    visitor.look_at("server")
    add_draft(visitor, "acme")
    visitor.sees("The server was not asked yet")
    visitor.look_at("registration-draft")
    visitor.press("Register")
    visitor.sees("Registered at the server.")
    visitor.look_at("registration-active")
    own_page = page.url

    site.sql("UPDATE oauth2_provider_application SET name = 'Renamed by its operator'")
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
    visitor.sees("Revoked: nothing is left at the server.")
    visitor.look_at("registration-revoked")


@pytest.mark.parametrize("visitor", LOOKS, ids=_name, indirect=True)
def test_each_refusal_says_what_to_do(visitor: Visitor, nobody: str) -> None:
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


def test_what_the_server_lost_is_told_and_tried_again(visitor: Visitor) -> None:
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


def test_the_buttons_are_reached_by_keyboard(visitor: Visitor) -> None:
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


def test_someone_who_may_only_look_finds_no_button(chromium: Browser, site: Site) -> None:
    admin = visit(chromium, site, *LOOKS[0])
    admin.log_in("admin")
    add_server(admin)
    add_draft(admin, "acme")
    guest = visit(chromium, site, *LOOKS[2])
    guest.log_in("guest")
    guest.page.goto(admin.page.url)
    guest.look_at("registration-guest")
    expect(guest.page.locator(".dcr-actions")).to_have_count(0)
    assert guest.complaints == admin.complaints == []


def test_a_secret_is_shown_without_scripts_and_not_by_its_address(
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
    assert plain.page.request.get(plain.page.url).status == 405


def test_the_list_asks_before_it_acts(visitor: Visitor) -> None:
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

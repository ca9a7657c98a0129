"""Debian's Chromium on the example site, driven by playwright."""

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

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# What axe-core finds on the page: the rule, where, by names that all admin pages share, and what.
FAULTS = """async levels => {
  const place = element => {
    const steps = [];
    for (; element && element !== document.body; element = element.parentElement) {
      const names = [...element.classList].map(name => "." + name).join("");
      steps.unshift(element.localName + (element.id && "#" + element.id) + names);
    }
    return steps.join(" > ");
  };
  const found = (await axe.run(document, {runOnly: levels})).violations;
  return found.flatMap(fault => fault.nodes.map(node =>
    [fault.id, place(document.querySelector(node.target[0])), node.html.slice(0, 200)]));
}"""
# Chromium's own words hold a hash of what was blocked, which may depend on the width of a text.
VIOLATIONS = """document.addEventListener("securitypolicyviolation", event => console.error(
  "violates " + event.effectiveDirective + ": " +
  event.sourceFile.replace(location.origin, "").split("?")[0] + " line " + event.lineNumber
))"""
#: Django's own pages, of the kinds that this app has, too.
STOCK = (
    "auth/user/",
    "auth/user/?q=a&is_staff__exact=1",
    "auth/user/add/",
    "auth/user/{}/change/",
    "auth/user/{}/delete/",
    "auth/user/{}/history/",
    "auth/group/",
    "auth/group/add/",
    "password_change/",
    "admin/logentry/add/",  # with a field that completes itself
)
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


def name_of(look: object) -> str:
    return "-".join(map(str, look)) if isinstance(look, tuple) else str(look)


class Site:
    """A running site: its address, and the tables of the authorization server that it is, too."""

    def __init__(self, address: str, database: Path) -> None:
        self.address = address
        self.issuer = f"{address}/o"
        self.database = database

    def sql(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    def of_clients(self, statement: str) -> None:
        """Change applications, but not that of the tool server, which asks about tokens."""
        self.sql(f"{statement} WHERE name <> 'Tool server'")

    def empty(self) -> None:
        for table in (
            "django_dcr_registrationevent",
            "django_dcr_clientregistration",
            "django_dcr_authorizationserver",
            "oauth2_provider_refreshtoken",
            "oauth2_provider_accesstoken",
            "oauth2_provider_grant",
            "example_connection",
            "django_dcr_protectedresource",
        ):
            self.sql(f"DELETE FROM {table}")  # noqa: S608
        self.of_clients("DELETE FROM oauth2_provider_application")


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
    """Someone at a window of some size, in light or dark, who looks at every page.

    What is found on a page of the admin counts unless Django's own pages, in the version at hand,
    have it too: the same rule broken at the same place, or the same complaint of the browser.
    """

    def __init__(self, page: Page, site: Site, look: str) -> None:
        self.page = page
        self.site = site
        self.look = look
        self._heard: list[tuple[str, str]] = []
        self._stock: tuple[set[tuple[str, str]], set[str]] | None = None
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._heard.append((page.url, str(error))))

    def _hear(self, message: ConsoleMessage) -> None:
        # An answer such as 405 is an "error", too, and meant; VIOLATIONS tells the others better.
        known = ("Failed to load resource", "Content Security Policy directive")
        if message.type == "error" and not any(words in message.text for words in known):
            self._heard.append((self.page.url, message.text))

    @property
    def complaints(self) -> list[tuple[str, str]]:
        """Of which pages the browser complained, and of what, but for what Django's own have."""
        return [
            (url, said)
            for url, said in self._heard
            if not (self._is_of_the_admin(url) and said in self.stock[1])
        ]

    def _is_of_the_admin(self, url: str) -> bool:
        return url.startswith(f"{self.site.address}/admin/")

    @property
    def stock(self) -> tuple[set[tuple[str, str]], set[str]]:
        """The faults of Django's own pages, and what the browser says of them."""
        if self._stock is None:
            page = self.page.context.new_page()
            other = Visitor(page, self.site, self.look)
            faults = set()
            ((user,),) = self.site.sql("SELECT id FROM auth_user WHERE username = 'guest'")
            for path in STOCK:
                page.goto(f"{self.site.address}/admin/{path.format(user)}")
                faults |= {(rule, place) for rule, place, _html in other.faults()}
            page.close()
            self._stock = faults, {said for _url, said in other._heard}
        return self._stock

    def faults(self) -> list[tuple[str, str, str]]:
        """What axe-core finds on the page: rules, places, and what is there."""
        self.page.evaluate(AXE)
        return [(rule, place, html) for rule, place, html in self.page.evaluate(FAULTS, LEVELS)]

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
        faults = self.faults()
        if faults and self._is_of_the_admin(self.page.url):
            faults = [fault for fault in faults if fault[:2] not in self.stock[0]]
        assert faults == [], name
        width = "document.documentElement.scrollWidth - window.innerWidth"
        assert self.page.evaluate(width) <= 0, f"{name} is wider than the window"


def visit(chromium: Browser, site: Site, width: int, scheme: str, **options: bool) -> Visitor:
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=options.get("scripts", True),
        bypass_csp=options.get("bypass_csp", False),
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.add_init_script(VIOLATIONS)
    return Visitor(context.new_page(), site, f"{width}-{scheme}")


@pytest.fixture
def visitor(chromium: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    width, scheme = getattr(request, "param", LOOKS[0])
    visitor = visit(chromium, site, width, scheme)
    visitor.log_in("admin")
    yield visitor
    complaints = visitor.complaints
    visitor.page.context.close()
    assert complaints == []

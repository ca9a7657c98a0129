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

    def empty(self) -> None:
        for table in (
            "django_dcr_registrationevent",
            "django_dcr_clientregistration",
            "django_dcr_authorizationserver",
            "oauth2_provider_refreshtoken",
            "oauth2_provider_accesstoken",
            "oauth2_provider_grant",
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

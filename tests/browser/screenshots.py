"""The pictures of docs/screenshots: ``make screenshots`` takes them again.

Not collected by its name. The pages of the admin are photographed in light, dark, narrow and
German, a login and a tool server as a row of their pages.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.conftest import Site

pytestmark = pytest.mark.network

FOLDER = Path(__file__).parents[2] / "docs/screenshots"
#: By the end of a picture's name: how wide the window is, and how the browser is set.
VARIANTS = {
    "": (1280, "light", "en-US"),
    "-dark": (1280, "dark", "en-US"),
    "-narrow": (390, "light", "en-US"),
    "-german": (1280, "light", "de-DE"),
}
#: What the pictures show in place of the address of this run.
SHOWN = "https://login.example.com"
ROW = """<body style="display: flex; gap: 16px; margin: 0; padding: 16px; background: #d5dadd">
<img src="data:image/png;base64,{}" width="390"></body>"""


class Photographer:
    """Someone who does the same in each language, by the names of fields and buttons."""

    def __init__(self, context: BrowserContext, site: Site, variant: str = "") -> None:
        self.page = context.new_page()
        self.site = site
        self.variant = variant

    def go(self, path: str) -> None:
        self.page.goto(f"{self.site.address}/{path}")

    def log_in(self, name: str) -> None:
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", name)
        with self.page.expect_navigation():
            self.page.locator("#id_password").press("Enter")

    def press(self, button: str) -> None:
        with self.page.expect_navigation():
            self.page.click(button)

    def show(self, ours: str, shown: str) -> None:
        """Show another text on the page in place of ours."""
        change = "([ours, shown]) => { const page = document.body; page.innerHTML = "
        change += "page.innerHTML.replaceAll(ours, shown) }"
        self.page.evaluate(change, [ours, shown])

    def take(self, name: str = "") -> bytes:
        """Photograph the window, into a file if it has a name; return the picture."""
        self.show(self.site.address, SHOWN)
        file = FOLDER / f"{name}{self.variant}.png" if name else None
        return self.page.screenshot(path=file)


@pytest.fixture(params=VARIANTS, ids=lambda name: name.strip("-") or "light")
def photographer(
    chromium: Browser, site: Site, request: pytest.FixtureRequest
) -> Iterator[Photographer]:
    width, scheme, locale = VARIANTS[request.param]
    context = chromium.new_context(
        viewport={"width": width, "height": 960 if width > 400 else 844},
        color_scheme="dark" if scheme == "dark" else "light",
        locale=locale,
    )
    context.set_default_timeout(10_000)
    yield Photographer(context, site, request.param)
    context.close()


def register(photographer: Photographer, owner: str, *grant_types: str) -> None:
    """Register for an owner, from the form to the button."""
    page, site = photographer.page, photographer.site
    ((server,),) = site.sql("SELECT id FROM django_dcr_authorizationserver")
    photographer.go(f"admin/django_dcr/clientregistration/add/?server={server}")
    page.fill("#id_owner", owner)
    page.fill("#id_client_name", "Shop")
    page.fill("#id_redirect_uris", "https://shop.example/callback")
    for grant_type in grant_types:
        page.check(f"input[name=grant_types][value={grant_type}]")
    photographer.press("input[name=_continue]")
    photographer.press("button[value=register]")


def test_the_pages_of_the_admin(photographer: Photographer) -> None:
    page, site = photographer.page, photographer.site
    photographer.go("admin/")
    photographer.log_in("admin")
    photographer.go("admin/django_dcr/authorizationserver/add/")
    page.fill("#id_issuer", site.issuer)
    page.fill("#id_name", "Example bank")
    photographer.press("input[name=_save]")
    photographer.take("server")

    # That server allows a client one grant type besides refresh_token.
    register(photographer, "aspen", "authorization_code", "client_credentials")
    register(photographer, "birch")
    site.sql("DELETE FROM oauth2_provider_accesstoken")
    photographer.press("button[value=read]")
    register(photographer, "cedar")
    site.of_clients("UPDATE oauth2_provider_application SET name = 'Shop (reviewed)'")
    photographer.press("button[value=read]")
    expect(page.locator(".dcr-differs")).to_contain_text("Shop (reviewed)")
    own_page = page.url
    photographer.take("registration")
    photographer.go("admin/django_dcr/clientregistration/")
    photographer.take("registrations")

    page.goto(own_page)
    photographer.press("button[value=revoke]")
    photographer.take("revoke")
    page.goto(own_page)
    photographer.press("button[formaction*=reveal]")
    photographer.press("form input.button[type=submit]")
    photographer.take("secret")


def test_a_login(chromium: Browser, site: Site) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 600})
    user = Photographer(context, site)
    user.go("")
    pictures = [user.take()]
    user.go("")
    user.press("main form button")
    pictures.append(user.take())
    user.page.reload()
    user.log_in("guest")
    pictures.append(user.take())
    user.page.reload()
    user.press("button[name=allow]")
    pictures.append(user.take())
    take_row(context, pictures, "login")
    context.close()


def test_a_tool_server(chromium: Browser, site: Site) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 760})
    user = Photographer(context, site)
    user.go("tools/")
    tool_server = user.page.input_value("#id_url").removesuffix("/mcp")
    user.show(tool_server, "https://mcp.example.com")
    pictures = [user.take()]
    user.go("tools/")
    user.press("main form button")
    user.log_in("guest")
    pictures.append(user.take())
    user.page.reload()
    user.press("button[name=allow]")
    user.press("main form button")  # of the first tool
    user.show(tool_server, "https://mcp.example.com")
    pictures.append(user.take())
    take_row(context, pictures, "tool-server")
    context.close()


def take_row(context: BrowserContext, pictures: list[bytes], name: str) -> None:
    """Photograph the pictures of one window side by side."""
    page, window = context.new_page(), context.pages[0].viewport_size
    assert window
    height = window["height"] + 2 * 16
    page.set_viewport_size({"width": len(pictures) * (390 + 16) + 16, "height": height})
    images = (base64.b64encode(picture).decode() for picture in pictures)
    page.set_content(ROW.format('" width="390"><img src="data:image/png;base64,'.join(images)))
    page.screenshot(path=FOLDER / f"{name}.png")

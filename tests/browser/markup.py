"""What a hostile server or owner says runs in no page of the admin: ``make browser`` looks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.admin import add_draft, add_server
from tests.browser.conftest import LOOKS, Site, Visitor, visit

pytestmark = pytest.mark.network

#: Each would set a mark in the page, if it were anything but text there.
MARKUP = (
    "<img src=x onerror='window.ran=1'><script>window.ran=2</script>"
    "<svg onload='window.ran=3'></svg>\"><iframe srcdoc='<script>parent.ran=4</script>'></iframe>"
)


@pytest.fixture
def visitor(chromium: Browser, site: Site) -> Iterator[Visitor]:
    """One whose browser heeds no Content-Security-Policy, which would stop most of it."""
    visitor = visit(chromium, site, *LOOKS[0], bypass_csp=True)
    visitor.log_in("admin")
    yield visitor
    complaints = visitor.complaints
    visitor.page.context.close()
    assert complaints == []


def ran(visitor: Visitor) -> object:
    visitor.page.wait_for_load_state("networkidle")
    return visitor.page.evaluate("window.ran || null")


def test_no_script_of_a_server_or_an_owner_runs(visitor: Visitor) -> None:
    site = visitor.site
    add_server(visitor)
    add_draft(visitor, f"acme {MARKUP}")
    registration = visitor.page.url
    visitor.press("Register")
    ((metadata,),) = site.sql("SELECT metadata FROM django_dcr_authorizationserver")
    said = {"scopes_supported": [MARKUP], "grant_types_supported": [MARKUP]}
    site.sql(
        "UPDATE django_dcr_authorizationserver SET metadata = ?, client_metadata = ?, name = ?,"
        " last_error = ?",
        json.dumps({**json.loads(str(metadata)), **said, "op_policy_uri": MARKUP}),
        json.dumps({"client_name": "{owner}", "scope": MARKUP}),
        MARKUP,
        MARKUP,
    )
    site.sql(
        "UPDATE django_dcr_clientregistration SET metadata = ?, deviations = ?, last_error = ?",
        json.dumps({"client_name": MARKUP, MARKUP: MARKUP}),
        json.dumps([MARKUP]),
        MARKUP,
    )
    site.sql("UPDATE django_dcr_registrationevent SET actor = ?", MARKUP)
    ((server,),) = site.sql("SELECT id FROM django_dcr_authorizationserver")
    pages = [
        "authorizationserver/",
        f"authorizationserver/{server}/change/",
        f"authorizationserver/{server}/history/",
        "clientregistration/",
        f"clientregistration/add/?server={server}",
    ]
    for path in pages:
        visitor.go(path)
        assert ran(visitor) is None, path
    for path in ("", "../history/", "../delete/"):
        visitor.page.goto(f"{registration}{path}")
        assert ran(visitor) is None, path
    visitor.page.goto(registration)
    for button in ("Update at the server", "Reveal the secret", "Revoke"):
        visitor.page.goto(registration)
        visitor.press(button)
        assert ran(visitor) is None, button

"""From the address of a tool server to an answer of its tools: the site's pages, without a browser.

Serves the example site on a free port over a temporary database and starts a tool server beside
it (MCP). A user fills in the forms of the pages; each result is checked in the records of the
two servers.
"""

from __future__ import annotations

import html.parser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from demo_site import DemoError, check, manage, rows, run, say, serve, step
from django.db import connection

NAME, PASSWORD = "jane", "wonderland"


def from_address_to_answer(_folder: Path) -> None:
    from django.contrib.auth.models import User
    from example.tool_process import ToolServerError, tool_server

    User.objects.create_user(NAME, password=PASSWORD)
    calls: list[dict[str, str]] = []
    try:
        with serve() as issuer, tool_server(issuer, calls=calls.append) as url:
            use_tools(issuer, url, calls)
    except ToolServerError as error:
        raise DemoError(str(error)) from error


def use_tools(issuer: str, url: str, calls: list[dict[str, str]]) -> None:
    visitor = Visitor(issuer.removesuffix("/o"))

    step("1. Send a request to a tool server of which only the address is known (MCP)")
    challenge = challenge_to(url)
    check("it answers 401 and says where its metadata is", "resource_metadata=" in challenge)
    check("its authorization server knows no client of this site", not clients())

    step("2. Connect it on the site's page: from the address to a client (RFC 9728, 8414, 7591)")
    visitor.open("/tools/")
    visitor.press("Connect", url=url)
    check(
        "the site has become a client by itself",
        [each.name for each in clients()] == ["Example site"],
    )
    check("and has sent the user to log in", "Who are you?" in visitor.page)

    step("3. Log in and consent there: from the client to a token (RFC 8707)")
    visitor.press("Log in", username=NAME, password=PASSWORD)
    check("the server asks for what the tool server needs", "Read your notes" in visitor.page)
    check("and for no more", "Write notes" not in visitor.page)
    visitor.press("Yes, it may")
    token = tokens()[-1]
    check("the server issued a token for this tool server alone", token.resource == [url])
    check("with its scope", token.scope == "tools")
    check("the page lists the tools", "whoami" in visitor.page and "remember" in visitor.page)
    kept = rows("example", "Connection").get()
    check("the site has the token", kept.access_token.reveal() == token.token)
    check("encrypted", token.token not in stored("example_connection"))

    step("4. Call a tool")
    visitor.press("Call whoami")
    check("it knows whose token it was given", f"You are {NAME}." in visitor.page)
    client_id = clients()[0].client_id
    check(
        "and has recorded the call",
        calls[-1] == {"tool": "whoami", "user": NAME, "client_id": client_id},
    )

    step("5. Call a tool that needs more: the union of the scopes is asked for (RFC 6750)")
    visitor.press("Call remember", text="Buy carrots.")
    check("the tool server refused", not [each for each in calls if each["tool"] == "remember"])
    check("the user is asked again", "Write notes" in visitor.page)
    visitor.press("Yes, it may")
    check(
        "the new token has both scopes", set(tokens()[-1].scope.split()) == {"tools", "tools:write"}
    )
    visitor.press("Call remember", text="Buy carrots.")
    check("the call is recorded now", calls[-1]["tool"] == "remember")
    visitor.press("Call recall")
    check("and the note is kept", "Buy carrots." in visitor.page)

    step("6. Disconnect: the tokens are revoked (RFC 7009)")
    last = rows("example", "Connection").get().access_token.reveal()
    check("the last token is valid", not challenge_to(url, last))
    visitor.press("Disconnect")
    check("the server has no valid token left", not [each for each in tokens() if each.is_valid()])
    check("the tool server refuses the last one", "invalid_token" in challenge_to(url, last))
    check("the site keeps none", not rows("example", "Connection").exists())

    step("7. Remove the client (RFC 7592)")
    manage("dcr_revoke", "--issuer", issuer)
    check("the server no longer has this client", not clients())


def clients() -> list[Any]:
    """The clients at the authorization server, except the tool server's, from its table."""
    return list(rows("oauth2_provider", "Application").exclude(name="Tool server"))


def tokens() -> list[Any]:
    """The access tokens at the authorization server that users have consented to."""
    return list(rows("oauth2_provider", "AccessToken").filter(user__username=NAME).order_by("pk"))


def stored(table: str) -> str:
    """What is in the site's table, as the database has it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
        return repr(cursor.fetchall())


def challenge_to(url: str, token: str = "") -> str:
    """Return the tool server's challenge to a request with this token; "" where it accepts it."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.post(url, json={}, headers=headers, timeout=30)
    say(f"     the tool server answers POST {url} with {answer.status_code}")
    return answer.headers.get("WWW-Authenticate", "")


class Visitor:
    """Opens the site's pages and presses their buttons, by the words on them."""

    def __init__(self, site: str) -> None:
        self.session = requests.Session()
        self.url, self.page = site, ""

    def open(self, path: str) -> None:
        self._see(self.session.get(urljoin(self.url, path), timeout=60))

    def press(self, button: str, **fields: str) -> None:
        for form in Forms(self.page).found:
            if button in form.buttons:
                say(f"   press {button}")
                values = {**form.fields, **form.buttons[button], **fields}
                place = urljoin(self.url, form.action)
                self._see(self.session.post(place, data=values, timeout=60))
                return
        raise DemoError(f'there is no button "{button}" at {self.url}')

    def _see(self, answer: requests.Response) -> None:
        self.url, self.page = answer.url, answer.text
        if not answer.ok:
            raise DemoError(f"{answer.url} answers {answer.status_code}")


class Form:
    def __init__(self, action: str) -> None:
        self.action = action
        self.fields: dict[str, str] = {}
        #: What each button sends, by the words on it.
        self.buttons: dict[str, dict[str, str]] = {}


class Forms(html.parser.HTMLParser):
    """The forms of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._button: dict[str, str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        name, value = values.get("name", ""), values.get("value", "")
        if tag == "form":
            self.found.append(Form(values.get("action", "")))
        elif tag == "input" and self.found:
            self.found[-1].fields[name] = value
        elif tag == "button":
            self._button = {name: value} if name else {}

    def handle_data(self, data: str) -> None:
        if self._button is not None and self.found:
            self.found[-1].buttons[data.strip()] = self._button
            self._button = None


if __name__ == "__main__":
    run(
        from_address_to_answer,
        advice="read what was answered last. To try that yourself, start the site\n"
        "with make run and open the page /tools/.",
    )

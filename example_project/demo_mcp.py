"""From the address of a tool server to an answer of its tools: the site's pages, without a browser.

Serves the example site on a free port over a temporary database and starts a tool server beside
it (MCP). Somebody fills in the pages' forms; what came of each is checked in the records of the
two servers. Exits with 0 only if every check held.
"""

from __future__ import annotations

import html.parser
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
from demo import DemoError, manage, prepare, rows, say, serve, step
from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME, PASSWORD = "jane", "wonderland"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="django-dcr-demo-") as folder:
        prepare(Path(folder, "db.sqlite3"))
        from django.contrib.auth.models import User
        from example.tool_process import ToolServerError, tool_server

        User.objects.create_user(NAME, password=PASSWORD)
        calls: list[dict[str, str]] = []
        try:
            with serve() as issuer, tool_server(issuer, calls=calls.append) as url:
                way(issuer, url, calls)
        except (DemoError, ToolServerError, subprocess.CalledProcessError) as error:
            say(f"\nFAILED in the last step above: {error}")
            say("What to do: read what was answered last. To try that by hand, start the site")
            say("with make run and open the page /tools/.")
            return 1
        finally:
            connection.close()
    say("\nDone: every step was checked in the servers' own records. To look around: make run")
    return 0


def way(issuer: str, url: str, calls: list[dict[str, str]]) -> None:
    person = Person(issuer.removesuffix("/o"))

    step("1. Ask a tool server of which nothing but the address is known (MCP)")
    challenge = challenged(url)
    check("it answers 401 and says where its metadata is", "resource_metadata=" in challenge)
    check("its authorization server knows no client of this site", not clients())

    step("2. Connect it on the site's page: from the address to a client (RFC 9728, 8414, 7591)")
    person.open("/tools/")
    person.press("Connect", url=url)
    check(
        "the site has become a client by itself",
        [each.name for each in clients()] == ["Example site"],
    )
    check("and has sent the user to log in", "Who are you?" in person.page)

    step("3. Log in and consent there: from the client to a token (RFC 8707)")
    person.press("Log in", username=NAME, password=PASSWORD)
    check("the server asks for what the tool server needs", "Read your notes" in person.page)
    check("and for no more", "Write notes" not in person.page)
    person.press("Yes, it may")
    token = tokens()[-1]
    check("the server issued a token for this tool server alone", token.resource == [url])
    check("with its scope", token.scope == "tools")
    check("the page lists the tools", "whoami" in person.page and "remember" in person.page)
    kept = rows("example", "Connection").get()
    check("the site has the token", kept.access_token.reveal() == token.token)
    check("encrypted", token.token not in stored("example_connection"))

    step("4. Call a tool")
    person.press("Call whoami")
    check("it knows whose token it was given", f"You are {NAME}." in person.page)
    client_id = clients()[0].client_id
    check(
        "and has recorded the call",
        calls[-1] == {"tool": "whoami", "user": NAME, "client_id": client_id},
    )

    step("5. Call a tool that needs more: the union of the scopes is asked for (RFC 6750)")
    person.press("Call remember", text="Buy carrots.")
    check("the tool server refused", not [each for each in calls if each["tool"] == "remember"])
    check("the user is asked again", "Write notes" in person.page)
    person.press("Yes, it may")
    check(
        "the new token has both scopes", set(tokens()[-1].scope.split()) == {"tools", "tools:write"}
    )
    person.press("Call remember", text="Buy carrots.")
    check("the call is recorded now", calls[-1]["tool"] == "remember")
    person.press("Call recall")
    check("and the note is kept", "Buy carrots." in person.page)

    step("6. Disconnect: the tokens are revoked (RFC 7009)")
    last = rows("example", "Connection").get().access_token.reveal()
    check("the last token is good", not challenged(url, last))
    person.press("Disconnect")
    check("the server has no good token left", not [each for each in tokens() if each.is_valid()])
    check("the tool server refuses the last one", "invalid_token" in challenged(url, last))
    check("the site keeps none", not rows("example", "Connection").exists())

    step("7. Remove the client (RFC 7592)")
    manage("dcr_revoke", "--issuer", issuer)
    check("nothing is left at the server", not clients())


def check(claim: str, holds: bool) -> None:
    if not holds:
        raise DemoError(f'not so: "{claim}"')
    say(f"   ok: {claim}")


def clients() -> Sequence[Any]:
    """The clients at the authorization server but the tool server's own, from its table."""
    return list(rows("oauth2_provider", "Application").exclude(name="Tool server"))


def tokens() -> Sequence[Any]:
    """The access tokens at the authorization server that users have consented to."""
    return list(rows("oauth2_provider", "AccessToken").filter(user__username=NAME).order_by("pk"))


def stored(table: str) -> str:
    """What is in the site's table, as the database has it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
        return repr(cursor.fetchall())


def challenged(url: str, token: str = "") -> str:
    """How the tool server challenges a request with this token; "" where it is content."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.post(url, json={}, headers=headers, timeout=30)
    say(f"     the tool server answers POST {url} with {answer.status_code}")
    return answer.headers.get("WWW-Authenticate", "")


class Person:
    """Somebody who opens the site's pages and presses their buttons, by the words on them."""

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
        #: By what is on them: what they send.
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
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the pipe has left: nobody to tell the rest to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

"""What the tests know of a real server: where it is, what it does not do, how to look behind it."""

from __future__ import annotations

import html.parser
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urljoin

import requests

CALLBACK = "https://shop.example/callback"
NAME = "Shop"

#: Who logs in at a program of ours.
PERSON = {"login": "jane", "password": "wonderland"}

_TIMEOUT = 30


class NotOfferedError(Exception):
    """This server, or this variant of it, has no such thing."""


class LoginRefusedError(Exception):
    """The server has shown something else than a way to log in."""


class Server(ABC):
    """A server that runs, in one variant of its configuration."""

    #: The name and version for the table.
    program: str
    #: The configuration that this is about.
    variant: str
    issuer: str
    #: By step of the life: what the server itself does not do, in the words of the table.
    limits: Mapping[str, str]
    #: What an operator has to set as the server's client metadata.
    client_metadata: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def client_name(self, client_id: str) -> str | None:
        """The name of a client as the server's operator sees it; None where there is no client."""

    @abstractmethod
    def forget(self, client_id: str) -> None:
        """Delete a client as the server's operator might."""

    @abstractmethod
    def log_in(self, url: str) -> str:
        """Log in as a user and consent, from the authorization URL on; return where that ends."""

    def register_by_hand(self) -> Mapping[str, str]:
        """Register a client as its operator does; return what ``adopt()`` needs of it."""
        raise NotOfferedError

    def pass_time(self, client_id: str, by: timedelta) -> None:
        """Let time pass for what the server has fetched of a client."""
        raise NotOfferedError

    def initial_access_token(self) -> str:
        """Return a new one that is good for some registrations."""
        raise NotOfferedError

    def expire_secret(self, client_id: str) -> None:
        """Put the end of a client's secret into the past."""
        raise NotOfferedError

    def expire_registration_token(self, client_id: str) -> None:
        """Put the end of a client's registration access token into the past."""
        raise NotOfferedError


class ControlledServer(Server):
    """A program of ours around somebody's library, with a door for the tests under ``/-/``."""

    def __init__(self, program: str, variant: str, issuer: str, limits: Mapping[str, str]) -> None:
        self.program, self.variant, self.issuer, self.limits = program, variant, issuer, limits
        self._door = urljoin(issuer, "/-/")

    def client_name(self, client_id: str) -> str | None:
        answer = requests.get(f"{self._door}clients/{client_id}", timeout=_TIMEOUT)
        return answer.json()["client_name"] if answer.ok else None

    def forget(self, client_id: str) -> None:
        answer = requests.delete(f"{self._door}clients/{client_id}", timeout=_TIMEOUT)
        answer.raise_for_status()

    def expire_secret(self, client_id: str) -> None:
        answer = requests.patch(f"{self._door}clients/{client_id}", timeout=_TIMEOUT)
        answer.raise_for_status()

    def pass_time(self, client_id: str, by: timedelta) -> None:
        answer = requests.post(
            f"{self._door}clients/{client_id}",
            params={"seconds": int(by.total_seconds())},
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()

    def initial_access_token(self) -> str:
        answer = requests.post(f"{self._door}initial-access-tokens", timeout=_TIMEOUT)
        if not answer.ok:
            raise NotOfferedError
        return str(answer.json()["token"])

    def log_in(self, url: str) -> str:
        return browse(url, PERSON)


def browse(url: str, answers: Mapping[str, str], callback: str = CALLBACK) -> str:
    """Follow redirects and fill in forms, as a person does, up to the callback; return its URL."""
    with requests.Session() as browser:
        method = "GET"
        fields: dict[str, str] = {}
        for _page in range(12):
            answer = browser.request(
                method, url, data=fields or None, allow_redirects=False, timeout=_TIMEOUT
            )
            method, fields = "GET", {}
            for cookie in browser.cookies:
                cookie.secure = False  # browsers send such to loopback addresses without TLS, too
            if answer.is_redirect:
                url = urljoin(url, answer.headers["Location"])
                if url.startswith(callback):
                    return url
                continue
            form = _Form(answer.text)
            if form.action is None:
                raise LoginRefusedError(f"status {answer.status_code} at {url}")
            url, method = urljoin(url, form.action), "POST"
            fields = {**form.fields, **{k: v for k, v in answers.items() if k in form.fields}}
    raise LoginRefusedError(f"no end, last at {url}")


class _Form(html.parser.HTMLParser):
    """The first form of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form" and self.action is None:
            self.action, self._inside = values.get("action") or "", True
        # Of a consent page's two buttons the one that says no is left alone.
        elif tag in ("input", "button") and self._inside and values.get("name") != "cancel":
            self.fields[values.get("name") or ""] = values.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False

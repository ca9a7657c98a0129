"""A real server under test: its issuer, its limits, and access as its operator."""

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

#: The user of a controlled server.
PERSON = {"login": "jane", "password": "wonderland"}

_TIMEOUT = 30


class NotOfferedError(Exception):
    """This server, or this variant of it, does not offer that."""


class LoginRefusedError(Exception):
    """The server did not show a login form or a redirect."""


class Server(ABC):
    """A running server in one variant of its configuration."""

    #: The name and version for the table.
    program: str
    #: The name of this configuration.
    variant: str
    issuer: str
    #: For each step that the server does not support: what the table says instead.
    limits: Mapping[str, str]
    #: What an operator has to set as the server's client metadata.
    client_metadata: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def client_name(self, client_id: str) -> str | None:
        """Return the client's name as the server's operator sees it, None if it does not exist."""

    @abstractmethod
    def forget(self, client_id: str) -> None:
        """Delete a client as the server's operator might."""

    @abstractmethod
    def log_in(self, url: str) -> str:
        """Log in as a user and consent at the authorization URL; return the final URL."""

    def register_by_hand(self) -> Mapping[str, str]:
        """Register a client as the server's operator; return the arguments for ``adopt()``."""
        raise NotOfferedError

    def pass_time(self, client_id: str, by: timedelta) -> None:
        """Advance the server's clock for what it has fetched about a client."""
        raise NotOfferedError

    def initial_access_token(self) -> str:
        """Return a new token that is valid for several registrations."""
        raise NotOfferedError

    def expire_secret(self, client_id: str) -> None:
        """Let a client's secret expire."""
        raise NotOfferedError

    def expire_registration_token(self, client_id: str) -> None:
        """Let a client's registration access token expire."""
        raise NotOfferedError


class ControlledServer(Server):
    """A program around a server library, with control endpoints for the tests under ``/-/``."""

    def __init__(self, program: str, variant: str, issuer: str, limits: Mapping[str, str]) -> None:
        self.program, self.variant, self.issuer, self.limits = program, variant, issuer, limits
        self._control = urljoin(issuer, "/-/")

    def client_name(self, client_id: str) -> str | None:
        answer = requests.get(f"{self._control}clients/{client_id}", timeout=_TIMEOUT)
        return answer.json()["client_name"] if answer.ok else None

    def forget(self, client_id: str) -> None:
        answer = requests.delete(f"{self._control}clients/{client_id}", timeout=_TIMEOUT)
        answer.raise_for_status()

    def expire_secret(self, client_id: str) -> None:
        answer = requests.patch(f"{self._control}clients/{client_id}", timeout=_TIMEOUT)
        answer.raise_for_status()

    def pass_time(self, client_id: str, by: timedelta) -> None:
        answer = requests.post(
            f"{self._control}clients/{client_id}",
            params={"seconds": int(by.total_seconds())},
            timeout=_TIMEOUT,
        )
        answer.raise_for_status()

    def initial_access_token(self) -> str:
        answer = requests.post(f"{self._control}initial-access-tokens", timeout=_TIMEOUT)
        if not answer.ok:
            raise NotOfferedError
        return str(answer.json()["token"])

    def log_in(self, url: str) -> str:
        return browse(url, PERSON)


def browse(url: str, answers: Mapping[str, str], callback: str = CALLBACK) -> str:
    """Follow redirects and submit forms until the callback; return its URL."""
    with requests.Session() as browser:
        method = "GET"
        fields: dict[str, str] = {}
        for _page in range(12):
            answer = browser.request(
                method, url, data=fields or None, allow_redirects=False, timeout=_TIMEOUT
            )
            method, fields = "GET", {}
            for cookie in browser.cookies:
                cookie.secure = False  # browsers send these to loopback addresses without TLS too
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
        # The cancel button of a consent page is not pressed.
        elif tag in ("input", "button") and self._inside and values.get("name") != "cancel":
            self.fields[values.get("name") or ""] = values.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False

"""django-oauth-toolkit in a process of its own, as ``tests/live`` runs it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import requests

from tests.interop.server import CALLBACK, NAME, LoginRefusedError, NotOfferedError, Server
from tests.live import server as live

_TOKEN = "token-of-a-user"
_TIMEOUT = 30

_DELETE = """
DELETE FROM oauth2_provider_accesstoken WHERE application_id =
    (SELECT id FROM oauth2_provider_application WHERE client_id = ?)
"""
_REGISTER = """
from oauth2_provider.models import Application
Application.objects.create(
    name="{name}", client_id="by-hand", client_secret="{secret}", redirect_uris="{callback}",
    client_type="confidential", authorization_grant_type="authorization-code",
)
"""
_EXPIRE = """
UPDATE oauth2_provider_accesstoken SET expires = '2000-01-01 00:00:00' WHERE application_id =
    (SELECT id FROM oauth2_provider_application WHERE client_id = ?)
"""

_KEEPS: Mapping[str, str] = {
    "renew": "keeps the secret, whose expiry is unknown",
    "secret expires": "not stated",
}
_OPEN = {**_KEEPS, "initial token": "anyone may register"}
_NEVER = {"token expires": "never"}

#: The limits of each variant.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "open": {**_OPEN, **_NEVER},
    "initial access token": {**_KEEPS, **_NEVER},
    "registration token kept": {**_OPEN, **_NEVER},
    "registration token expires": _OPEN,
}


class Site(Server):
    program = f"django-oauth-toolkit {version('django-oauth-toolkit')}"

    def __init__(self, site: live.Server, variant: str) -> None:
        self.variant, self.limits = variant, VARIANTS[variant]
        self.issuer, self._site = site.issuer, site
        site.admit(_TOKEN)

    def client_name(self, client_id: str) -> str | None:
        clients = {client["client_id"]: client for client in self._site.clients()}
        return clients[client_id]["name"] if client_id in clients else None

    def register_by_hand(self) -> Mapping[str, str]:
        secret = secrets.token_urlsafe()
        self._site.run(_REGISTER.format(name=NAME, secret=secret, callback=CALLBACK))
        return {"client_id": "by-hand", "client_secret": secret}

    def forget(self, client_id: str) -> None:
        self._site.sql(_DELETE, client_id)
        self._site.sql("DELETE FROM oauth2_provider_application WHERE client_id = ?", client_id)

    def initial_access_token(self) -> str:
        if self.variant != "initial access token":
            raise NotOfferedError
        return _TOKEN

    def expire_registration_token(self, client_id: str) -> None:
        if self.variant != "registration token expires":
            raise NotOfferedError
        # As if that much time had passed.
        self._site.sql(_EXPIRE, client_id)

    def log_in(self, url: str) -> str:
        """Ask for the consent form, which this site has no template for, and send it."""
        place, user = urlsplit(url), {"Authorization": f"Bearer {_TOKEN}"}
        # When it is asked for, the server fetches the document of a client that has one.
        requests.get(url, headers=user, timeout=_TIMEOUT)
        answer = requests.post(
            place._replace(query="").geturl(),
            data={**dict(parse_qsl(place.query)), "scope": "read", "allow": "Authorize"},
            headers=user,
            allow_redirects=False,
            timeout=_TIMEOUT,
        )
        if not answer.is_redirect:
            raise LoginRefusedError(answer.status_code)
        return answer.headers["Location"]


@contextmanager
def serve(variant: str, folder: Path, certificate: Path) -> Iterator[Site]:
    live.require()
    database = folder / "server.sqlite3"
    live.make_tables(database)
    closed = variant == "initial access token"
    permission = "IsAuthenticatedDCRPermission" if closed else "AllowAllDCRPermission"
    options = {
        **live.DOCUMENTS,
        "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": [
            "client_secret_basic",
            "client_secret_post",
            "none",
        ],
        "DCR_ROTATE_REGISTRATION_TOKEN_ON_UPDATE": variant != "registration token kept",
        "DCR_REGISTRATION_TOKEN_EXPIRE_SECONDS": (
            3600 if variant == "registration token expires" else None
        ),
    }
    with live.serve(
        database, permission=permission, options=options, certificate=certificate
    ) as site:
        yield Site(site, variant)

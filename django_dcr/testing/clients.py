"""The server's clients: registered, documented or entered by hand, and managed (RFC 7591, 7592)."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.test import Client

from django_dcr import uris
from django_dcr.conf import conf
from django_dcr.testing.habits import Habits
from django_dcr.testing.messages import Answer, Request, error

Document = dict[str, Any]

_WITH_SECRETS = {"client_secret_basic", "client_secret_post", "client_secret_jwt"}


class Clients:
    """The server's clients, and its registration and configuration endpoints."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        #: The prefix of its endpoints' URLs.
        self.base = issuer.rstrip("/")
        #: The metadata and the credentials of each client, by its client_id.
        self.clients: dict[str, Document] = {}
        #: The token that the habit "requires_a_token" demands.
        self.initial_access_token = "initial-access-token"  # noqa: S105
        #: The lifetime of new secrets with the habit "expires_secrets", in seconds.
        self.secret_lifetime = 3600.0
        self._habits = Habits()
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

    def add_client(self, *, managed: bool = False, **metadata: Any) -> Document:
        """Register a client as an operator does in the server's console; return all of it.

        ``metadata`` has the names of RFC 7591 section 2. One that is ``managed`` has a
        registration access token, too. ``services.adopt`` stores it at the site.
        """
        with self._lock:
            client_id = f"client-{next(self._numbers)}"
            method = metadata.get("token_endpoint_auth_method", "client_secret_basic")
            client = {**metadata, "token_endpoint_auth_method": method, "client_id": client_id}
            self.clients[client_id] = client
            if method in _WITH_SECRETS:
                self._issue_secret(client)
            if managed:
                client["registration_client_uri"] = f"{self.base}/register/{client_id}"
                self._issue_token(client)
            return dict(client)

    def find_client(self, client_id: str) -> Document | None:
        """Return a registered client, or one whose document this site serves."""
        if "forgets" in self._habits:
            return None
        client = self.clients.get(client_id)
        if client is None and "takes_documents" in self._habits:
            client = self.fetch(client_id)
        return client

    def fetch(self, url: str) -> Document | None:
        """Return a document that this site serves under ``DCR_BASE_URL``, None for any other."""
        try:
            is_ours = bool(conf.DCR_BASE_URL) and uris.origin(url) == uris.origin(conf.DCR_BASE_URL)
        except ValueError:
            is_ours = False
        answer = Client().get(urlsplit(url).path, secure=True) if is_ours else None
        if answer is None or answer.status_code != 200:
            return None
        document: Document = json.loads(answer.content)
        return document

    def _register(self, request: Request) -> Answer:
        token = request.bearer_token
        if "requires_a_token" in self._habits and token != self.initial_access_token:
            return error(401, "invalid_token", "An initial access token is needed.")
        if "refuses" in self._habits:
            return error(400, "invalid_client_metadata", "This server registers no such client.")
        managed = "omits_management" not in self._habits
        return 201, self.add_client(managed=managed, **self._granted(request.json))

    def _manage(self, request: Request) -> Answer:
        client = self.find_client(request.path.rpartition("/")[2]) or {}
        token = client.get("registration_access_token")
        if token is None or request.bearer_token != token:
            return error(401, "invalid_token")
        with self._lock:
            if request.method == "DELETE":
                return 204, self.clients.pop(client["client_id"])
            if request.method == "PUT" and "refuses" in self._habits:
                return error(400, "invalid_client_metadata", "This server changes no client.")
            if request.method == "PUT":
                client.update(self._granted(request.json))
                if "rotates_secrets" in self._habits and "client_secret" in client:
                    self._issue_secret(client)
            if "rotates_tokens" in self._habits:
                self._issue_token(client)
            return 200, dict(client)

    def _granted(self, requested: Mapping[str, Any]) -> Document:
        return {**requested, "scope": "openid"} if "grants_less" in self._habits else {**requested}

    def _issue_secret(self, client: Document) -> None:
        # With characters that HTTP Basic needs form-urlencoded (RFC 6749 section 2.3.1).
        client["client_secret"] = f"secret-{next(self._numbers)} %+&=?/:" + "-" * 24
        expires = "expires_secrets" in self._habits
        client["client_secret_expires_at"] = int(time.time() + self.secret_lifetime) * expires

    def _issue_token(self, client: Document) -> None:
        client["registration_access_token"] = f"registration-access-token-{next(self._numbers)}"

"""Logins: the code flow with PKCE, tokens, userinfo (RFC 6749, OpenID Connect)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey

from django_dcr.testing.authentication import asserted, credentials
from django_dcr.testing.clients import Clients, Document
from django_dcr.testing.messages import Answer, Request, error

_LIFETIME = 3600
_ALGORITHM = "RS256"


@lru_cache(maxsize=2)
def _signing_key(kid: str) -> RSAKey:
    """Return a key for this process; to generate one takes a tenth of a second."""
    return RSAKey.generate_key(2048, {"kid": kid})


@dataclass
class Login:
    """A user who has consented to an authorization request."""

    request: Mapping[str, str]
    user: Mapping[str, Any]


class Logins(Clients):
    """The server's authorization, token, userinfo and jwks endpoints."""

    def __init__(self, issuer: str) -> None:
        super().__init__(issuer)
        #: The claims of the user who logs in.
        self.user: Document = {"sub": "jane", "name": "Jane", "email": "jane@example.com"}
        #: The logins by their code, until it is exchanged.
        self.codes: dict[str, Login] = {}
        #: The logins by each access and refresh token that was issued for them.
        self.tokens: dict[str, Login] = {}
        self._assertions: set[str] = set()

    def _authorize(self, request: Request, user: Mapping[str, Any]) -> Answer:
        """Return the address to send the user to, with status 302 (RFC 6749 section 4.1.2)."""
        query = request.query
        client = self.find_client(query.get("client_id", ""))
        if client is None:
            return error(400, "invalid_client", "No such client.")
        if query.get("redirect_uri") not in client.get("redirect_uris", []):
            return error(400, "invalid_request", "The redirect_uri is not a registered one.")
        answer = {"state": query["state"]} if "state" in query else {}
        if "names_another_issuer" in self._habits:
            answer["iss"] = "https://another.test"
        elif "omits_issuer" not in self._habits:
            answer["iss"] = self.issuer
        if "denies" in self._habits:
            answer["error"] = "access_denied"
        elif query.get("response_type") != "code":
            answer["error"] = "unsupported_response_type"
        else:
            answer["code"] = secrets.token_urlsafe()
            self.codes[answer["code"]] = Login(query, user)
        separator = "&" if "?" in query["redirect_uri"] else "?"
        return 302, {"Location": f"{query['redirect_uri']}{separator}{urlencode(answer)}"}

    def _token(self, request: Request) -> Answer:
        form = request.form
        client = self._authenticated(request)
        if client is None:
            return error(401, "invalid_client")
        grant = form.get("grant_type")
        if grant == "authorization_code":
            with self._lock:
                login = self.codes.pop(form.get("code", ""), None)
            if login is None or not _fits(login.request, form, client):
                return error(400, "invalid_grant")
        elif grant == "refresh_token":
            login = self.tokens.get(form.get("refresh_token", ""))
            if login is None or login.request["client_id"] != client["client_id"]:
                return error(400, "invalid_grant")
        elif grant == "client_credentials":
            login = Login({"client_id": client["client_id"]}, {"sub": client["client_id"]})
        else:
            return error(400, "unsupported_grant_type")
        return 200, self._issue(login)

    def _issue(self, login: Login) -> Document:
        access, refresh = secrets.token_urlsafe(), secrets.token_urlsafe()
        self.tokens |= {access: login, refresh: login}
        document = {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": _LIFETIME,
        }
        scope = login.request.get("scope")
        if scope is not None:
            document["scope"] = scope
        if "openid" in (scope or "").split() and "omits_id_tokens" not in self._habits:
            document["id_token"] = self.id_token(login)
        return document

    def id_token(self, login: Login) -> str:
        """Return an ID token for a login, signed (OpenID Connect Core section 2)."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": login.request["client_id"],
            "iat": now,
            "exp": now + _LIFETIME,
            **({"nonce": login.request["nonce"]} if "nonce" in login.request else {}),
            **login.user,
        }
        key = _signing_key("forged" if "forges_id_tokens" in self._habits else "published")
        # Under the id of the published key, as a forger would.
        return jwt.encode({"alg": _ALGORITHM, "kid": "published"}, claims, key)

    def _userinfo(self, request: Request) -> Answer:
        login = self.tokens.get(request.bearer_token)
        return error(401, "invalid_token") if login is None else (200, dict(login.user))

    def _jwks(self) -> Answer:
        public = _signing_key("published").as_dict(private=False)
        return 200, {"keys": [{**public, "alg": _ALGORITHM, "use": "sig"}]}

    def _authenticated(self, request: Request) -> Document | None:
        """Return the client, if it authenticates by its registered method and no other."""
        client_id, secret, used = credentials(request)
        client = self.find_client(client_id)
        if client is None or used != client.get("token_endpoint_auth_method", "none"):
            return None
        if used.endswith("_jwt"):
            return client if self._asserts(client, secret) else None
        expiry = client.get("client_secret_expires_at", 0)
        has_expired = 0 < expiry <= time.time()
        is_valid = used == "none" or (secret == client["client_secret"] and not has_expired)
        return client if is_valid else None

    def _asserts(self, client: Document, assertion: str) -> bool:
        def keys() -> Any:
            return client.get("jwks") or self.fetch(client.get("jwks_uri", ""))

        audience = {self.issuer, f"{self.base}/token"}
        identifier = asserted(assertion, client, audience=audience, keys=keys)
        with self._lock:
            is_new = bool(identifier) and identifier not in self._assertions
            self._assertions.add(identifier)
        return is_new


def _fits(asked: Mapping[str, str], form: Mapping[str, str], client: Document) -> bool:
    """Whether the client to which a code was issued redeems it (RFC 6749 4.1.3, RFC 7636)."""
    verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
    return (
        asked["client_id"] == client["client_id"]
        and asked["redirect_uri"] == form.get("redirect_uri")
        and asked.get("code_challenge", challenge) == challenge
    )

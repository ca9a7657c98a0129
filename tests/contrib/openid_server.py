"""The small login server, which also says in signed tokens who logged in (OpenID Connect Core)."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.contrib.login_server import LoginHandler, LoginServer


@functools.cache
def signing_key() -> rsa.RSAPrivateKey:
    """One for all tests, for it takes a while to find."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class OpenIDServer(LoginServer):
    """Issues ID tokens, and publishes the key that they are signed with."""

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = OpenIDHandler
        self.issues_id_tokens = True
        #: What signs them instead of the key that is published.
        self.signing_secret = ""
        #: Members of ID tokens that a test has changed; None takes one away.
        self.claims: dict[str, Any] = {}
        #: The user's claims, or a signed token of them.
        self.userinfo: dict[str, Any] | str = {"sub": "jane", "email": "jane@example.com"}
        #: The document at the ``jwks_uri``.
        algorithm = jwt.get_algorithm_by_name("RS256")
        public = json.loads(algorithm.to_jwk(signing_key().public_key()))
        self.jwks: dict[str, Any] = {"keys": [{"kid": "old", "kty": "?"}, {**public, "kid": "k1"}]}
        #: Who asked for the user's token, claims and keys, by path.
        self.agents: dict[str, str] = {}

    def metadata(self) -> dict[str, Any]:
        document = {**super().metadata(), "jwks_uri": f"{self.issuer}/jwks", **self.changes}
        return {name: value for name, value in document.items() if value is not None}

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        login = self.codes.get(form["code"])
        status, document = super().token(form, authorization)
        if status == 200 and self.issues_id_tokens and login is not None:
            standing = {"aud": login.request["client_id"], "nonce": login.request.get("nonce")}
            document["id_token"] = self.signed(**{**standing, **self.claims})
        return status, document

    def signed(self, **claims: Any) -> str:
        standing = {"iss": self.issuer, "sub": "jane", "iat": time.time()}
        members = {**standing, "exp": time.time() + 3600, **claims}
        members = {name: value for name, value in members.items() if value is not None}
        if self.signing_secret:
            return jwt.encode(members, self.signing_secret, algorithm="HS256")
        return jwt.encode(members, signing_key(), algorithm="RS256", headers={"kid": "k1"})


class OpenIDHandler(LoginHandler):
    server: OpenIDServer

    def do_GET(self) -> None:  # noqa: N802
        userinfo = self.server.userinfo
        if self.path == "/jwks":
            self.answer(200, self.server.jwks)
        elif self.path == "/userinfo" and isinstance(userinfo, str):
            self.send_response(200)
            self.send_header("Content-Type", "application/jwt")
            self.end_headers()
            self.wfile.write(userinfo.encode())
        elif self.path == "/userinfo":
            token = self.headers["Authorization"].removeprefix("Bearer ")
            assert token in self.server.tokens
            self.answer(200, userinfo)
        else:
            super().do_GET()

    def answer(self, status: int, document: dict[str, Any]) -> None:
        self.server.agents[self.path] = self.headers["User-Agent"]
        super().answer(status, document)

"""The small authorization server, at which its one user, Jane, is logged in and consents."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote_plus, urlencode, urlsplit

import jwt
import requests

from django_dcr.models import ClientRegistration
from tests.authorization_server import AuthorizationServer
from tests.authorization_server import _Handler as Handler

#: Without form-urlencoding none of these gets through HTTP Basic (RFC 6749 section 2.3.1).
ODD = " :%+&=?/"

#: How a client may authenticate.
METHODS = [
    "client_secret_basic",
    "client_secret_post",
    "none",
    "private_key_jwt",
    "client_secret_jwt",
]


class LoginServer(AuthorizationServer):
    """Speaks the code flow with PKCE (RFC 6749, RFC 7636), and names itself (RFC 9207)."""

    #: Fetches a client's jwks_uri; a test says how.
    fetch: Callable[[str], dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = LoginHandler
        #: Members of the metadata that a test has changed; None takes one away.
        self.changes: dict[str, Any] = {}
        #: The parameters of each authorization request, by the code that was issued for it.
        self.codes: dict[str, dict[str, str]] = {}
        #: The form of each request at the token endpoint.
        self.forms: list[dict[str, str]] = []
        self.tokens: set[str] = set()
        #: Its answer to a client that it does not accept.
        self.refusal: tuple[int, dict[str, Any]] = (401, {"error": "invalid_client"})
        #: Whether it hangs up on who asks for a token.
        self.hangs_up = False
        self.is_slow = False
        #: The identifiers of the assertions that were used.
        self.used: set[str] = set()

    def metadata(self) -> dict[str, Any]:
        document = {
            **super().metadata(),
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            **self.changes,
        }
        return {name: value for name, value in document.items() if value is not None}

    def _turn(self, client: dict[str, Any], *names: str) -> None:
        super()._turn(client, *names)
        if "client_secret" in names:
            client["client_secret"] += ODD * 3  # and as long as HS256 wants it

    def log_in(self, url: str) -> str:
        """Go to an authorization URL as Jane's browser does; return where that ends."""
        assert url.startswith(f"{self.issuer}/authorize?")
        answer = requests.get(url, allow_redirects=False, timeout=600)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def authorize(self, query: dict[str, str]) -> str:
        client = self.clients[query["client_id"]]
        assert query["redirect_uri"] in client["redirect_uris"]
        code = secrets.token_urlsafe()
        self.codes[code] = query
        answer = {"code": code, "state": query["state"], "iss": self.issuer}
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.forms.append(form)
        client = self.authenticated(form, authorization)
        if client is None:
            return self.refusal
        if form["grant_type"] == "authorization_code":
            request = self.codes.pop(form["code"])
            verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
            assert request["code_challenge"] == base64.urlsafe_b64encode(verifier).decode()[:-1]
            assert request["client_id"] == client["client_id"]
            assert request["redirect_uri"] == form["redirect_uri"]
        token = secrets.token_urlsafe()
        self.tokens.add(token)
        lifetime = {"token_type": "Bearer", "expires_in": 3600}
        return 200, {"access_token": token, "refresh_token": f"again-{token}", **lifetime}

    def authenticated(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """The client, if it authenticates by the method that it registered, and no other."""
        if "client_assertion" in form:
            assert not authorization
            assert "client_secret" not in form
            return self.signer(form)
        client_id, secret = form.get("client_id"), form.get("client_secret")
        used = "client_secret_post" if secret else "none"
        if authorization:
            assert client_id is secret is None
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
            client_id, secret = (unquote_plus(part) for part in pair.split(":"))
            used = "client_secret_basic"
        client = self.clients.get(client_id or "")
        if client is None or used != client["token_endpoint_auth_method"]:
            return None
        return client if used == "none" or secret == client["client_secret"] else None

    def signer(self, form: dict[str, str]) -> dict[str, Any] | None:
        """The client that has signed the assertion (RFC 7523 section 3)."""
        assertion = form["client_assertion"]
        assert form["client_assertion_type"].endswith(":client-assertion-type:jwt-bearer")
        header = jwt.get_unverified_header(assertion)
        client = self.clients.get(form["client_id"])
        if client is None:
            return None
        keys: dict[str, Any] = {}
        method = client["token_endpoint_auth_method"]
        if method == "private_key_jwt":
            document = client.get("jwks") or self.fetch(client["jwks_uri"])
            keys = {key["kid"]: jwt.PyJWK(key) for key in document["keys"]}
        else:
            assert method == "client_secret_jwt"
            keys = {"": client["client_secret"]}
        try:
            claims = jwt.decode(
                assertion,
                keys[header.get("kid", "")],
                [header["alg"]],
                audience=self.issuer,
                issuer=client["client_id"],
                subject=client["client_id"],
                options={"require": ["exp", "iat", "jti"], "strict_aud": True},
            )
        except (KeyError, jwt.PyJWTError):
            return None
        with self.lock:
            fresh = claims["jti"] not in self.used
            self.used.add(claims["jti"])
        return client if fresh else None

    def credentials(self, registration: ClientRegistration) -> list[str]:
        """What must not be seen of a login that it kept waiting."""
        client = self.clients[registration.client_id]
        secret = quote_plus(client["client_secret"])
        pair = f"{quote_plus(client['client_id'])}:{secret}"
        verifier = self.forms[-1]["code_verifier"]
        return [client["client_secret"], secret, base64.b64encode(pair.encode()).decode(), verifier]


class LoginHandler(Handler):
    server: LoginServer

    def do_GET(self) -> None:  # noqa: N802
        place = urlsplit(self.path)
        if place.path == "/authorize":
            self.send_response(302)
            self.send_header("Location", self.server.authorize(dict(parse_qsl(place.query))))
            self.end_headers()
        elif place.path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            assert token in self.server.tokens
            self.answer(200, {"sub": "jane"})
        else:
            self.handle_any()

    def do_POST(self) -> None:  # noqa: N802
        if self.path != "/token":
            self.handle_any()
            return
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.server.is_slow:
            self.server.forms.append(dict(parse_qsl(body)))
            time.sleep(1)
            return
        if self.server.hangs_up:
            return
        authorization = self.headers.get("Authorization", "")
        self.answer(*self.server.token(dict(parse_qsl(body)), authorization))

    def answer(self, status: int, document: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

"""The small authorization server, at which its one user, Jane, is logged in and consents."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import requests

from django_dcr.models import ClientRegistration
from django_dcr.testing import AuthorizationServer as SiteTestServer
from django_dcr.testing import Request
from django_dcr.testing.logins import Login
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

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = LoginHandler
        #: Members of the metadata that a test has changed; None takes one away.
        self.changes: dict[str, Any] = {}
        #: What a site's own tests have, which keeps the logins.
        self.logins = SiteTestServer(self.issuer, habits=["omits_id_tokens"])
        self.logins.clients = self.clients
        self.codes, self.tokens = self.logins.codes, self.logins.tokens
        #: The form of each request at the token endpoint.
        self.forms: list[dict[str, str]] = []
        #: Its answer to a client that it does not accept.
        self.refusal: tuple[int, dict[str, Any]] = (401, {"error": "invalid_client"})
        #: Whether it hangs up on who asks for a token.
        self.hangs_up = False
        self.is_slow = False

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

    def _rotate(self, client: dict[str, Any], *names: str) -> None:
        super()._rotate(client, *names)
        if "client_secret" in names:
            client["client_secret"] += ODD * 3  # and as long as HS256 wants it

    def log_in(self, url: str) -> str:
        """Go to an authorization URL as Jane's browser does; return where that ends."""
        assert url.startswith(f"{self.issuer}/authorize?")
        answer = requests.get(url, allow_redirects=False, timeout=600)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def authorize(self, url: str) -> tuple[int, dict[str, Any]]:
        return self.logins.handle(Request("authorization", "GET", url), {"sub": "jane"})

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.forms.append(form)
        headers = {"Authorization": authorization} if authorization else {}
        body = urlencode(form).encode()
        request = Request("token", "POST", f"{self.issuer}/token", headers, body)
        status, document = self.logins.handle(request, {})
        return self.refusal if status == 401 else (status, document)

    def issue(self, refresh_token: str) -> None:
        """Let its one client have a refresh token."""
        [client_id] = self.clients
        self.tokens[refresh_token] = Login({"client_id": client_id}, {"sub": "jane"})

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
            status, headers = self.server.authorize(f"{self.server.issuer}{self.path}")
            assert status == 302, headers
            self.send_response(302)
            self.send_header("Location", headers["Location"])
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

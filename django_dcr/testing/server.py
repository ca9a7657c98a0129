"""The server: its URLs, the requests to each of them, and what a test can look up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any

from django_dcr import transport, uris
from django_dcr.testing.clients import Document
from django_dcr.testing.habits import check
from django_dcr.testing.logins import Logins
from django_dcr.testing.messages import ENDPOINTS, Answer, LoginRefusedError, Request, error, reply
from django_dcr.transport import Reply
from django_dcr.transport.adapter import AnySession

_PATHS = {
    "/register": "registration",
    "/authorize": "authorization",
    "/token": "token",
    "/userinfo": "userinfo",
    "/jwks": "jwks",
}
_WELL_KNOWN = ("oauth-authorization-server", "openid-configuration")


class AuthorizationServer(Logins):
    """A server that this process reaches under ``issuer`` between ``start()`` and ``stop()``.

    ``with`` calls both. Requests of this app and its integrations reach it, in every thread of
    the process; other requests are not affected. ``issuer`` is any that the site's settings
    allow, and ``habits`` are the names of ``HABITS`` that are switched on at first.
    """

    def __init__(self, issuer: str = "https://login.test", *, habits: Collection[str] = ()) -> None:
        super().__init__(issuer)
        parsed = uris.parse(issuer)
        self._origin, self._path = parsed.origin, parsed.path.rstrip("/")
        self._mounts = ExitStack()
        #: Members of the metadata that differ; None removes one.
        self.metadata_changes: Document = {}
        #: The requests received, in order.
        self.requests: list[Request] = []
        self.switch_on(*habits)

    def start(self) -> AuthorizationServer:
        """Let this process reach the server. Raises ValueError where its issuer has one already."""
        prefixes = [f"{self._origin}{path}" for path in [*self._places, f"{self._path}/"]]
        self._mount = self._mounts.enter_context(transport.mounted(self._answer, prefixes))
        return self

    def stop(self) -> None:
        """Make it unreachable; its state stays, and it can be started again."""
        self._mounts.close()

    def __enter__(self) -> AuthorizationServer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def mount_on(self, session: AnySession) -> AnySession:
        """Let a session of the site reach the server, which must be started; return the session."""
        session.mount(f"{self._origin}/", self._mount)
        return session

    def switch_on(self, *names: str, at: Collection[str] = ()) -> None:
        """Switch habits on; those of ``FAILURES`` at some of the ``ENDPOINTS`` only, if given.

        Raises ValueError for a name that is not known.
        """
        self._habits.switch_on(names, [at] if isinstance(at, str) else at)

    def switch_off(self, *names: str) -> None:
        """Switch habits off, all of them where none is named."""
        self._habits.switch_off(names)

    def asked(self, endpoint: str, method: str = "") -> list[Request]:
        """Return the requests to one of the ``ENDPOINTS``, of a method if given."""
        check("endpoint", [endpoint], ENDPOINTS)
        return [
            request
            for request in self.requests
            if request.endpoint == endpoint and method in ("", request.method)
        ]

    def metadata(self) -> Document:
        """The server's metadata document (RFC 8414 section 2)."""
        base = self.base
        has_registration = "offers_no_registration" not in self._habits
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "userinfo_endpoint": f"{base}/userinfo",
            "jwks_uri": f"{base}/jwks",
            "registration_endpoint": f"{base}/register" if has_registration else None,
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "profile", "email"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
                "client_secret_jwt",
                "none",
            ],
            "authorization_response_iss_parameter_supported": "omits_issuer" not in self._habits,
            "client_id_metadata_document_supported": "takes_documents" in self._habits,
            **self.metadata_changes,
        }
        return {name: value for name, value in document.items() if value is not None}

    def log_in(self, url: str, **claims: Any) -> str:
        """Log in as a user who was redirected to ``url``; return the URL the server redirects to.

        That is the site's redirect URI with a code or an error. ``claims`` are added to those in
        ``user``, or replace them. Raises LoginRefusedError where the server shows the user an
        error instead (RFC 6749 section 4.1.2.1).
        """
        request = Request(self._endpoint(uris.parse(url).path), "GET", url)
        if not url.startswith(f"{self.base}/") or request.endpoint != "authorization":
            raise LoginRefusedError(f"Not the authorization endpoint of {self.issuer}: {url}")
        answer = self.respond(request, {**self.user, **claims})
        if answer.status != 302:
            raise LoginRefusedError(f"The server answers {answer.status}: {answer.body.decode()}")
        return answer.headers["Location"]

    def respond(self, request: Request, user: Mapping[str, Any] | None = None) -> Reply:
        """Return the response to a request; at the authorization endpoint ``user`` logs in.

        Raises ConnectionError and TimeoutError for habits that end a connection.
        """
        failure = self._habits.failure(request)
        if failure == "is_unreachable":
            raise ConnectionRefusedError
        self.requests.append(request)
        if failure in _WITHOUT_WORK:
            return _WITHOUT_WORK[failure]
        status, document = self.handle(request, self.user if user is None else user)
        if failure == "hangs":
            raise TimeoutError
        if failure == "breaks_off":
            raise ConnectionResetError
        return Reply(302, document, b"") if status == 302 else reply(status, document)

    def handle(self, request: Request, user: Mapping[str, Any]) -> Answer:
        """Process a request; return a status, and the document (of a redirect, the headers)."""
        match request.endpoint, request.method:
            case "metadata", "GET":
                return 200, self.metadata()
            case "registration", "POST" if "offers_no_registration" not in self._habits:
                return self._register(request)
            case "configuration", "GET" | "PUT" | "DELETE":
                return self._manage(request)
            case "authorization", "GET":
                return self._authorize(request, user)
            case "token", "POST":
                return self._token(request)
            case "userinfo", "GET" | "POST":
                return self._userinfo(request)
            case "jwks", "GET":
                return self._jwks()
        return error(404, "not_found")

    @property
    def _places(self) -> list[str]:
        """The paths of the metadata document (RFC 8414 section 3.1, OpenID Discovery 4)."""
        return [f"/.well-known/{name}{self._path}" for name in _WELL_KNOWN]

    def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        path = uris.parse(url).path
        return self.respond(Request(self._endpoint(path), method, url, headers, body))

    def _endpoint(self, path: str) -> str:
        below = path.removeprefix(self._path)
        if path in self._places or below in (f"/.well-known/{name}" for name in _WELL_KNOWN):
            return "metadata"
        return "configuration" if below.startswith("/register/") else _PATHS.get(below, "")


_PAGE = b"<!doctype html><title>Welcome</title>"
#: The responses of the habits that do not process the request.
_WITHOUT_WORK = {
    "fails": Reply(503, {"Content-Type": "text/html"}, b"<title>Service unavailable</title>"),
    "rate_limits": Reply(429, {"Retry-After": "60"}, b""),
    "shows_a_page": Reply(200, {"Content-Type": "text/html"}, _PAGE),
}

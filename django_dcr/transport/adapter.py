"""Sessions of ``requests``, as login libraries use them, made to send through ``send()``."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from django_dcr import uris
from django_dcr.exceptions import DCRError, errors_at
from django_dcr.text import SensitiveBytes, SensitiveText, hides_variables
from django_dcr.transport.sending import send

AnySession = TypeVar("AnySession", bound=requests.Session)

_NO_COOKIES = DefaultCookiePolicy(allowed_domains=[])
# send() sets its own: it names itself, and decodes only gzip and deflate.
_NOT_PASSED_ON = {"accept-encoding", "connection", "content-length", "user-agent"}


def harden_session(
    session: AnySession, issuer: str, *, registration: int | None = None
) -> AnySession:
    """Make a session of ``requests`` send through ``send()`` only; return it.

    Every exchange then has the limits of ``send()``: allowed addresses, ``DCR_TIMEOUT`` seconds,
    ``DCR_MAX_RESPONSE_BYTES``, whatever the caller asks for. Redirects are not followed, so
    nothing meant for ``issuer`` goes elsewhere. Where ``send()`` raises a DCRError, the session
    raises requests.ConnectionError with the same text. ``registration`` is the primary key for
    logs and signals.
    """
    # The session's arguments contain credentials, and its frames are above those of send().
    session.request = hides_variables(session.request)  # type: ignore[method-assign]
    session.trust_env = False  # .netrc would replace the Authorization header
    session.cookies.set_policy(_NO_COOKIES)
    for scheme in ("https://", "http://"):
        session.mount(scheme, Adapter(issuer, registration))
    return session


class Adapter(BaseAdapter):
    """A transport for ``requests`` that passes each request to ``send()``."""

    def __init__(self, issuer: str, registration: int | None) -> None:
        super().__init__()
        self.issuer = uris.without_query(issuer)  # a malformed URL may contain a key
        self.registration = registration

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        body = _masked_body(request)
        headers = {
            name: _masked(value)
            for name, value in request.headers.items()
            if name.lower() not in _NOT_PASSED_ON
        }
        method, url = str(request.method), str(request.url)
        try:
            with errors_at(self.issuer, "login", self.registration):
                reply = send(method, url, body=body, headers=headers)
        except DCRError as exc:
            raise requests.ConnectionError(str(exc)) from exc
        response = requests.Response()
        response.status_code = reply.status
        response.headers = CaseInsensitiveDict(reply.headers)
        response.headers.pop("Location", None)
        response.encoding = get_encoding_from_headers(response.headers)
        response.url, response.request = url, request
        response._content = reply.body
        return response

    def close(self) -> None:
        """Keep the connections: they belong to the thread, not to this session."""


def _masked(value: str | bytes) -> SensitiveText:
    return SensitiveText(value.decode("latin-1") if isinstance(value, bytes) else value)


def _masked_body(request: requests.PreparedRequest) -> SensitiveBytes | None:
    if request.body is None:
        return None
    return SensitiveBytes(request.body.encode() if isinstance(request.body, str) else request.body)

"""Responses that are not a success, and the error that each becomes.

RFC 7591 section 3.2.2, RFC 7592 section 2, RFC 6750 section 3.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from django_dcr import uris
from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.protocol.json import delta_seconds, http_date, parse_object
from django_dcr.text import MASK, clean, hides_variables

MAX_RETRY_AFTER = 3600
MAX_ERROR_LENGTH = 100
MAX_DESCRIPTION_LENGTH = 200
MAX_CHALLENGE_LENGTH = 16_384

# RFC 6749 section 5.2.
_ERROR = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")
# RFC 9110 section 11. Nothing in it can fail half-way, so it is walked through once.
_CHALLENGE = re.compile(
    r"(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+)"
    r'(?:[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)|(?P<plain>[^\s,"]*)))?',
    re.DOTALL,
)
_ADVICE = {
    "invalid_redirect_uri": "Check redirect_uris.",
    "invalid_client_metadata": "Check the client metadata against what this server accepts.",
    "invalid_software_statement": "Check software_statement.",
    "unapproved_software_statement": "Ask the server's operator to approve software_statement.",
}


class Reply(Protocol):
    """An HTTP answer; its headers are looked up without regard to case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...


def check_status(
    reply: Reply,
    accepted: Collection[int],
    *,
    step: str,
    secrets: Collection[str] = (),
) -> None:
    """Raise ``rejection(...)`` unless the answer's status is one of those accepted."""
    if reply.status not in accepted:
        raise rejection(reply, step=step, secrets=secrets)


@hides_variables
def rejection(reply: Reply, *, step: str, secrets: Collection[str] = ()) -> DCRError:
    """Return the error that an answer without success means; its text says what to do next.

    ``step`` is what was asked for, such as "register", which the advice depends on. ``secrets``
    are values that must not be repeated should the server echo them.
    """
    status = reply.status
    if 300 <= status < 400:
        return NetworkError(_redirect(reply), status=status)
    if status in (405, 501) or (status == 404 and step == "register"):
        return UnsupportedError(_unsupported(status, step), status=status)
    error = _refusal(reply, step, secrets)
    if 400 <= status < 500 or status == 503 or error.was_refused:
        return error
    return InvalidResponseError(
        f"The server answered with status {status:03}. Try again later, or ask its operator.",
        status=status,
    )


def _redirect(reply: Reply) -> str:
    try:
        target = f" to {uris.origin(reply.headers.get('Location', ''))}"
    except ValueError:
        target = ""
    return (
        f"The server answered {reply.status}, a redirect{target}, and none is followed. "
        "Ask its operator for the address that answers itself."
    )


def _unsupported(status: int, step: str) -> str:
    if step == "register":
        return (
            f"The server answered {status}: registration is not offered at its endpoint. "
            "Register by hand, or ask its operator to turn it on."
        )
    return f"The server answered {status}: it does not offer this ({step}). Use its own console."


def _refusal(reply: Reply, step: str, secrets: Collection[str]) -> RequestRejectedError:
    said = _said(reply)
    error = _error(said.get("error"), secrets)
    description = _description(said.get("error_description"), secrets)
    wait = _retry_after(reply.headers.get("Retry-After", ""))
    gone = step in ("read", "update", "delete") and reply.status in (401, 404, 410)
    code = f" {error}" if error else ""
    words = f', in its words "{description}"' if description else ""
    advice = _advice(reply.status, step, error, wait)
    return (RegistrationGoneError if gone else RequestRejectedError)(
        f"The server refused with {reply.status}{code}{words}. {advice}",
        status=reply.status,
        error=error,
        error_description=description,
        retry_after=wait,
    )


def _said(reply: Reply) -> Mapping[str, Any]:
    try:
        document = parse_object(reply.body)
    except InvalidResponseError:
        document = {}
    if "error" in document or reply.status not in (400, 401, 403):  # RFC 6750 section 3.1
        return document
    return _challenge(reply.headers)


def _challenge(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of the Bearer challenge (RFC 6750 section 3)."""
    scheme = ""
    parameters: dict[str, str] = {}
    header = headers.get("WWW-Authenticate", "")[:MAX_CHALLENGE_LENGTH]
    for match in _CHALLENGE.finditer(header):
        name, quoted, plain = match["name"].lower(), match["quoted"], match["plain"]
        if quoted is None and plain is None:
            scheme = name
        elif scheme == "bearer":
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name, value)
    return parameters


def _error(value: object, secrets: Collection[str]) -> str:
    code = _redacted(value, secrets) if isinstance(value, str) else ""
    plain = len(code) <= MAX_ERROR_LENGTH and _ERROR.fullmatch(code)
    return code.strip() if plain else ""


def _description(value: object, secrets: Collection[str]) -> str:
    return (
        clean(_redacted(value, secrets), MAX_DESCRIPTION_LENGTH) if isinstance(value, str) else ""
    )


def _redacted(text: str, secrets: Collection[str]) -> str:
    """Return ``text`` on one line without the secrets, in the spellings an echo takes."""
    spellings = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            quote(secret, safe="", errors="replace"),
            html.escape(secret),
            json.dumps(secret)[1:-1],
        )
        if spelling
    }
    # The longest first, for one may be part of another. Twice, because cleaning may close
    # the gaps that hid one.
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, MASK)
    text = clean(text, 10 * MAX_DESCRIPTION_LENGTH)
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, MASK)
    return text


def _retry_after(text: str) -> int | None:
    """Return the seconds to wait (RFC 9110 section 10.2.3), at most ``MAX_RETRY_AFTER``."""
    seconds = delta_seconds(text)
    if seconds is None:
        moment = http_date(text)
        if moment is None:
            return None
        seconds = moment - time.time()
    return int(min(seconds, MAX_RETRY_AFTER)) if seconds >= 0 else None


def _advice(status: int, step: str, error: str, wait: int | None) -> str:
    if error in _ADVICE:
        return _ADVICE[error]
    if status in (429, 503):
        return f"Wait {wait} seconds, then try again." if wait else "Try again later."
    if step == "register" and status == 401:
        return "It wants an initial access token that it still accepts; set one on the server."
    if step == "register" and status == 403:
        return "It does not permit this registration; ask its operator, or give another token."
    if step in ("read", "update", "delete") and status in (401, 404, 410):
        return "It refuses this registration's token or has forgotten the client; register again."
    return "Ask the server's operator what it accepts."

"""The error for each response that is not a success.

RFC 7591 section 3.2.2, RFC 7592 section 2, RFC 6750 section 3.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Collection, Mapping
from typing import Any
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
from django_dcr.protocol import error_responses
from django_dcr.protocol.error_responses import Reply, ServerError
from django_dcr.protocol.headers import delta_seconds, http_date
from django_dcr.text import MASK, clean, hides_variables

__all__ = ["Reply", "check_status", "quoted", "rejection"]

MAX_RETRY_AFTER = 3600
MAX_DESCRIPTION_LENGTH = 200

_ADVICE = {
    "invalid_redirect_uri": "Check redirect_uris.",
    "invalid_client_metadata": "Check the client metadata against what this server accepts.",
    "invalid_software_statement": "Check software_statement.",
    "unapproved_software_statement": "Ask the server's operator to approve software_statement.",
}
_WHERE_TO_PUT_ONE = (
    "set one on the server's row in the admin, or give --initial-access-token-file to "
    "manage.py dcr_register."
)
# About the sender rather than the request; "token_endpoint_auth_method" does not match.
_ON_AUTHENTICATION = re.compile(
    r"\b((access|invalid|bearer|initial)[ _-])*token\b|\bbearer\b|\b(un)?authenticated\b"
    r"|\bauthentication (credentials|is|was)\b|\bcredentials\b|\bauthorization header\b"
    r"|\bunauthori[sz]ed\b",
    re.IGNORECASE,
)


def check_status(
    reply: Reply,
    accepted: Collection[int],
    *,
    step: str,
    secrets: Collection[str] = (),
) -> None:
    """Raise ``rejection(...)`` unless the response's status is one of those accepted."""
    if reply.status not in accepted:
        raise rejection(reply, step=step, secrets=secrets)


@hides_variables
def rejection(reply: Reply, *, step: str, secrets: Collection[str] = ()) -> DCRError:
    """Return the error for a response that is not a success; its message says what to do next.

    The advice depends on ``step``, such as "register". ``secrets`` are removed from the message,
    should the server echo them.
    """
    status = reply.status
    if 300 <= status < 400:
        return NetworkError(_redirect(reply), status=status)
    stated = _safe(error_responses.read(reply), secrets)
    if status in (405, 501) or (status == 404 and step == "register"):
        return UnsupportedError(_unsupported(status, step, stated), status=status)
    error = _refusal(reply, stated, step, token_sent=any(secrets))
    if 400 <= status < 500 or status == 503 or error.was_refused:
        return error
    return InvalidResponseError(
        f"The server answered with status {status:03}{_quoted(stated)}. Try again later, or ask "
        "its operator.",
        status=status,
    )


def quoted(document: Mapping[str, Any], secrets: Collection[str]) -> str:
    """Return the error in the body of a successful response, as part of a sentence."""
    return _quoted(_safe(error_responses.read_object(document, 200), secrets))


def _redirect(reply: Reply) -> str:
    try:
        target = f" to {uris.origin(reply.headers.get('Location', ''))}"
    except ValueError:
        target = ""
    return (
        f"The server answered {reply.status}, a redirect{target}, which is not followed. "
        "Ask its operator for the final address."
    )


def _unsupported(status: int, step: str, stated: ServerError) -> str:
    if step == "register":
        return (
            f"The server answered {status}{_quoted(stated)}: registration is not offered at its "
            "endpoint. Register by hand, or ask its operator to turn it on."
        )
    return (
        f"The server answered {status}{_quoted(stated)}: it does not offer this ({step}). "
        "Use its own console."
    )


def _refusal(
    reply: Reply, stated: ServerError, step: str, *, token_sent: bool
) -> RequestRejectedError:
    wait = _retry_after(reply.headers.get("Retry-After", ""))
    gone = step in ("read", "update", "delete") and reply.status in (401, 404, 410)
    advice = _advice(reply.status, step, stated, wait, token_sent=token_sent)
    return (RegistrationGoneError if gone else RequestRejectedError)(
        f"The server refused with {reply.status}{_quoted(stated)}. {advice}",
        status=reply.status,
        error=stated.code,
        error_description=stated.description,
        retry_after=wait,
    )


def _safe(stated: ServerError, secrets: Collection[str]) -> ServerError:
    """Return the code and the description without secrets, cleaned and shortened."""
    code, words = (_redacted(text, secrets) for text in stated)
    return ServerError(
        code if error_responses.is_code(code) else "", clean(words, MAX_DESCRIPTION_LENGTH)
    )


def _quoted(stated: ServerError) -> str:
    code = f" {stated.code}" if stated.code else ""
    return f'{code}, in its words "{stated.description}"' if stated.description else code


def _redacted(text: str, secrets: Collection[str]) -> str:
    """Return ``text`` on one line without the secrets, in whichever encoding it echoes them."""
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
    # The longest first, because one may be part of another. Again after cleaning, which may remove
    # the characters that split one.
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


def _advice(
    status: int, step: str, stated: ServerError, wait: int | None, *, token_sent: bool
) -> str:
    """Return what to do next; no guesses where the server itself gives a reason."""
    if status in (429, 503):
        return f"Wait {wait} seconds, then try again." if wait else "Try again later."
    if step in ("read", "update", "delete") and status in (401, 404, 410):
        return "It refuses this registration's token or has forgotten the client; register again."
    if step == "register" and (advice := _on_token(status, stated, token_sent=token_sent)):
        return advice
    if stated.description:
        return "If that does not explain it, ask the server's operator."
    return _ADVICE.get(stated.code, "Ask the server's operator what it accepts.")


def _on_token(status: int, stated: ServerError, *, token_sent: bool) -> str:
    """Return what to do about the initial access token, "" where it is not the known cause."""
    if _ON_AUTHENTICATION.search(f"{stated.code} {stated.description}"):
        if token_sent:
            return (
                "Check the initial access token that was sent; it may have expired or be used up."
            )
        return f"It may want an initial access token: {_WHERE_TO_PUT_ONE}"
    if status == 401 and not token_sent:
        return f"It wants an initial access token: {_WHERE_TO_PUT_ONE}"
    if stated.description or stated.code in _ADVICE:
        return ""
    if status == 401:
        return "It does not accept the initial access token that was sent; set another one."
    if status == 403:
        return "It does not permit this registration; ask its operator, or give another token."
    return ""

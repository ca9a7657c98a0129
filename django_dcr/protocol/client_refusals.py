"""What answers at the token and authorization endpoints say of the client that asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from django_dcr.protocol import error_responses
from django_dcr.protocol.error_responses import Reply

_CODES = ("invalid_client", "unauthorized_client")
_WORDS = re.compile(
    r"\b(unknown|invalid|unregistered|no such)\W+(oauth\W+)?(client|application)\b"
    r"|\b(client|application)\b.{0,80}\b(unknown|invalid|not found|not registered|not recognized"
    r"|does not exist|doesn't exist)\b",
    re.IGNORECASE | re.DOTALL,
)


def client_refusal(reply: Reply) -> str:
    """Return how a token endpoint says that it refuses the client, "" where it does not say so.

    That is the code ``invalid_client`` (RFC 6749 section 5.2), or what servers answer in its
    place: ``unauthorized_client``, 404, or words about an unknown client under another code.
    """
    if reply.status not in (400, 401, 403, 404, 422):
        return ""
    said = error_responses.read(reply)
    if said.code in _CODES:
        return said.code
    is_unknown = reply.status == 404 or _WORDS.search(said.words)
    if said.code == "invalid_grant" or not is_unknown:
        return ""
    return said.code or str(reply.status)


def accepts_client(reply: Reply) -> bool:
    """Whether a token endpoint refuses a code only, and so has accepted the client."""
    return reply.status == 400 and error_responses.read(reply).code == "invalid_grant"


def knows_client(reply: Reply, redirect_uri: str, state: str) -> bool | None:
    """Return what an authorization endpoint lets on about a client, None where nothing.

    It sends to a redirect URI, also with an error, only where that is a known client's (RFC 6749
    section 4.1.2.1); an unknown client gets a page that says so.
    """
    if 300 <= reply.status < 400:
        place = _parameters(reply.headers, redirect_uri)
        return True if state in place.get("state", ()) else None
    return False if reply.status in (400, 401, 403, 404, 422) else None


def _parameters(headers: Mapping[str, str], redirect_uri: str) -> dict[str, list[str]]:
    location = headers.get("Location", "")
    begin, added = location[: len(redirect_uri)], location[len(redirect_uri) :]
    if begin != redirect_uri or added[:1] not in ("?", "&"):
        return {}
    return parse_qs(added[1:])

"""Codes and descriptions in error responses, whatever the format of the body.

RFC 6749 section 5.2, RFC 6750 section 3, RFC 9457, and what servers, frameworks and gateways
send instead. The texts are as the server wrote them: callers redact and clean them before they
are shown.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, parse_qsl

from django_dcr.exceptions import NOT_CARRIED_OUT, InvalidResponseError
from django_dcr.protocol.client_metadata import ASSIGNED_MEMBERS, names_secret, type_of
from django_dcr.protocol.headers import parse_challenge
from django_dcr.protocol.json import parse_object
from django_dcr.text import clean

#: A longer plain text is a page or a log rather than a reason.
MAX_PLAIN_TEXT_LENGTH = 300
_MAX_DEPTH = 4
_MAX_ITEMS = 10
_MAX_FIELDS = 100

# The names of members are compared without regard to case, "_" and "-".
_CODES = ("error", "code", "errorcode")
_NESTED_CODES = (*_CODES, "type", "status")
_WORDS = (
    "errordescription",
    "message",
    "detail",
    "description",
    "errormessage",
    "errorsummary",
    "faultstring",
    "msg",
    "reason",
    "title",
)
_PARTS = (
    "errors",
    "details",
    "errorcauses",
    "violations",
    "invalidparams",
    "validationerrors",
    "fielderrors",
    "nonfielderrors",
    "issues",
)
_FIELDS = ("field", "fieldname", "loc", "path", "property", "propertypath", "param", "name")
# One word, as every registered code is. RFC 6749 section 5.2 permits spaces, but a code with
# spaces is a sentence in the wrong member.
_CODE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,100}")
_OTHER_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,99}")
_NO_CODES = frozenset({"error", "fail", "failed", "failure", "object"})
# The reason phrases of statuses, which add nothing (RFC 9110 section 15 and older RFCs).
_PHRASES = frozenset(
    {
        "bad gateway",
        "bad request",
        "conflict",
        "error",
        "forbidden",
        "gateway timeout",
        "internal server error",
        "method not allowed",
        "not acceptable",
        "not found",
        "not implemented",
        "service unavailable",
        "too many requests",
        "unauthorized",
        "unprocessable content",
        "unprocessable entity",
        "unsupported media type",
    }
)
_PAGE = re.compile(r"\s*<(?:!doctype|html|\?xml)\b", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*\"?([a-z0-9-]+)", re.IGNORECASE)
# The server chooses the codec, and some of Python's are slow or not for text.
_CHARSETS = frozenset(
    {"utf-8", "us-ascii", "iso-8859-1", "windows-1252", "utf-16", "utf-16le", "utf-16be"}
)

# RFC 6749 section 5.2; some servers send the second for an unknown client.
_CLIENT_CODES = ("invalid_client", "unauthorized_client")
_CLIENT_WORDS = re.compile(
    r"\b(unknown|invalid|unregistered|no such)\W+(oauth\W+)?(client|application)\b"
    r"|\b(client|application)\b.{0,80}\b(unknown|invalid|not found|not registered|not recognized"
    r"|does not exist|doesn't exist)\b",
    re.IGNORECASE | re.DOTALL,
)


class Reply(Protocol):
    """An HTTP response; its headers are case-insensitive."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...


class ServerError(NamedTuple):
    """A server's error code and description, "" where there is none, exactly as written."""

    code: str
    description: str


def read(reply: Reply) -> ServerError:
    """Return the code and the description of an error response; never raises."""
    document = _document(reply)
    stated = (
        ServerError("", _plain_text(reply))
        if document is None
        else read_object(document, reply.status)
    )
    if stated.code or reply.status not in (400, 401, 403):
        return stated
    challenge = _challenge(reply.headers)  # RFC 6750 section 3.1
    code, words = challenge.get("error", ""), challenge.get("error_description", "")
    if not is_code(code):
        code, words = "", words or code
    return ServerError(code, words or stated.description)


def is_code(text: str) -> bool:
    """Whether a text may be an error code rather than a sentence."""
    return bool(_CODE.fullmatch(clean(text, 101)))


def read_object(document: Mapping[str, Any], status: int) -> ServerError:
    """Return the code and the description in the object that a body was parsed into."""
    members = _normalized(document)
    code = _oauth_code(members)
    # With any other status a code means that nothing was done, and only OAuth's codes mean that.
    if not code and status in NOT_CARRIED_OUT:
        code = _other_code(members)
    words = _words(document, _MAX_DEPTH) or _field_errors(document)
    return ServerError(code, "" if words == code else words)


def _document(reply: Reply) -> Mapping[str, Any] | None:
    """Parse the body; return None where it is neither JSON nor a form."""
    text = _text(reply)
    start = text.lstrip()[:1]
    if start != "{":
        # The body may be a list of errors, or one text.
        return _parsed(f'{{"errors":{text}}}') or _form(reply, text)
    return _parsed(text) or {}


def _parsed(text: str) -> Mapping[str, Any] | None:
    try:
        return parse_object(text.encode())
    except InvalidResponseError:
        return None


def _form(reply: Reply, text: str) -> Mapping[str, Any] | None:
    if "x-www-form-urlencoded" not in _media_type(reply):
        return None
    try:
        return dict(parse_qsl(text, max_num_fields=_MAX_FIELDS))
    except ValueError:
        return {}


def _text(reply: Reply) -> str:
    """Decode the body: by its byte order mark, by the charset it names, or as UTF-8."""
    body = reply.body
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.decode("utf-16", "replace")
    named = _CHARSET.search(_media_type(reply))
    charset = named[1].lower() if named else ""
    return body.decode(
        charset if charset in _CHARSETS - {"utf-8"} else "utf-8-sig", errors="replace"
    )


def _media_type(reply: Reply) -> str:
    return reply.headers.get("Content-Type", "")[:200].lower()


def _plain_text(reply: Reply) -> str:
    """Return a short plain text, but never a page, whatever its media type."""
    media_type = _media_type(reply)
    if "html" in media_type or "xml" in media_type:
        return ""
    text = _text(reply).strip()
    is_page = text.startswith("<") or "</" in text
    is_legible = len(text) <= MAX_PLAIN_TEXT_LENGTH and "\ufffd" not in text
    return _informative(text) if is_legible and not is_page else ""


def _normalized(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members by their normalized names; the first of two counts."""
    members: dict[str, Any] = {}
    for name, value in document.items():
        members.setdefault(re.sub("[^a-z0-9]", "", name.lower()), value)
    return members


def _oauth_code(members: Mapping[str, Any]) -> str:
    error = members.get("error")
    return error if isinstance(error, str) and is_code(error) else ""


def _other_code(members: Mapping[str, Any]) -> str:
    error, first = members.get("error"), _first(members.get("errors"))
    for inner, names in ((error, _NESTED_CODES), (members, _CODES), (first, _CODES)):
        found = _normalized(inner) if isinstance(inner, Mapping) else {}
        for value in map(found.get, names):
            if isinstance(value, str) and _is_other_code(value):
                return value
    return ""


def _is_other_code(text: str) -> bool:
    return bool(_OTHER_CODE.fullmatch(text)) and text.lower() not in _NO_CODES


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _words(value: object, depth: int) -> str:
    """Return the text in a value of any type, on one line."""
    if isinstance(value, str):
        return _informative(value)
    if depth == 0:
        return ""
    if isinstance(value, list):
        return _joined(_item(item, depth - 1) for item in value[:_MAX_ITEMS])
    return _words_of_object(value, depth) if isinstance(value, Mapping) else ""


def _informative(text: str) -> str:
    """Return a text, or "" for a reason phrase or a page."""
    is_phrase = text.strip().rstrip(".!").lower() in _PHRASES
    return "" if is_phrase or _PAGE.match(text) else text.strip()


def _joined(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts)))


def _words_of_object(document: Mapping[str, Any], depth: int) -> str:
    members = _normalized(document)
    error = None if _oauth_code(members) else members.get("error")
    candidates = [*map(members.get, _WORDS), error, members.get("fault")]
    words = next(filter(None, (_words(each, depth - 1) for each in candidates)), "")
    parts = next(filter(None, (_parts(members.get(name), depth - 1) for name in _PARTS)), "")
    return _joined(iter((words, parts)))


def _item(value: object, depth: int) -> str:
    """Return the text of one of several errors, after the name of its field."""
    words = _words(value, depth)
    field = _field(_normalized(value)) if isinstance(value, Mapping) else ""
    return f"{field}: {words}" if words and field else words


def _parts(value: object, depth: int) -> str:
    """Return the texts of several errors, also of an object with one member per field."""
    return _words(value, depth) or (_by_field(value, depth) if isinstance(value, Mapping) else "")


def _by_field(document: Mapping[str, Any], depth: int) -> str:
    errors = (
        (name, _words(value, depth - 1))
        for name, value in list(document.items())[:_MAX_ITEMS]
        # The text about a credential may contain it.
        if not (name in ASSIGNED_MEMBERS or names_secret(name))
    )
    return _joined(f"{name}: {words}" for name, words in errors if words)


def _field(members: Mapping[str, Any]) -> str:
    """Return the name of the member of the request that an error is about."""
    source = members.get("source")
    places = [*map(members.get, _FIELDS)]
    if isinstance(source, Mapping):  # in JSON:API
        places += [source.get("pointer"), source.get("parameter")]
    for place in places:
        if isinstance(place, list):  # a path: ["body", "redirect_uris", 0]
            place = ".".join(str(step) for step in place if isinstance(step, (str, int)))
        if isinstance(place, str) and place:
            return place
    return ""


def _field_errors(document: Mapping[str, Any]) -> str:
    """Return the texts of a body that consists of fields and sentences about them."""
    return _joined(
        f"{name}: {words}"
        for name, value in document.items()
        # A value without spaces is an echo of what was sent.
        if type_of(name) and isinstance(value, list) and " " in (words := _words(value, 1))
    )


def _challenge(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters of the Bearer challenge (RFC 6750 section 3)."""
    challenge = parse_challenge(headers.get("WWW-Authenticate", ""))
    return next((found for scheme, found in challenge.parts if scheme == "bearer"), {})


def client_refusal(reply: Reply) -> str:
    """Return the code with which a token endpoint refuses the client, "" where it does not.

    That is ``invalid_client`` (RFC 6749 section 5.2), or what servers send instead:
    ``unauthorized_client``, the status 404, or a description of an unknown client with another
    code.
    """
    if reply.status not in (400, 401, 403, 404, 422):
        return ""
    stated = read(reply)
    if stated.code in _CLIENT_CODES:
        return stated.code
    is_unknown = reply.status == 404 or _CLIENT_WORDS.search(stated.description)
    if stated.code == "invalid_grant" or not is_unknown:
        return ""
    return stated.code or str(reply.status)


def accepts_client(reply: Reply) -> bool:
    """Whether a token endpoint refuses only the code, so that it has accepted the client."""
    return reply.status == 400 and read(reply).code == "invalid_grant"


def knows_client(reply: Reply, redirect_uri: str, state: str) -> bool | None:
    """Return whether an authorization endpoint knows the client; None where that is uncertain.

    It redirects to a redirect URI, even with an error, only for a known client (RFC 6749 section
    4.1.2.1); for an unknown one it shows an error page.
    """
    if 300 <= reply.status < 400:
        parameters = _parameters(reply.headers, redirect_uri)
        return True if state in parameters.get("state", ()) else None
    return False if reply.status in (400, 401, 403, 404, 422) else None


def _parameters(headers: Mapping[str, str], redirect_uri: str) -> dict[str, list[str]]:
    location = headers.get("Location", "")
    begin, added = location[: len(redirect_uri)], location[len(redirect_uri) :]
    if begin != redirect_uri or added[:1] not in ("?", "&"):
        return {}
    return parse_qs(added[1:])

"""Protected resource metadata (RFC 9728): identifiers, well-known URLs, and checks before use.

Resource identifiers are compared code point by code point (section 6) and never normalized.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django_dcr import uris
from django_dcr.exceptions import (
    InvalidResponseError,
    NotAllowedError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.protocol.headers import Challenge
from django_dcr.protocol.json import storable
from django_dcr.protocol.server_metadata import check_trusted_origin, identifier_fault
from django_dcr.text import clean

EXAMPLE_RESOURCE = "https://mcp.example.com/mcp"
#: How many times in a row a resource may ask for more scope.
MAX_STEP_UPS = 3

#: How many of the servers that a resource names are considered; a megabyte has room for 80,000.
MAX_NAMED = 1000

_PLACE = "/.well-known/oauth-protected-resource"

# RFC 6749 section 3.3.
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
# Longer ones do not fit into a URL.
_MAX_SCOPE_LENGTH = 4096


def check_resource(resource: str, *, allow_http: bool = False) -> None:
    """Raise NotAllowedError for what is not a resource identifier (RFC 9728 section 1.2).

    It is an https URL (with ``allow_http``: or http) without fragment (RFC 8707 section 2) and user
    name.
    """
    fault = _fault(resource, allow_http) or _document_fault(resource)
    if fault:
        # The address is not quoted: it may contain a password before an @.
        raise NotAllowedError(
            f"The address of the resource {fault}. One looks like {EXAMPLE_RESOURCE}."
        )


def _fault(resource: object, allow_http: bool) -> str:
    return identifier_fault(resource, allow_http=allow_http, forbidden={"#": "a fragment"})


def _document_fault(resource: str) -> str:
    """Say so where the address is that of a metadata document rather than of the resource."""
    origin, mark, rest = resource.partition(_PLACE)
    if not mark or rest[:1] not in ("", "/", "?"):
        return ""
    meant = clean(uris.without_query(origin + rest))
    return f'is that of its metadata document; the resource is probably "{meant}"'


def resource_metadata_urls(resource: str) -> list[str]:
    """Return the URLs at which a valid resource may publish its metadata, in the order to try them.

    The well-known part is inserted between host and path (RFC 9728 section 3.1). Then follows the
    URL at the root, which servers with several resources use (MCP authorization).
    """
    url = uris.parse(resource)
    place = _root_place(url.origin)
    path = "" if url.path == "/" else url.path
    query = "" if url.query is None else f"?{url.query}"
    return list(dict.fromkeys([f"{place}{path}{query}", place]))


def check_metadata_place(url: str, *, resource: str, trusted_origins: Collection[str]) -> None:
    """Check the URL in a challenge's ``resource_metadata`` before it is requested.

    Raises UnsupportedError unless it is on the resource's own origin or on a trusted one, so that
    a resource cannot direct this site's requests anywhere else.
    """
    try:
        check_trusted_origin(url, issuer=resource, trusted_origins=trusted_origins)
    except InvalidResponseError as exc:
        raise UnsupportedError(str(exc)) from exc
    except NotAllowedError as exc:
        raise UnsupportedError(
            f"The resource's challenge refers to {clean(uris.origin(url))} for its metadata, "
            "which is not the resource's origin, so that was not asked. If you trust it, add it "
            "to the resource's trusted_origins."
        ) from exc


def _root_place(origin: str) -> str:
    return f"{origin}{_PLACE}"


def is_metadata_of(name: object, resource: str, *, place: str = "", alias: str = "") -> bool:
    """Whether a document at the URL ``place`` with the identifier ``name`` is about ``resource``.

    The identifiers are equal (RFC 9728 section 3.3), or ``name`` is the ``alias`` that an operator
    accepts. At the root the document may be that of the whole origin, which also describes
    resources without one of their own (MCP authorization).
    """
    if name == resource or (alias and name == alias):
        return True
    try:
        origin = uris.origin(resource)
    except ValueError:
        return False
    return place == _root_place(origin) and name in (origin, f"{origin}/")


def check_resource_metadata(
    document: dict[str, Any], *, resource: str, place: str = "", alias: str = ""
) -> dict[str, Any]:
    """Return the document as it may be stored, unknown members included.

    Raises InvalidResponseError unless ``is_metadata_of``. Null, empty strings and empty lists count
    as absent.
    """
    stated = document.get("resource")
    if not is_metadata_of(stated, resource, place=place, alias=alias):
        raise InvalidResponseError(_mismatch(stated, resource))
    # Without that character it would be another URL, which would then be used.
    members: dict[str, Any] = storable(document)
    for name in {"authorization_servers", "resource"} & document.keys():
        members[name] = storable(document[name], substitute="\ufffd")
    return {
        name: value
        for name, value in members.items()
        # An empty list of these means that no bearer token is accepted (section 2).
        if value not in (None, "") and (value != [] or name == "bearer_methods_supported")
    }


def _mismatch(stated: object, resource: str) -> str:
    name = clean(uris.without_query(str(stated)[:200]), 150)
    if may_be_alias(stated, resource):
        return (
            f'The metadata is of "{name}", not of the address asked for, so it must '
            "not be used. Use exactly that address; or, if the server names itself so in the "
            "place of all of its resources, accept it for this one with: manage.py dcr_discover "
            "--resource URL --alias NAME"
        )
    return (
        f'The metadata is of another resource, "{name}", so it must not be used. '
        "If that is the one you mean, use exactly its address."
    )


def may_be_alias(alias: object, resource: str) -> bool:
    """Whether an operator may accept a document about ``alias`` for ``resource``.

    It has to be on the same origin, with the same path or a parent of it.
    """
    if _fault(alias, allow_http=True):
        return False
    whole, part = uris.parse(alias), uris.parse(resource)
    path = whole.path.rstrip("/")
    is_above = part.path.rstrip("/") == path or part.path.startswith(f"{path}/")
    return whole.origin == part.origin and whole.query is None and is_above


def named_servers(metadata: Mapping[str, Any]) -> list[str]:
    """Return up to ``MAX_NAMED`` issuers of ``authorization_servers`` (RFC 9728 section 2)."""
    named = metadata.get("authorization_servers")
    texts = named if isinstance(named, list) else []
    return list(dict.fromkeys(text for text in texts if isinstance(text, str)))[:MAX_NAMED]


def scopes_for(
    metadata: Mapping[str, Any],
    challenge: Challenge | None = None,
    *,
    requested: Sequence[str] = (),
) -> str:
    """Return the scope to request for a resource, as one string; "" to request none.

    It is that of the resource's ``challenge``, else the ``scopes_supported`` of its ``metadata``
    (MCP authorization, "Scope Selection Strategy"); more than 4,096 characters are ignored. After
    an ``insufficient_scope`` (RFC 6750 section 3.1) pass what was ``requested`` so far, one string
    for each authorization in order: those scopes are included.

    Raises RequestRejectedError where that adds no scope, and after ``MAX_STEP_UPS`` attempts, so
    that a resource cannot send users round in a loop.
    """
    earlier = [requested] if isinstance(requested, str) else list(requested)
    supported = metadata.get("scopes_supported")
    # Servers of the MCP Python SDK name no scope in a challenge, and list what they need.
    named = _tokens(challenge.scope.split() if challenge else []) or _tokens(
        supported if isinstance(supported, list) else []
    )
    if not earlier:
        return " ".join(named)
    before = _tokens(" ".join(earlier).split())
    union = _tokens([*before, *named])
    if len(earlier) > MAX_STEP_UPS or len(union) <= len(before):
        raise RequestRejectedError(
            "The resource refuses a token that has the scope it asked for. Report this to its "
            "operator.",
            step="login",
            status=403,
            error="insufficient_scope",
        )
    return " ".join(union)


def _tokens(words: Sequence[object]) -> list[str]:
    """Return each scope once, or none where they are too long to be sent."""
    scopes = (word for word in words if isinstance(word, str) and _SCOPE_TOKEN.fullmatch(word))
    tokens = list(dict.fromkeys(scopes))
    return tokens if len(" ".join(tokens)) <= _MAX_SCOPE_LENGTH else []

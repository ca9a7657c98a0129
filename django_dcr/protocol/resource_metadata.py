"""Protected resources: where their metadata is, and what of it may be used (RFC 9728).

A resource is text that is compared code point by code point (section 6); nothing here normalises
one.
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
from django_dcr.protocol.server_metadata import check_trusted_origin
from django_dcr.text import clean

EXAMPLE_RESOURCE = "https://mcp.example.com/mcp"
#: How often a resource may ask for more scope, one authorization after the other.
MAX_STEP_UPS = 3

#: So many of the servers that a resource names are looked at: a megabyte would hold 80,000.
MAX_NAMED = 1000

_PLACE = "/.well-known/oauth-protected-resource"

# RFC 6749 section 3.3.
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
# As long as a URL may become with it.
_MAX_SCOPE_LENGTH = 4096


def check_resource(resource: str, *, allow_http: bool = False) -> None:
    """Refuse what is not a protected resource's identifier (RFC 9728 section 1.2, RFC 8707 2).

    Raises NotAllowedError unless it is https (with ``allow_http``: or http) without fragment and
    userinfo.
    """
    fault = _fault(resource, allow_http) or _document_fault(resource)
    if fault:
        # The text itself is not repeated: what stands before its @ may be a password.
        raise NotAllowedError(
            f"The address of the resource {fault}. One looks like {EXAMPLE_RESOURCE}."
        )


def _fault(resource: object, allow_http: bool) -> str:
    text = str(resource)
    if "#" in text:
        return "has a fragment (the character #); leave that out"
    if "@" in text.partition("://")[2].partition("/")[0]:
        return "has a user name before an @; leave that out"
    try:
        url = uris.parse(resource)
    except ValueError as exc:
        return str(exc)
    if url.scheme == "http" and not allow_http:
        return "is not https; add its origin to DCR_INTERNAL_ORIGINS if it has no TLS"
    return ""


def _document_fault(resource: str) -> str:
    """What is wrong where the address is that of a document: one about a document finds none."""
    origin, mark, rest = resource.partition(_PLACE)
    if not mark or rest[:1] not in ("", "/", "?"):
        return ""
    meant = clean(uris.without_query(origin + rest))
    return f'is that of its metadata document; the resource is probably "{meant}"'


def resource_metadata_urls(resource: str) -> list[str]:
    """Return where a resource that passed ``check_resource`` may publish its metadata, in order.

    The well-known part is inserted between host and path and query (RFC 9728 section 3.1); then
    the place at the root, where servers of several resources have it (MCP authorization).
    """
    url = uris.parse(resource)
    place = _root_place(url.origin)
    path = "" if url.path == "/" else url.path
    query = "" if url.query is None else f"?{url.query}"
    return list(dict.fromkeys([f"{place}{path}{query}", place]))


def check_metadata_place(url: str, *, resource: str, trusted_origins: Collection[str]) -> None:
    """Check the URL of a challenge's ``resource_metadata`` before it is asked for.

    Raises UnsupportedError unless it is on the resource's own origin or on a trusted one: a
    resource must not be able to send this site's requests anywhere.
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
    """Whether a document at ``place`` that calls itself ``name`` is about ``resource``.

    That is, by the same text (RFC 9728 section 3.3), or by the ``alias`` that an operator accepts.
    The well-known place at the root is made of the origin alone, and so has the document of the
    origin, of which a resource that has none of its own is a part (MCP authorization).
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

    Raises InvalidResponseError unless ``is_metadata_of``. Members that are null or an empty text,
    and lists that are empty, are read as absent.
    """
    stated = document.get("resource")
    if not is_metadata_of(stated, resource, place=place, alias=alias):
        raise InvalidResponseError(_mismatch(stated, resource))
    # With a character left out, another server than the resource named would be used.
    members: dict[str, Any] = storable(document)
    for name in {"authorization_servers", "resource"} & document.keys():
        members[name] = storable(document[name], substitute="\ufffd")
    return {
        name: value
        for name, value in members.items()
        # Of these an empty list is a statement: no token comes as a bearer token (section 2).
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
    """Whether an operator may accept a document that names ``alias`` in place of ``resource``.

    It has to be on the same origin, and the same path or one above: the whole of which the
    resource is a part.
    """
    if _fault(alias, allow_http=True):
        return False
    whole, part = uris.parse(alias), uris.parse(resource)
    path = whole.path.rstrip("/")
    is_above = part.path.rstrip("/") == path or part.path.startswith(f"{path}/")
    return whole.origin == part.origin and whole.query is None and is_above


def named_servers(metadata: Mapping[str, Any]) -> list[str]:
    """Return the issuers in ``authorization_servers`` (RFC 9728 section 2), each of them once.

    Those after the first ``MAX_NAMED`` are left out.
    """
    named = metadata.get("authorization_servers")
    texts = named if isinstance(named, list) else []
    return list(dict.fromkeys(text for text in texts if isinstance(text, str)))[:MAX_NAMED]


def scopes_for(
    metadata: Mapping[str, Any],
    challenge: Challenge | None = None,
    *,
    requested: Sequence[str] = (),
) -> str:
    """Return the scope to request for a resource, in one text; "" to request none at all.

    That of the resource's ``challenge``; else the ``scopes_supported`` of its ``metadata``; else
    none (MCP authorization, "Scope Selection Strategy"). After an ``insufficient_scope`` (RFC
    6750 section 3.1) pass what was ``requested`` so far, one text for each authorization, the
    first one first: the answer is the union of all with what the challenge names, or else the
    metadata. More than 4,096 characters count as nothing said.

    Raises RequestRejectedError where that is nothing that was not requested already, and after
    ``MAX_STEP_UPS`` step-ups, so that no resource sends users round and round.
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
    """Return each scope once, or nothing where they are too long to be sent."""
    scopes = (word for word in words if isinstance(word, str) and _SCOPE_TOKEN.fullmatch(word))
    tokens = list(dict.fromkeys(scopes))
    return tokens if len(" ".join(tokens)) <= _MAX_SCOPE_LENGTH else []

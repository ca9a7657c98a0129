"""Authorization server metadata: issuers, well-known URLs, and checks before use.

RFC 8414 and OpenID Connect Discovery 1.0. Issuers are compared code point by code point (RFC 8414
section 4) and never normalized.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django_dcr import uris
from django_dcr.exceptions import InvalidResponseError, NotAllowedError, UnsupportedError
from django_dcr.protocol.json import storable
from django_dcr.text import clean

# Members that are URLs or objects of URLs (RFC 8414 section 2, RFC 8705 section 5).
_URL_MEMBERS = ("_endpoint", "_uri", "_endpoint_aliases")

# The parts of a URL that an issuer must not have.
_FORBIDDEN = {"?": "a query", "#": "a fragment"}

EXAMPLE_ISSUER = "https://login.example/realm"

#: The endpoints that this app and login libraries send requests or users to.
ENDPOINTS = (
    "registration_endpoint",
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "revocation_endpoint",
    "introspection_endpoint",
    "end_session_endpoint",
)


def check_issuer(issuer: str, *, allow_http: bool = False) -> None:
    """Raise NotAllowedError for what is not an issuer identifier (RFC 8414 section 2).

    It is an https URL (with ``allow_http``: or http) without query, fragment and user name.
    """
    fault = identifier_fault(issuer, allow_http=allow_http)
    meant = "" if fault else issuer_of_document(issuer)
    if meant:
        fault = f'is the address of a metadata document; the issuer is probably "{clean(meant)}"'
    if fault:
        # The issuer is not quoted: it may contain a password before an @.
        error = NotAllowedError(f"The issuer {fault}. An issuer looks like {EXAMPLE_ISSUER}.")
        error.suggested_issuer = meant
        raise error


def issuer_of_document(text: str) -> str:
    """Return the issuer of the metadata document at a well-known URL, "" for any other text.

    The inverse of ``well_known_urls()``.
    """
    before, mark, after = text.partition("/.well-known/")
    _name, slash, path = after.partition("/")
    return f"{before}{slash}{path}" if mark else ""


def identifier_fault(
    identifier: object, *, allow_http: bool, forbidden: Mapping[str, str] = _FORBIDDEN
) -> str:
    """Return what is wrong with the identifier of a server or a resource, "" where it is valid.

    ``forbidden`` has the names of the parts of a URL that it must not have, by their first
    character.
    """
    text = str(identifier)
    if "{" in text:
        return "is a template; replace the part in braces with the tenant's own value"
    if "@" in text.partition("://")[2].partition("/")[0]:
        return "has a user name before an @; leave that out"
    for character, part in forbidden.items():
        if character in text:
            return f"has {part} (the character {character}); leave that out"
    try:
        url = uris.parse(identifier)
    except ValueError as exc:
        return f"{exc}{_spelling(text)}"
    if url.scheme == "http" and not allow_http:
        return "is not https; add its origin to DCR_INTERNAL_ORIGINS if it has no TLS"
    return ""


def _spelling(text: str) -> str:
    """Point out an invisible character, or give the ASCII form of the host name."""
    for position, character in enumerate(text[: uris.MAX_LENGTH], start=1):
        if character.isspace():
            return f": character {position} is a space; remove it"
        if unicodedata.category(character) in ("Cc", "Cf"):
            return f": character {position} is invisible; remove it"
    scheme, mark, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    try:
        ascii_host = host.encode("idna").decode()
    except ValueError:
        return ""
    spelling = clean(f"{scheme}{mark}{ascii_host}{slash}{path}")
    return "" if ascii_host == host else f": its host name is not ASCII; write {spelling}"


def well_known_urls(issuer: str) -> list[str]:
    """Return the URLs at which a valid issuer may publish its metadata, in the order to try them.

    RFC 8414 inserted (section 3.1), OpenID inserted (section 5), OpenID appended (OpenID Connect
    Discovery section 4.1).
    """
    url = uris.parse(issuer)
    path = url.path.removesuffix("/")
    candidates = [
        f"{url.origin}/.well-known/oauth-authorization-server{path}",
        f"{url.origin}/.well-known/openid-configuration{path}",
        f"{url.origin}{path}/.well-known/openid-configuration",
    ]
    return list(dict.fromkeys(candidates))


def check_server_metadata(document: dict[str, Any], *, issuer: str) -> dict[str, Any]:
    """Return the document as it may be stored, unknown members included.

    Raises InvalidResponseError unless it is this issuer's (RFC 8414 section 3.3). Null, empty
    strings and empty ``..._supported`` lists count as absent.
    """
    stated = document.get("issuer")
    if stated != issuer:
        error = InvalidResponseError(_mismatch(stated, issuer))
        if isinstance(stated, str) and stated and not identifier_fault(stated, allow_http=True):
            error.suggested_issuer = stated
        raise error
    members: dict[str, Any] = storable(document)
    for name in members:
        if name.endswith(_URL_MEMBERS):
            # Without that character it would be another URL, which would then be used.
            members[name] = storable(document[name], substitute="\ufffd")
    return {
        name: value
        for name, value in members.items()
        if value not in (None, "") and not (name.endswith("_supported") and value == [])
    }


def _mismatch(stated: object, issuer: str) -> str:
    if not isinstance(stated, str) or not stated:
        return (
            "The metadata names no issuer, so it must not be used. "
            "Report this to the server's operator."
        )
    if stated.removesuffix("/") == issuer.removesuffix("/"):
        return (
            "The metadata's issuer differs in the slash at its end. "
            f'Add the server with exactly the issuer "{clean(stated)}".'
        )
    return (
        f'The metadata is of another issuer, "{clean(stated)}", so it must not be used. '
        "If that is the server you mean, add it under exactly its own issuer."
    )


def endpoint(
    metadata: Mapping[str, Any],
    name: str,
    *,
    issuer: str,
    trusted_origins: Collection[str] = (),
) -> str:
    """Return the URL of an endpoint such as "registration_endpoint", exactly as published.

    Raises UnsupportedError where there is none, and what ``check_trusted_origin`` raises.
    """
    url = metadata.get(name)
    if url in (None, ""):
        raise UnsupportedError(
            f"This server offers no dynamic registration: its metadata has no {name}. "
            "Register by hand, or ask its operator to turn it on."
            if name == "registration_endpoint"
            else f"This server's metadata has no {clean(name)}. Ask its operator to publish it."
        )
    try:
        check_trusted_origin(url, issuer=issuer, trusted_origins=trusted_origins)
    except NotAllowedError as exc:
        origins = foreign_origins(metadata, issuer=issuer, trusted_origins=trusted_origins)
        if len(origins) < 2:
            raise
        raise NotAllowedError(
            f"The server gave addresses at {', '.join(origins)}, which are not the issuer's "
            "origin. If you trust them, add them to the server's trusted_origins.",
        ) from exc
    return str(url)


def unusable_endpoints(
    metadata: Mapping[str, Any],
    names: Iterable[str] = ENDPOINTS,
    *,
    issuer: str,
    trusted_origins: Collection[str],
) -> list[str]:
    """Return the names of the published endpoints that ``endpoint`` refuses."""
    refused = []
    for name in names:
        try:
            if metadata.get(name) not in (None, ""):
                check_trusted_origin(metadata[name], issuer=issuer, trusted_origins=trusted_origins)
        except (InvalidResponseError, NotAllowedError):
            refused.append(name)
    return refused


def foreign_origins(
    metadata: Mapping[str, Any], *, issuer: str, trusted_origins: Collection[str]
) -> list[str]:
    """Return the origins that an operator has to trust before their endpoints can be used."""
    refused = unusable_endpoints(metadata, issuer=issuer, trusted_origins=trusted_origins)
    origins = _origins([metadata[name] for name in refused])
    home = uris.parse(issuer)
    return sorted(each for each in origins if each.startswith("https") or home.scheme == "http")


def check_trusted_origin(url: str, *, issuer: str, trusted_origins: Collection[str]) -> None:
    """Check a URL from the server, each time before anything is sent to it.

    Raises InvalidResponseError where it is malformed, or http although the issuer is https, and
    NotAllowedError where its origin is neither the issuer's nor one that the operator trusts.
    """
    try:
        target = uris.parse(url)
    except ValueError as exc:
        raise InvalidResponseError(
            f"The server gave an address that {exc}. Report this to its operator.",
        ) from exc
    home = uris.parse(issuer)
    if target.origin in {home.origin, *_origins(trusted_origins)}:
        return
    if target.scheme == "http" and home.scheme == "https":
        raise InvalidResponseError(
            f"The server gave an address at {target.origin}, which is not https. "
            "Report this to its operator.",
        )
    raise NotAllowedError(
        f"The server gave an address at {target.origin}, which is not the issuer's origin. "
        "If you trust it, add it to the server's trusted_origins.",
    )


def _origins(entries: Collection[str]) -> set[str]:
    origins = set()
    for entry in entries:
        try:
            origins.add(uris.origin(entry))
        except ValueError:
            continue  # a malformed entry allows nothing
    return origins

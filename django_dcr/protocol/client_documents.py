"""Hosting Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document).

A document's URL is the client_id. Servers fetch it, and do not follow redirects.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django_dcr import uris
from django_dcr.exceptions import InvalidResponseError, NotAllowedError
from django_dcr.protocol.client_metadata import SECRET_METHODS, merge_metadata, strings
from django_dcr.protocol.errors import Reply
from django_dcr.protocol.json import encode, parse_object
from django_dcr.protocol.policy import application_type, check_client_metadata
from django_dcr.text import clean

#: In bytes; servers may refuse longer documents (section 6.6 of the draft).
MAX_BYTES = 5 * 1024
#: In seconds: a changed redirect URI takes effect when a server's copy has expired.
MAX_AGE = 300
# In seconds; longer than people wait for a change to take effect.
_LONG_AGE = 86_400
# Ports from which servers fetch, as this app does.
_PORTS = (443, 8443, 9443)
# Domains that other networks do not resolve (RFC 6761, RFC 6762, RFC 8375).
_PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def document_url_fault(url: str, *, is_internal: bool = False) -> str:
    """Return what is wrong with the URL of a document, "" where it can be a client_id.

    Section 3 of the draft. ``is_internal`` is for servers inside the site's own network, which
    can use internal names and other ports.
    """
    try:
        parts = uris.parse(url)  # which refuses fragments, user names and dot segments
    except ValueError as exc:
        return str(exc)
    if parts.scheme != "https":
        return "is not https"
    if parts.query is not None:
        return "has a query"
    if parts.path in ("", "/"):
        return "has no path"
    if parts.explicit_port and parts.port == 443:
        return "writes out the port 443, which makes another client_id of it; leave :443 out"
    if is_internal:
        return ""
    if parts.port not in _PORTS:
        return f"has the port {parts.port}, from which servers do not fetch"
    return _host_fault(parts.host)


def _host_fault(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        private = "." not in host or host.endswith(_PRIVATE_NAMES)
        return f"is at {host}, which only this network knows" if private else ""
    return f"is at the IP address {host}; use a host name"


def document_method(metadata: Mapping[str, Any], server_metadata: Mapping[str, Any]) -> str:
    """Return how the client of a document authenticates at a server.

    A document has no shared secret (section 4.1 of the draft), so that is "none" or, with keys,
    "private_key_jwt". Raises NotAllowedError where the server or the site requires another.
    """
    offered = strings(server_metadata, "token_endpoint_auth_methods_supported")
    stated = metadata.get("token_endpoint_auth_method")
    if stated in SECRET_METHODS:
        raise NotAllowedError(
            f"{stated} is requested, and a document that anyone can read has no shared secret"
        )
    has_keys = bool({"jwks", "jwks_uri"} & metadata.keys())
    usable = ["none", *(["private_key_jwt"] if has_keys else [])]
    for method in [stated] if stated else usable:
        if not offered or method in offered:
            return str(method)
    raise NotAllowedError(
        f"the server's token endpoint does not take {' or '.join([stated] if stated else usable)}, "
        "which is what a document of this site can have"
    )


def client_document(metadata: Mapping[str, Any], *, method: str) -> dict[str, Any]:
    """Return the members of a document except its client_id.

    Raises NotAllowedError for members that are forbidden in a document or missing (section 4.1).
    """
    members = merge_metadata(metadata, {"token_endpoint_auth_method": method})
    check_client_metadata(members)
    if application_type(members) == "native":
        members["application_type"] = "native"
    for name in ("client_name", "redirect_uris"):
        if not members.get(name):
            raise NotAllowedError(f"a document needs {name}; state it")
    if method == "private_key_jwt" and not {"jwks", "jwks_uri"} & members.keys():
        raise NotAllowedError("private_key_jwt needs jwks_uri or jwks; state one")
    return members


def document_body(members: Mapping[str, Any], *, url: str) -> bytes:
    """Return the JSON to serve; raise NotAllowedError where it is too long."""
    body = encode({"client_id": url, **members})
    if len(body) > MAX_BYTES:
        raise NotAllowedError(
            f"The document has {len(body)} bytes, and servers may refuse more than {MAX_BYTES}. "
            "Shorten it; name keys by jwks_uri."
        )
    return bytes(body)


def document_faults(reply: Reply, *, url: str, body: bytes) -> list[str]:
    """Return why servers would refuse the response of ``url``, which should be ``body``."""
    if 300 <= reply.status < 400:
        return [
            f"it answers {reply.status}, a redirect to {clean(reply.headers.get('Location'), 100)}"
            ", which servers do not follow; look at APPEND_SLASH, SECURE_SSL_REDIRECT, "
            "PREPEND_WWW and the proxy"
        ]
    if reply.status != 200:
        return [f"it answers {reply.status}{_HINTS.get(reply.status, '')}"]
    return [*_header_faults(reply), *_content_faults(reply, url, body)]


_HINTS = {
    401: "; let it be read without a login",
    403: "; a firewall or middleware keeps servers out",
    404: "; include django_dcr.urls, and let every process have the same database",
}


def _header_faults(reply: Reply) -> Iterator[str]:
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/([a-z0-9.-]+\+)?json", kind):
        yield f"its Content-Type is {clean(kind, 60) or 'missing'}, not application/json"
    if "Set-Cookie" in reply.headers:
        yield "it sets a cookie; a proxy or middleware adds that"


def _content_faults(reply: Reply, url: str, body: bytes) -> Iterator[str]:
    if len(reply.body) > MAX_BYTES:
        yield f"it has {len(reply.body)} bytes, more than {MAX_BYTES}"
    try:
        served = parse_object(reply.body)
    except InvalidResponseError:
        yield "it is not a JSON object"
        return
    if served.get("client_id") != url:
        yield f"its client_id is {clean(served.get('client_id'), 100)}, not its own URL"
    elif served != parse_object(body):
        yield "it is another version than this site's; a cache in front of it keeps an old one"


def document_warnings(members: Mapping[str, Any], *, url: str) -> list[str]:
    """Return what some servers refuse in a document although the draft allows it."""
    host = uris.parse(url).host
    return [
        f"{name} is on {other}, and some servers want every one on the document's host {host}"
        for name in ("redirect_uris", "client_uri", "logo_uri", "tos_uri", "policy_uri")
        for other in sorted(_hosts(members.get(name)) - {host})
    ]


def age_warnings(headers: Mapping[str, str]) -> list[str]:
    """Return what the Cache-Control of a response means for changes of the document."""
    found = re.search(r"max-age=([0-9]{1,9})", headers.get("Cache-Control", ""))
    if found is None:
        return ["Cache-Control has no max-age; a proxy takes it away, and servers choose their own"]
    seconds = int(found[1])
    if seconds > _LONG_AGE:
        return [f"Cache-Control lets servers keep it for {seconds} seconds, so changes take long"]
    return []


def _hosts(value: object) -> set[str]:
    values = value if isinstance(value, list) else [value]
    hosts = set()
    for each in values:
        try:
            parts = uris.parse(each)
        except ValueError:
            continue  # such as a redirect URI of a native app
        if not parts.is_loopback:
            hosts.add(parts.host)
    return hosts

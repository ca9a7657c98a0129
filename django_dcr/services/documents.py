"""Client ID Metadata Documents: publishing, changing, checking and taking down this site's own.

A document belongs to an owner. Its URL says nothing about whose it is, stays when the document
changes, and is the same at every server whose registration asks for the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import NoReverseMatch, reverse

from django_dcr import protocol, signals, transport, uris
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    UnsupportedError,
)
from django_dcr.fields import keyed_digest
from django_dcr.lifecycle import Status
from django_dcr.logs import log
from django_dcr.mechanisms import Mechanism
from django_dcr.models import ClientRegistration
from django_dcr.services.discovery import discover_for
from django_dcr.services.key_rotation import own_keys
from django_dcr.services.operation import Operation, announce, conflict

STEP = "register"

_SERVED = [Status.REGISTERING, Status.ACTIVE]
# So many different documents an owner may have at once.
_MAX_DOCUMENTS = 16


def published(slug: str) -> bytes | None:
    """Return the document that is served under ``slug``, None where there is none. One query."""
    row = _serving(slug).order_by("pk").values_list("client_id", "metadata").first()
    return None if row is None else protocol.document_body(row[1], url=row[0])


def site_obstacle() -> str:
    """Return why this site can serve no document, whatever the server; "" where it can."""
    if not conf.DCR_BASE_URL:
        return "DCR_BASE_URL is not set"
    try:
        url = _url("0" * 16)
    except NoReverseMatch:
        return "the site's URLs do not include django_dcr.urls"
    fault = protocol.document_url_fault(url, is_internal=_is_internal(url))
    return f"the document's URL {fault}; see DCR_BASE_URL" if fault else ""


def obstacle(registration: ClientRegistration) -> str:
    """Return why a document cannot be this row's client, "" where it can. May ask the server."""
    found = site_obstacle()
    if found:
        return found
    server = discover_for(registration)
    if not server.takes_documents:
        return "the server does not announce client_id_metadata_document_supported"
    try:
        protocol.document_body(_members(registration), url=_url("0" * 16))
    except NotAllowedError as exc:
        return str(exc)
    return ""


def prepare(registration: ClientRegistration) -> bytes:
    """Fill in what the row will serve, and return it; nothing is stored or sent.

    Raises UnsupportedError where a document cannot be its client.
    """
    reason = obstacle(registration)
    if reason:
        raise UnsupportedError(
            f"A metadata document is not possible at this server: {reason.rstrip('.')}."
        )
    registration.metadata = _members(registration)
    slug, url = _place(registration)
    body = protocol.document_body(registration.metadata, url=url)
    registration.document_slug, registration.client_id = slug, url
    return body


def publish(registration: ClientRegistration, body: bytes) -> ClientRegistration:
    """Make a prepared row, whose intent is committed, an active client.

    Where no other registration has used the document, it is fetched first as servers will.
    What they would refuse is an InvalidResponseError; a document that cannot be fetched from
    here may still be there for others, and is published with a warning.
    """
    warnings = protocol.document_warnings(registration.metadata, url=registration.client_id)
    try:
        if not _others(registration).exists():
            warnings = [*_first_fetch(registration, body), *warnings]
    except DCRError as exc:
        registration.fail(exc, Status.DRAFT)
        raise
    for warning in warnings:
        log("advised", "The document %s: %s", registration.client_id, warning)
    if not registration.publish(registration.metadata, warnings):
        raise conflict(registration, "was taken over while its document was fetched")
    announce(signals.registered, registration)
    return registration


def change(work: Operation) -> ClientRegistration:
    """Serve what the row asks for now, to every server that uses the document.

    Raises ConflictError where another server's registration shares the document and has
    defaults that want something else in it.
    """
    registration = work.registration
    discover_for(registration)
    try:
        members = _members(registration)
    except NotAllowedError as exc:
        raise NotAllowedError(
            f"The document cannot be changed to that: {str(exc).rstrip('.')}."
        ) from exc
    protocol.document_body(members, url=registration.client_id)
    requested = registration.requested_metadata
    with work.lease(Status.ACTIVE):
        registration.requested_metadata = requested
        others = list(_others(registration).select_related("server"))
        for other in others:
            other.requested_metadata = requested
            if _members_of(other) != members:
                raise _shared(registration, other)
        warnings = protocol.document_warnings(members, url=registration.client_id)
        if not registration.publish(members, warnings, others=others):
            raise conflict(registration, "was taken over while this process waited")
    announce(signals.updated, registration)
    return registration


def closing_note(registration: ClientRegistration) -> str:
    """Return what is left of a document whose registration is closed, "" where nothing is."""
    others = [str(other.pk) for other in _others(registration)[:5]]
    if not others:
        return ""
    return (
        "The document is served on, for other servers' registrations are this client, too: "
        f"{', '.join(others)}."
    )


@dataclass(frozen=True)
class Inspection:
    """What a server finds at a document's URL."""

    #: What is served, by this site's own tables.
    document: dict[str, Any]
    #: Why servers would refuse it.
    faults: list[str]
    #: What some servers would not like, or this site could not find out.
    warnings: list[str]


def inspect_document(registration: ClientRegistration) -> Inspection:
    """Fetch a published document as a server does, and say what is wrong with it.

    Raises ConflictError for a registration that has no published document.
    """
    body = published(registration.document_slug) if registration.document_slug else None
    if body is None:
        raise ConflictError(
            f"Registration {registration.pk} serves no document. See what it is with: "
            f"manage.py dcr_show {registration.pk}"
        )
    faults, warnings = _fetched(registration, body)
    warnings += protocol.document_warnings(registration.metadata, url=registration.client_id)
    fault = site_obstacle()
    if fault:
        faults.append(fault)
    elif _url(registration.document_slug) != registration.client_id:
        faults.append(
            f"DCR_BASE_URL was changed, and the URL is the client's identity: keep serving "
            f"{registration.client_id}, or replace the client"
        )
    return Inspection(protocol.parse_object(body), faults, warnings)


def _serving(slug: str) -> Any:
    rows = ClientRegistration.objects.filter(mechanism=Mechanism.METADATA_DOCUMENT)
    return rows.filter(document_slug=slug, status__in=_SERVED)


def _others(registration: ClientRegistration) -> Any:
    """The other rows of this client, at other servers."""
    rows = ClientRegistration.objects.primary().filter(document_slug=registration.document_slug)
    return rows.filter(status=Status.ACTIVE, live=True).exclude(pk=registration.pk)


def _url(slug: str) -> str:
    return conf.DCR_BASE_URL.rstrip("/") + reverse("django_dcr:client-document", args=[slug])


def _is_internal(url: str) -> bool:
    try:
        return conf.is_internal(uris.parse(url))
    except ValueError:
        return False


def _members(registration: ClientRegistration) -> dict[str, Any]:
    requested, server = _requested(registration), registration.server
    method = protocol.document_method(requested, server.metadata)
    if method == "none":  # which leaves nothing but PKCE to protect a code
        try:
            protocol.code_challenge_method(server.metadata, method)
        except UnsupportedError as exc:
            raise NotAllowedError("the server does not offer PKCE with S256") from exc
    return protocol.client_document(requested, method=method)


def _requested(registration: ClientRegistration) -> dict[str, Any]:
    """Return what the row requests, with the site's keys where its client is to sign with them."""
    requested = registration.requested
    method, algorithm = (requested.get(f"token_endpoint_auth_{name}") for name in _HOW)
    if method not in (None, "private_key_jwt") or protocol.brings_keys(requested):
        return requested
    keys = own_keys(registration)
    if not keys.algorithms or algorithm not in (None, *keys.algorithms):
        return requested
    prefers = keys.preferred and not method  # else the server takes no other method
    if prefers and not protocol.prefers_to_sign(keys, registration.server.metadata):
        return requested
    return {**requested, "token_endpoint_auth_method": "private_key_jwt", **keys.published}


_HOW = ("method", "signing_alg")


def _members_of(registration: ClientRegistration) -> dict[str, Any] | None:
    try:
        return _members(registration)
    except NotAllowedError:
        return None


def _place(registration: ClientRegistration) -> tuple[str, str]:
    """Return a slug and its URL: that of the same document, or one that is free.

    The slugs of an owner are a keyed digest and a number: two processes find the same, and
    nobody else can tell whose they are.
    """
    slugs = [_slug(registration.owner, number) for number in range(_MAX_DOCUMENTS)]
    rows = ClientRegistration.objects.primary().filter(document_slug__in=slugs)
    rows = rows.filter(status__in=_SERVED).exclude(pk=registration.pk)
    used: dict[str, list[tuple[Any, str, int]]] = {}
    columns = ("document_slug", "metadata", "client_id", "server_id")
    for slug, metadata, client_id, server_id in rows.values_list(*columns):
        used.setdefault(slug, []).append((metadata, client_id, server_id))
    for slug in slugs:
        url = _url(slug)
        if all(
            (metadata, client_id) == (registration.metadata, url)
            # At the same server it is being replaced, and so has to be another.
            and server_id != registration.server_id
            for metadata, client_id, server_id in used.get(slug, ())
        ):
            return slug, url
    raise ConflictError(
        f"This owner has {_MAX_DOCUMENTS} different documents already. Close some with: "
        "manage.py dcr_revoke"
    )


def _slug(owner: str, number: int) -> str:
    return keyed_digest("document", owner, str(number))[:16]


def _first_fetch(registration: ClientRegistration, body: bytes) -> list[str]:
    faults, warnings = _fetched(registration, body)
    if faults:
        raise InvalidResponseError(
            f"Servers would refuse the document {registration.client_id}: {'; '.join(faults)}."
        )
    return warnings


def _fetched(registration: ClientRegistration, body: bytes) -> tuple[list[str], list[str]]:
    """Fetch the document; return faults and warnings."""
    url = registration.client_id
    try:
        reply = transport.send("GET", url)
    except (NetworkError, NotAllowedError) as exc:
        return [], [f"it could not be fetched from here, so what servers get is not known: {exc}"]
    faults = protocol.document_faults(reply, url=url, body=body)
    return faults, [] if faults else protocol.age_warnings(reply.headers)


def _shared(registration: ClientRegistration, other: ClientRegistration) -> ConflictError:
    return conflict(
        registration,
        f"shares its document with registration {other.pk}, whose server's defaults want "
        "something else in it; give this one a document of its own with: "
        "manage.py dcr_replace {pk}",
    )

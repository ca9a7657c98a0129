"""Client ID Metadata Documents: publishing, changing, checking and withdrawing this site's own.

A document belongs to an owner. Its URL does not reveal which, stays the same when the document
changes, and is shared by the owner's registrations that request the same metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import NoReverseMatch, reverse

from django_dcr import protocol, transport
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
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.key_rotation import own_keys
from django_dcr.services.operation import Operation, conflict

_SERVED = [Status.REGISTERING, Status.ACTIVE]
# How many different documents an owner may have at once.
_MAX_DOCUMENTS = 16
# Written once: compiling it for each request takes longer than all the rest of the answer.
_PUBLISHED = (
    "SELECT id, client_id, metadata "  # noqa: S608
    f"FROM {ClientRegistration._meta.db_table} "
    "WHERE document_slug = %s AND mechanism = %s AND status IN (%s, %s) ORDER BY id LIMIT 1"
)


def published(slug: str) -> bytes | None:
    """Return the document that is served at ``slug``, or None, with one query."""
    rows = ClientRegistration.objects.raw(_PUBLISHED, [slug, Mechanism.METADATA_DOCUMENT, *_SERVED])
    return next((protocol.document_body(row.metadata, url=row.client_id) for row in rows), None)


def site_obstacle() -> str:
    """Return why this site cannot serve documents to any server, "" where it can."""
    if not conf.DCR_BASE_URL:
        return "DCR_BASE_URL is not set"
    try:
        url = _url("0" * 16)
    except NoReverseMatch:
        return "the site's URLs do not include django_dcr.urls"
    fault = protocol.document_url_fault(url, is_internal=conf.is_internal(url))
    return f"the document's URL {fault}; see DCR_BASE_URL" if fault else ""


def obstacle(work: Operation, server: AuthorizationServer) -> str:
    """Return why a document cannot be this row's client at the server, "" where it can."""
    if not server.takes_documents:
        return "the server does not announce client_id_metadata_document_supported"
    try:
        protocol.document_body(_members(work.registration, work.requested), url=_url("0" * 16))
    except NotAllowedError as exc:
        return str(exc)
    return ""


def prepare(work: Operation) -> bytes:
    """Set the row's document and its URL, and return the document; store and send nothing.

    There must be no ``obstacle()``.
    """
    registration = work.registration
    registration.metadata = _members(registration, work.requested)
    slug, url = _place(registration)
    body = protocol.document_body(registration.metadata, url=url)
    registration.document_slug, registration.client_id = slug, url
    return body


def publish(registration: ClientRegistration, body: bytes) -> None:
    """Make a prepared row, whose intent is committed, an active client.

    A document that no other registration uses is fetched first, as servers will fetch it.
    Raises InvalidResponseError where they would refuse it; one that cannot be fetched from here
    may still be reachable for servers, and is published with a warning.
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


def change(work: Operation) -> None:
    """Serve what the row now requests to every server that uses the document.

    Raises ConflictError where a registration at another server shares the document and that
    server's defaults require different contents.
    """
    registration = work.registration
    try:
        members = _members(registration, work.requested)
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


def closing_note(registration: ClientRegistration) -> str:
    """Return why the document of a closed registration is still served, "" where it is not."""
    others = [str(other.pk) for other in _others(registration)[:5]]
    if not others:
        return ""
    return (
        "The document is still served, because registrations at other servers use this client: "
        f"{', '.join(others)}."
    )


@dataclass(frozen=True)
class Inspection:
    """What a server finds at a document's URL."""

    #: What this site's database says is served.
    document: dict[str, Any]
    #: Why servers would refuse it.
    faults: list[str]
    #: What some servers may refuse, or could not be checked from here.
    warnings: list[str]


def inspect_document(registration: ClientRegistration) -> Inspection:
    """Fetch a published document as a server does, and return what is wrong with it.

    Raises ConflictError for a registration that has no published document.
    """
    body = published(registration.document_slug) if registration.document_slug else None
    if body is None:
        raise ConflictError(
            f"Registration {registration.pk} has no published document. See its state with: "
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


def _others(registration: ClientRegistration) -> Any:
    """Return this client's rows at other servers."""
    rows = ClientRegistration.objects.primary().filter(document_slug=registration.document_slug)
    return rows.filter(status=Status.ACTIVE, live=True).exclude(pk=registration.pk)


def _url(slug: str) -> str:
    return conf.DCR_BASE_URL.rstrip("/") + reverse("django_dcr:client-document", args=[slug])


def _members(registration: ClientRegistration, requested: dict[str, Any]) -> dict[str, Any]:
    requested, server = _with_keys(registration, requested), registration.server
    method = protocol.document_method(requested, server.metadata)
    if method == "none":  # then only PKCE protects a code
        try:
            protocol.code_challenge_method(server.metadata, method)
        except UnsupportedError as exc:
            raise NotAllowedError("the server does not offer PKCE with S256") from exc
    return protocol.client_document(requested, method=method)


def _with_keys(registration: ClientRegistration, requested: dict[str, Any]) -> dict[str, Any]:
    """Return what the row requests, with the site's keys where the client signs with them."""
    method = requested.get("token_endpoint_auth_method")
    algorithm = requested.get("token_endpoint_auth_signing_alg")
    if method not in (None, "private_key_jwt") or protocol.brings_keys(requested):
        return requested
    keys = own_keys(registration, requested)
    if not keys.algorithms or algorithm not in (None, *keys.algorithms):
        return requested
    prefers = keys.preferred and not method  # else the server accepts no other method
    if prefers and not protocol.prefers_to_sign(keys, registration.server.metadata):
        return requested
    return {**requested, "token_endpoint_auth_method": "private_key_jwt", **keys.published}


def _members_of(registration: ClientRegistration) -> dict[str, Any] | None:
    try:
        return _members(registration, registration.requested)
    except NotAllowedError:
        return None


def _place(registration: ClientRegistration) -> tuple[str, str]:
    """Return the slug and URL of an identical document, or of a free place.

    An owner's slugs are keyed digests of the owner and a number: every process finds the same
    ones, and nobody else can tell whose they are.
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
            # At the same server that client is being replaced, so the new one needs another URL.
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
        return [], [f"it could not be fetched from here, so it is unknown what servers get: {exc}"]
    faults = protocol.document_faults(reply, url=url, body=body)
    return faults, [] if faults else protocol.age_warnings(reply.headers)


def _shared(registration: ClientRegistration, other: ClientRegistration) -> ConflictError:
    return conflict(
        registration,
        f"shares its document with registration {other.pk}, whose server's defaults require "
        "different contents; give this one a separate document with: "
        "manage.py dcr_replace {pk}",
    )

"""Discovery: fetching the metadata of servers and protected resources, and caching it on the row.

The models ``AuthorizationServer`` and ``ProtectedResource`` know which URLs a document may be at
and what it must contain; the fetching is the same for both. The last good copy stays in use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import router

from django_dcr import protocol, signals, transport, uris
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    UnsupportedError,
    errors_at,
)
from django_dcr.logs import log
from django_dcr.models import (
    AuthorizationServer,
    CachedDocument,
    ClientRegistration,
    ProtectedResource,
)
from django_dcr.services.operation import (
    Exchanges,
    is_inside_atomic,
    is_outage,
    refuse_inside_atomic,
)
from django_dcr.text import clean

#: The WWW-Authenticate header of a response, or several, or what ``parse_challenge`` returned.
AnyChallenge = protocol.Challenge | str | Iterable[str] | None

#: A document, the URL that it was found at, and the response.
_Found = tuple[dict[str, Any], str, "transport.Reply"]

# What servers answer at a well-known URL where they have no document, if not with an HTML page.
_ABSENT = {404, 405, 410}
_REDIRECTS = {301, 302, 303, 307, 308}
_CHECK = {
    "issuer": (
        "Check that the issuer is spelt as the server does. If it publishes none: "
        "manage.py dcr_server --metadata, then dcr_adopt."
    ),
    "resource": "Check the address, or ask its operator for the issuer and register there.",
}


def discover(server: AuthorizationServer, *, refresh: bool = False) -> AuthorizationServer:
    """Make sure that the row holds fresh metadata (RFC 8414 section 3, OpenID Discovery 4).

    A fresh row costs neither query nor request. While the server cannot be reached, or another
    process is refreshing the row, the last good document remains in use, unless ``refresh``
    insists on a new one. After a failure no request is sent until a pause has passed, except
    with ``refresh``: the error is raised again, with ``retry_after`` in seconds.
    Raises NotAllowedError, NetworkError, InvalidResponseError, RequestRejectedError,
    UnsupportedError where no document exists, or ConflictError where ``requests_per_minute``
    allows no further request.
    """
    with server.errors():
        server.check_allowed()
        if server.metadata_by_hand:
            _check_entered(server)
        elif refresh:
            _fetch_again(server, insists=True)
        else:
            _ensure_fresh(server)
    return server


def discover_for(registration: ClientRegistration) -> AuthorizationServer:
    """As ``discover()`` for the server of an operation, even after a recent failure.

    Work that somebody requested by name does not back off; other work ``accepts_failure`` and does.
    """
    server = registration.server
    if registration.accepts_failure or server.metadata_by_hand:
        return discover(server)
    if not (server.is_fresh or _was_refreshed(server)):
        _fetch_again(server)
    return server


def discover_resource(
    url: str, *, challenge: AnyChallenge = None, refresh: bool = False
) -> ProtectedResource:
    """Return the row of a protected resource, its metadata fresh (RFC 9728 section 3).

    ``challenge`` is the WWW-Authenticate header with which the resource answered, or what
    ``parse_challenge`` returned for it. If it states a metadata URL, the metadata is fetched
    again, from there first (section 5.2), then from the well-known URLs. Otherwise as with
    ``discover()``: a fresh row costs one query, and a failure is remembered and raised again
    with ``retry_after``, except with ``refresh``. Where the resource names other servers than
    before, the signal ``servers_changed`` is sent.
    Raises NotAllowedError, NetworkError, InvalidResponseError, RequestRejectedError,
    UnsupportedError where no metadata exists, or ConflictError inside a transaction, for a
    resource that has no row yet.
    """
    if not isinstance(challenge, protocol.Challenge):
        challenge = protocol.parse_challenge(challenge or "")
    row = _resource_row(url)
    with row.errors():
        row.challenged_url = challenge.resource_metadata
        if refresh or _is_news(row):
            _fetch_again(row, insists=refresh)
        else:
            _ensure_fresh(row)
    if row.named_before is not None:
        signals.servers_changed.send_robust(
            sender=ProtectedResource, resource=row, before=row.named_before
        )
    return row


def _check_entered(server: AuthorizationServer) -> None:
    """Check that metadata is stored for a server whose metadata is entered by hand."""
    if not (server.has_metadata or _was_refreshed(server)):
        raise UnsupportedError(
            "The metadata of this server is entered by hand, and none is stored. Store it with: "
            f"manage.py dcr_server {server.issuer} --metadata FILE"
        )


def _resource_row(url: str) -> ProtectedResource:
    """Find the row, or create it outside a transaction, which would stay open for the request."""
    with errors_at(step="discover", resource=url):
        row = ProtectedResource.objects.stored(url)
        if row is None:
            refuse_inside_atomic()
            row = ProtectedResource.objects.for_resource(url)
        return row


def _is_news(row: ProtectedResource) -> bool:
    """Whether a challenge states a metadata URL that has not just failed."""
    if not row.challenged_url or row.failure is None or not row.paused_until:
        return bool(row.challenged_url)
    tried = [place for place, _outcome in row.failure["attempts"]]
    place = clean(uris.without_query(row.challenged_url), 300)
    return not row.failure["silent"] and place not in tried


def _ensure_fresh(row: CachedDocument) -> None:
    """Make sure that the row holds a fresh document, or a stale one that may still be used.

    After a failure no request is sent until a pause has passed: the error is raised again, with
    ``retry_after`` in seconds.
    """
    if row.is_fresh or (not row.seconds_until_retry and _was_refreshed(row)):
        return
    if _may_fetch(row):
        _fetch_again(row)
    elif not row.may_serve_stale:
        raise row.remembered_error()


def _was_refreshed(row: CachedDocument) -> bool:
    """Reload the row, as another process may have refreshed it; return whether it is fresh."""
    if not row.pk:
        return False
    row.refresh_from_db(using=router.db_for_write(type(row)))
    return row.is_fresh


def _may_fetch(row: CachedDocument) -> bool:
    """Whether no other caller is fetching now, and none has failed to a short while ago."""
    if row.may_retry:
        return True
    if not (row.failed_at("discover") or row.may_serve_stale):
        return True  # there is no error to raise and no document to use instead
    if row.seconds_until_retry and (row.failure is None or row.failed_at()):
        return False
    # Inside a transaction, claiming would lock the row for as long as the request takes.
    return is_inside_atomic() or row.claim_retry()


def _fetch_again(row: CachedDocument, *, insists: bool = False) -> None:
    """Fetch the document, whatever the row holds, and store the outcome on the row.

    Where that fails, the stored document remains in use, unless ``insists``.
    """
    where = row.errors()
    try:
        with where:
            outage = _fetch(row)
    except InvalidResponseError as exc:
        row.fail(exc, silent=False, distrusted=True)  # a wrong issuer is not an outage
        raise
    if outage is not None:
        where.locate(outage)
        row.fail(outage, silent=is_outage(outage))
        if insists or not row.has_metadata:
            raise outage
        log("stale", "Serving the stored metadata of %s: %s", row, outage)


def _fetch(row: CachedDocument) -> DCRError | None:
    """Store the document, or return why there is none."""
    tried: list[tuple[str, DCRError]] = []
    found = _search(row, tried)
    if found is None:
        return _no_document(row, tried)
    row.attempts = _attempts(tried)
    metadata, url, reply = found
    longest = conf.DCR_METADATA_TTL
    lifetime = protocol.freshness(reply.headers, longest)
    lifetime = max(lifetime, min(conf.DCR_METADATA_MIN_TTL, longest))
    row.store(metadata, url=url, etag=protocol.entity_tag(reply.headers), lifetime=lifetime)
    return None


def _search(row: CachedDocument, tried: list[tuple[str, DCRError]]) -> _Found | None:
    """Request each URL in turn until a document suffices; add those in vain to ``tried``."""
    found = None
    for url in row.metadata_places:
        try:
            document, reply = _request(row, url)
        except ConflictError:
            raise  # nothing was sent, so it is no evidence of an absent document
        except DCRError as exc:
            tried.append((uris.without_query(url), exc))
            if exc.status is None and not isinstance(exc, UnsupportedError):
                break  # the host does not answer, and the other URLs are on the same host
            continue
        try:
            metadata = row.checked_metadata(document, url)
        except InvalidResponseError as exc:
            if found is None:
                exc.attempts = _attempts([*tried, (uris.without_query(url), exc)])
                raise
            continue
        if row.suffices(metadata):
            return metadata, url, reply
        # Look further for a document that suffices; two documents are never merged.
        found = found or (metadata, url, reply)
    return found


def _request(row: CachedDocument, url: str) -> tuple[dict[str, Any], transport.Reply]:
    """Return the JSON object at one URL; the caller checks whose it is."""
    row.check_place(url)
    etag = row.etag if row.has_metadata and url == row.metadata_url else ""
    headers = {"If-None-Match": etag} if etag else {}
    reply = _get(row, url, headers)
    if reply.status in _REDIRECTS:
        reply = _get(row, _target(reply, url), headers)
        if reply.status in _REDIRECTS:
            raise _redirects(url, reply, "again")
    if etag and reply.status == 304:
        return row.metadata, reply
    protocol.check_status(reply, {200}, step="discover")
    try:
        document = protocol.parse_object(reply.body)
    except InvalidResponseError as exc:
        # Single-page applications answer every path with an HTML page.
        raise UnsupportedError(str(exc), status=reply.status) from exc
    if document.get(row.IDENTITY) in (None, ""):
        error = UnsupportedError(status=reply.status)
        error.attempts = ((uris.without_query(url), f"names no {row.IDENTITY}"),)
        raise error
    return document, reply


def _get(row: CachedDocument, url: str, headers: dict[str, str]) -> transport.Reply:
    if isinstance(row, AuthorizationServer):  # these have a rate limit
        return Exchanges(row).send("GET", url, headers=headers)
    return transport.send("GET", url, headers=headers)


def _target(reply: transport.Reply, url: str) -> str:
    """Return where a document has moved to on the same origin, the only redirect that is followed.

    The request carries no credentials, and the document's issuer is checked wherever it is.
    """
    try:
        target = protocol.redirect_target(url, reply.headers.get("Location", ""))
    except ValueError:
        raise _redirects(url, reply, "to something that is not a URL") from None
    if uris.origin(target) != uris.origin(url):
        raise _redirects(url, reply, f"to {uris.origin(target)}")
    return target


def _redirects(url: str, reply: transport.Reply, where: str) -> NetworkError:
    outcome = f"answered {reply.status}, a redirect {where}, which is not followed"
    error = NetworkError(outcome, status=reply.status)
    error.attempts = ((uris.without_query(url), outcome),)
    return error


def _no_document(row: CachedDocument, tried: list[tuple[str, DCRError]]) -> DCRError:
    worst = next((exc for _url, exc in tried if not _is_absence(exc)), None)
    error = worst or UnsupportedError(status=tried[0][1].status)
    error.attempts = _attempts(tried)
    if worst is not None and worst.status in (None, 200):
        return worst
    attempts = "; ".join(f"{url} {outcome}" for url, outcome in error.attempts)
    error.args = (f"No metadata was found. {_advice(row, worst)} {attempts}.",)
    return error


def _advice(row: CachedDocument, worst: DCRError | None) -> str:
    """Return what to do where no URL has a document, judged by the most telling answer."""
    status = 404 if worst is None or worst.status is None else worst.status
    if status >= 500:
        return "The server has an internal error: try again later, or ask its operator."
    if 300 <= status < 400:
        return "It redirects to another origin: ask its operator for the issuer to use."
    if status in (401, 403):
        return "It does not let this site read its metadata: ask its operator."
    if status == 429:
        return "It was sent too many requests: try again later."
    return _CHECK[row.IDENTITY]


def _is_absence(exc: DCRError) -> bool:
    # A truncated 200 response may have been the document.
    return exc.status in _ABSENT or (exc.status == 200 and isinstance(exc, UnsupportedError))


def _attempts(tried: list[tuple[str, DCRError]]) -> tuple[tuple[str, str], ...]:
    return tuple((exc.attempts or ((url, _outcome(exc)),))[0] for url, exc in tried)


def _outcome(exc: DCRError) -> str:
    if exc.status == 200 and isinstance(exc, UnsupportedError):
        return "is not a JSON object"
    return f"failed: {exc}" if exc.status in (None, 200) else f"answered {exc.status}"

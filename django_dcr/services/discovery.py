"""Asking a server for its metadata document."""

from __future__ import annotations

import logging
from typing import Any

from django.db import router

from django_dcr import protocol, transport, uris
from django_dcr.conf import conf
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    InvalidResponseError,
    NetworkError,
    UnsupportedError,
    errors_at,
)
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services.operation import Exchanges, is_inside_atomic
from django_dcr.services.outages import is_silence

logger = logging.getLogger("django_dcr")

# What a server that has no document at a well-known place answers there, if not with a page.
_ABSENT = {404, 405, 410}
_REDIRECTS = {301, 302, 303, 307, 308}


def discover(server: AuthorizationServer, *, refresh: bool = False) -> AuthorizationServer:
    """Make sure that the row holds fresh metadata (RFC 8414 section 3, OpenID Discovery 4).

    A fresh row costs nothing. When the server cannot be asked, the last good document is
    served on, and so it is while another process refreshes it, unless ``refresh`` insists on a
    new one. After a failure the server is not asked again until a pause has passed, except with
    ``refresh``: its error is raised again, with ``retry_after``.
    Raises NotAllowedError, NetworkError, InvalidResponseError, RequestRejectedError,
    UnsupportedError where no document exists, or ConflictError where ``requests_per_minute``
    does not allow to ask.
    """
    with errors_at(server.issuer, "discover"):
        return _discover(server, refresh)


def _discover(server: AuthorizationServer, refresh: bool) -> AuthorizationServer:
    server.check_allowed()
    if refresh:
        return _ask_again(server, insists=True)
    if server.is_fresh or (not server.seconds_until_retry and _was_refreshed(server)):
        return server
    if _may_ask(server):
        return _ask_again(server)
    if not server.serves_on:
        raise server.remembered(server.issuer)
    return server


def discover_for(registration: ClientRegistration) -> AuthorizationServer:
    """As ``discover()`` of the registration's server, whatever failed a short while ago.

    Work that somebody asked for by name is not held back; other work ``is_calm``.
    """
    server = registration.server
    if registration.is_calm:
        return discover(server)
    server.check_allowed()
    return server if server.is_fresh or _was_refreshed(server) else _ask_again(server)


def _was_refreshed(server: AuthorizationServer) -> bool:
    """Load the row again, since another process may have asked; return whether it is fresh."""
    if not server.pk:
        return False
    server.refresh_from_db(using=router.db_for_write(AuthorizationServer))
    return server.is_fresh


def _may_ask(server: AuthorizationServer) -> bool:
    """Whether no other caller is asking now, and none has failed to a short while ago."""
    if server.may_retry:
        return True
    if not (server.failed_at("discover") or server.serves_on):
        return True  # nothing could be raised or served in place of an answer
    if server.seconds_until_retry and (server.failure is None or server.failed_at()):
        return False
    # Inside a transaction, to reserve it would lock the row while the server is asked.
    return is_inside_atomic() or server.claim_retry()


def _ask_again(server: AuthorizationServer, *, insists: bool = False) -> AuthorizationServer:
    where = errors_at(server.issuer, "discover")
    if server.metadata_by_hand:
        with where:
            return _entered(server)
    try:
        with where:
            outage = _fetch(server)
    except InvalidResponseError as exc:
        server.fail(exc, silent=False, distrusted=True)  # an impostor is no outage
        raise
    if outage is not None:
        where.locate(outage)
        server.fail(outage, silent=is_silence(outage))
        if insists or not server.has_metadata:
            raise outage
        logger.warning("Serving the stored metadata of %s: %s", server, outage)
    return server


def _entered(server: AuthorizationServer) -> AuthorizationServer:
    """Return a server whose metadata a person wrote, and which is never asked for it."""
    if server.has_metadata:
        return server
    raise UnsupportedError(
        "The metadata of this server is entered by hand, and none is stored. Store it with: "
        f"manage.py dcr_server {server.issuer} --metadata FILE"
    )


def _fetch(server: AuthorizationServer) -> DCRError | None:
    """Ask each well-known place in turn, store one document, or return why there is none."""
    tried: list[tuple[str, DCRError]] = []
    found: tuple[dict[str, Any], str, transport.Reply] | None = None
    for url in server.metadata_places:
        try:
            document, reply = _ask(server, url)
        except ConflictError:
            raise  # the server is not asked now, which says nothing of it
        except DCRError as exc:
            tried.append((url, exc))
            if exc.status is None:
                break  # the host itself is in trouble, and the other places are there too
            continue
        try:
            metadata = protocol.check_server_metadata(document, issuer=server.issuer)
        except InvalidResponseError as exc:
            if found is None:
                exc.attempts = _attempts([*tried, (url, exc)])
                raise
            continue
        # A document that offers registration is worth looking on for; none is ever mixed.
        offers_registration = "registration_endpoint" in metadata
        if found is None or offers_registration:
            found = metadata, url, reply
        if offers_registration:
            break
    if found is None:
        return _no_document(tried)
    metadata, url, reply = found
    longest = conf.DCR_METADATA_TTL
    lifetime = protocol.freshness(reply.headers, longest)
    lifetime = max(lifetime, min(conf.DCR_METADATA_MIN_TTL, longest))
    etag = protocol.entity_tag(reply.headers)
    server.store(metadata, url=url, etag=etag, lifetime=lifetime)
    return None


def _ask(server: AuthorizationServer, url: str) -> tuple[dict[str, Any], transport.Reply]:
    """Return the JSON object at one place, whoever wrote it."""
    etag = server.etag if server.has_metadata and url == server.metadata_url else ""
    headers = {"If-None-Match": etag} if etag else {}
    reply = Exchanges(server).send("GET", url, headers=headers)
    if reply.status in _REDIRECTS:
        reply = Exchanges(server).send("GET", _target(reply, url), headers=headers)
        if reply.status in _REDIRECTS:
            raise _redirects(url, reply, "again")
    if etag and reply.status == 304:
        return server.metadata, reply
    protocol.check_status(reply, {200}, step="discover")
    try:
        document = protocol.parse_object(reply.body)
    except InvalidResponseError as exc:
        # Single-page applications answer any path with a page for people.
        raise UnsupportedError(str(exc), status=reply.status) from exc
    if document.get("issuer") in (None, ""):
        error = UnsupportedError(status=reply.status)
        error.attempts = ((url, "names no issuer"),)
        raise error
    return document, reply


def _target(reply: transport.Reply, url: str) -> str:
    """Return where a document has moved to on the same server, the one redirect to follow.

    A public document is asked for without credentials, and its issuer is checked wherever it is.
    """
    try:
        target = protocol.redirect_target(url, reply.headers.get("Location", ""))
    except ValueError:
        raise _redirects(url, reply, "to what is not a URL") from None
    if uris.origin(target) != uris.origin(url):
        raise _redirects(url, reply, f"to {uris.origin(target)}")
    return target


def _redirects(url: str, reply: transport.Reply, where: str) -> NetworkError:
    outcome = f"answered {reply.status}, a redirect {where}, which is not followed"
    error = NetworkError(outcome, status=reply.status)
    error.attempts = ((url, outcome),)
    return error


def _no_document(tried: list[tuple[str, DCRError]]) -> DCRError:
    worst = next((exc for _url, exc in tried if not _is_absence(exc)), None)
    error = worst or UnsupportedError(status=tried[0][1].status)
    error.attempts = _attempts(tried)
    if worst is not None and worst.status in (None, 200):
        return worst
    attempts = "; ".join(f"{url} {outcome}" for url, outcome in error.attempts)
    error.args = (f"No metadata was found. {_advice(worst)} {attempts}.",)
    return error


def _advice(worst: DCRError | None) -> str:
    """What to do where no place has a document, by the answer that says most about why."""
    status = 404 if worst is None or worst.status is None else worst.status
    if status >= 500:
        return "The server is in trouble: try again later, or ask its operator."
    if 300 <= status < 400:
        return "It redirects elsewhere: ask its operator for the issuer that answers itself."
    if status in (401, 403):
        return "It does not let this site read that: ask its operator."
    if status == 429:
        return "It was asked too often: try again later."
    return "Check that the issuer is spelt as the server does."


def _is_absence(exc: DCRError) -> bool:
    # An answer of status 200 that broke off may have been the document.
    return exc.status in _ABSENT or (exc.status == 200 and isinstance(exc, UnsupportedError))


def _attempts(tried: list[tuple[str, DCRError]]) -> tuple[tuple[str, str], ...]:
    return tuple((exc.attempts or ((url, _outcome(exc)),))[0] for url, exc in tried)


def _outcome(exc: DCRError) -> str:
    if exc.status == 200 and isinstance(exc, UnsupportedError):
        return "is not a JSON object"
    return f"failed: {exc}" if exc.status in (None, 200) else f"answered {exc.status}"

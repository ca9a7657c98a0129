"""From a protected resource to a client at a server that it names (RFC 9728)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django_dcr import protocol, signals, uris
from django_dcr.exceptions import errors_at
from django_dcr.models import ClientRegistration, ProtectedResource
from django_dcr.services.fetching import ask_again, ensure_fresh
from django_dcr.services.operation import refuse_inside_atomic
from django_dcr.services.provision import usable
from django_dcr.text import clean

#: The WWW-Authenticate header of a response, or several, or what ``parse_challenge`` made of it.
AnyChallenge = protocol.Challenge | str | Iterable[str] | None


def discover_resource(
    url: str, *, challenge: AnyChallenge = None, refresh: bool = False
) -> ProtectedResource:
    """Return the row of a protected resource, its metadata fresh (RFC 9728 section 3).

    ``challenge`` is the WWW-Authenticate header with which the resource answered, or what
    ``parse_challenge`` made of it. One that says where the metadata is has it asked for again
    there first (section 5.2), then at the well-known places. Else as with ``discover()``: a fresh
    row costs one query, and a failure is remembered, and raised again with ``retry_after``, but
    with ``refresh``. Where the resource names other servers than before, the signal
    ``servers_changed`` is sent.
    Raises NotAllowedError, NetworkError, InvalidResponseError, RequestRejectedError,
    UnsupportedError where no metadata exists, or ConflictError inside a transaction, for a
    resource that has no row yet.
    """
    row = _row(url)
    with row.errors():
        row.challenged_url = _challenge(challenge).resource_metadata
        if refresh or _is_news(row):
            ask_again(row, insists=refresh)
        else:
            ensure_fresh(row)
    if row.named_before is not None:
        signals.servers_changed.send_robust(
            sender=ProtectedResource, resource=row, before=row.named_before
        )
    return row


def _row(url: str) -> ProtectedResource:
    """Find the row, or create it where no transaction would hold it while the resource is asked."""
    with errors_at(step="discover", resource=url):
        row = ProtectedResource.objects.stored(url)
        if row is None:
            refuse_inside_atomic()
            row = ProtectedResource.objects.for_resource(url)
        return row


def _challenge(challenge: AnyChallenge) -> protocol.Challenge:
    if isinstance(challenge, protocol.Challenge):
        return challenge
    return protocol.parse_challenge(challenge or "")


def _is_news(row: ProtectedResource) -> bool:
    """Whether a challenge is to be followed: it names a place that was not just asked in vain."""
    if not row.challenged_url or row.failure is None or not row.rests_until:
        return bool(row.challenged_url)
    tried = [place for place, _outcome in row.failure["attempts"]]
    place = clean(uris.without_query(row.challenged_url), 300)
    return not row.failure["silent"] and place not in tried


def get_or_register_for(
    url: str,
    owner: str = "",
    *,
    metadata: Mapping[str, Any] | None = None,
    challenge: AnyChallenge = None,
    issuer: str = "",
) -> ClientRegistration:
    """Return the usable registration of ``owner`` for a protected resource (RFC 9728).

    It is at a server that the resource names and this site allows: ``issuer``, else the one that
    is pinned on the resource's row, else the only one; registered there where there is none, as
    by ``get_or_register()``. A server that does not announce PKCE with S256 is refused, unless
    the client sends no users there. ``challenge`` is that of ``discover_resource()``.
    A hit costs at most two queries, and no network while the resource's metadata is fresh; a
    third query where it names several servers and none is chosen, and one may be disabled.
    Raises what these two raise, and ConflictError where a person has to choose a server.
    """
    resource = discover_resource(url, challenge=challenge)
    with resource.errors():
        return usable(resource.choose_issuer(issuer), owner, metadata, resource)

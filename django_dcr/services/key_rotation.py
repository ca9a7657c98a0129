"""The keys that clients sign with: creating, rotating and publishing them, and updating servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from django_dcr import protocol, uris
from django_dcr.conf import conf
from django_dcr.exceptions import ConflictError, NotAllowedError
from django_dcr.fields import digest
from django_dcr.mechanisms import refusal
from django_dcr.models import ClientKey, ClientRegistration, ClientRegistrationQuerySet, check_owner

_ATTEMPTS = 3
# Written once: compiling it for each request takes longer than all the rest of the answer.
_PUBLISHED = (
    f"SELECT id, public_key FROM {ClientKey._meta.db_table} "  # noqa: S608
    "WHERE owner_digest = %s AND published_until > %s ORDER BY id"
)


def rotate_client_key(
    owner: str = "", *, algorithm: str = "ES256", force: bool = False
) -> ClientKey:
    """Return the newest key of ``owner`` for ``algorithm``, creating the next where it is due.

    The first key signs at once. The next one is due a week before the last one stops signing; it
    is published immediately and signs once that one stops, a day from now at the earliest. With
    ``force`` it is created before it is due. However many processes call this, one creates the
    key. Raises NotAllowedError for an algorithm that this app does not sign with, and
    ConflictError where another process is rotating the key and its result is not visible here.
    """
    check_owner(owner)
    if algorithm not in protocol.KEY_TYPES:
        raise NotAllowedError(
            f"That algorithm is not supported. Choose one of {', '.join(protocol.KEY_TYPES)}."
        )
    keys = ClientKey.objects.primary()
    for _ in range(_ATTEMPTS):
        last = keys.newest(owner, algorithm)
        if last is not None and (last.state == "next" or not (force or last.is_due)):
            return last
        try:
            return ClientKey.follow(last, owner=owner, algorithm=algorithm)
        except IntegrityError:  # another process was first, and its key will do
            force = False
    # For instance in a transaction that does not see what others committed since it began.
    raise ConflictError(
        "Another process is rotating this key. Try again in a moment.", retry_after=1
    )


def own_keys(registration: ClientRegistration, requested: Mapping[str, Any]) -> protocol.OwnKeys:
    """Return the keys to send with what a row requests; none where its client will not sign."""
    if not _may_sign(registration, requested):
        return protocol.OwnKeys()
    owners = {digest(registration.owner), digest("")}
    return _own_keys(registration, _by_owner(owner_digest__in=owners))


def published(owner: str) -> bytes | None:
    """Return the JWK Set to serve for the owner with this digest ("" for the site), as JSON bytes.

    None for an owner without keys. One query.
    """
    rows = ClientKey.objects.raw(_PUBLISHED, [owner or digest(""), timezone.now()])
    keys = [key.public_key for key in rows]
    return protocol.encode(protocol.key_set(keys)) if keys or not owner else None


def jwks_url(owner: str = "") -> str:
    """Return where the keys of ``owner`` are published, "" where servers cannot fetch them."""
    try:
        base = uris.parse(conf.DCR_BASE_URL)
        path = (
            reverse("django_dcr:owner-jwks", args=[digest(owner)])
            if owner
            else reverse("django_dcr:jwks")
        )
    except (ValueError, NoReverseMatch):
        return ""
    # Servers do not fetch keys over plain HTTP, where anybody in between could replace them.
    return f"{base.origin}{path}" if base.scheme == "https" else ""


def outdated() -> list[ClientRegistration]:
    """Return the signing clients that were registered with other keys than the site has now.

    They keep signing with a key that they were registered with; ``update()`` sends the present
    ones to the server. Clients that can only be changed in the server's console are left out.
    """
    keys = _by_owner()
    rows: ClientRegistrationQuerySet = ClientRegistration.objects.primary().live().active()
    found = rows.signing().filter(server__enabled=True).select_related("server").order_by("pk")
    return [
        row
        for row in found.iterator(chunk_size=200)
        if not refusal(row, "update")
        and _may_sign(row)
        and not _knows(row, _own_keys(row, keys).published)
    ]


def _may_sign(registration: ClientRegistration, requested: Mapping[str, Any] | None = None) -> bool:
    metadata, prefers = registration.server.metadata, conf.DCR_PREFER_KEYS
    try:
        requested = registration.requested if requested is None else requested
        return protocol.may_sign(requested, metadata, prefers_keys=prefers)
    except NotAllowedError:
        return False  # registering or updating it raises the same error, with its reason


_Keys = dict[str, list[ClientKey]]


def _by_owner(**which: Any) -> _Keys:
    """Return the published keys, by the digest of their owner."""
    keys: _Keys = {}
    for key in ClientKey.objects.primary().published().filter(**which):
        keys.setdefault(key.owner_digest, []).append(key)
    return keys


def _own_keys(registration: ClientRegistration, by_owner: _Keys) -> protocol.OwnKeys:
    own = by_owner.get(digest(registration.owner), [])
    keys = own or by_owner.get(digest(""), [])
    known = {key.algorithm for key in keys}
    address = jwks_url(registration.owner if own else "")
    url = "" if registration.server.sends_jwks else address
    by_value = {"jwks": protocol.key_set(key.public_key for key in keys)}
    return protocol.OwnKeys(
        algorithms=tuple(name for name in protocol.KEY_TYPES if name in known),
        published={"jwks_uri": url} if url else by_value,
        preferred=conf.DCR_PREFER_KEYS,
    )


def _knows(registration: ClientRegistration, published: Mapping[str, Any]) -> bool:
    """Whether the server of a registration has exactly these keys."""
    granted = registration.metadata
    if "jwks_uri" in published:
        return bool(granted.get("jwks_uri") == published["jwks_uri"])
    held, present = granted.get("jwks", {}), published["jwks"]["keys"]
    if not all(protocol.has_key(held, key) for key in present):
        return False
    listed = held.get("keys")
    return isinstance(listed, list) and len(listed) == len(present)

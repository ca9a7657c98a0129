"""The questions that are asked of all registrations: whose they are, and what is due."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

from django.db import models

from django_dcr import protocol
from django_dcr.exceptions import NotAllowedError
from django_dcr.fields import SecretQuerySet, digest
from django_dcr.lifecycle import Status
from django_dcr.models.authorizationserver import AuthorizationServer, check_issuer
from django_dcr.models.leases import LEASE_IS_FREE, WAS_INTERRUPTED, DatabaseNow

if TYPE_CHECKING:
    from django_dcr.models.clientregistration import ClientRegistration

_PAGE = 100


class ClientRegistrationQuerySet(SecretQuerySet["ClientRegistration"]):
    def for_key(self, issuer: str, owner: str = "") -> ClientRegistrationQuerySet:
        """The registrations, live and past, of ``owner`` at ``issuer``."""
        return self.filter(key_digest=digest(issuer, owner))

    def live_or_new(self, issuer: str, owner: str = "") -> ClientRegistration:
        """The live registration of ``owner`` at ``issuer``, or a new one that is not saved.

        Nor is the server saved where there is none. Raises NotAllowedError for an issuer or an
        owner that the site does not allow.
        """
        check_issuer(issuer)
        check_owner(owner)
        live = self.for_key(issuer, owner).live().select_related("server").first()
        if live is not None:
            return live
        servers = AuthorizationServer.objects.filter(issuer_digest=digest(issuer))
        server = servers.first() or AuthorizationServer(issuer=issuer)
        return self.model(server=server, owner=owner)

    def owned_by(self, owner: str) -> ClientRegistrationQuerySet:
        """The registrations, live and past, of ``owner`` at every server."""
        undigested = models.Q(owner_digest__isnull=True, owner=owner)
        return self.filter(models.Q(owner_digest=digest(owner)) | undigested)

    def live(self) -> ClientRegistrationQuerySet:
        """At most one per server and owner: the one that is, or may become, usable."""
        return self.filter(live=True)

    def signing(self) -> ClientRegistrationQuerySet:
        """Those that authenticate with a key."""
        method = "private_key_jwt"
        return self.filter(metadata__token_endpoint_auth_method=method)

    def with_places(self) -> ClientRegistrationQuerySet:
        """With ``replaced_by`` and ``replaces``, else a query for each of them and each row."""
        rows = self.model._default_manager.filter(key_digest=models.OuterRef("key_digest"))
        later = rows.filter(pk__gt=models.OuterRef("pk")).order_by("pk").values("pk")
        earlier = rows.filter(pk__lt=models.OuterRef("pk")).order_by("-pk")
        # One that is live still was not replaced, but is beside a client that came too late.
        replaced = earlier.annotate(past=_if_past("pk")).values("past")
        places: dict[str, Any] = {
            "replaced_by": _if_past(models.Subquery(later[:1])),
            "replaces": models.Subquery(replaced[:1]),
        }
        return self.annotate(**places)

    def active(self) -> ClientRegistrationQuerySet:
        return self.filter(status=Status.ACTIVE)

    def expiring(self, before: datetime) -> ClientRegistrationQuerySet:
        """Live, active registrations whose secret expires before that moment."""
        by_our_clock = models.F("client_secret_expires_at") + models.F("clock_offset")
        ends = self.live().filter(may_expire(before)).alias(ends=by_our_clock)
        return ends.filter(ends__lt=int(before.timestamp()))

    def in_pages(self) -> Iterator[ClientRegistration]:
        """Yield these rows in the order of their keys, of which one page at a time is in memory.

        ``iterator()`` keeps all of them there on MariaDB, and a lock on SQLite.
        """
        rows = self.order_by("pk")
        page = list(rows[:_PAGE])
        while page:
            yield from page
            page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE])

    def any_of(self, *conditions: models.Q) -> ClientRegistrationQuerySet:
        """Those that meet one of the conditions, where an index holds what meets each of them."""
        # SQLite searches no index for an OR that might find many, but does for subqueries;
        # PostgreSQL and MariaDB do it the other way round.
        rows = self.model._default_manager.using(self.db)
        keys = (models.Q(pk__in=rows.filter(condition).values("pk")) for condition in conditions)
        return self.filter(reduce(operator.or_, conditions)).filter(reduce(operator.or_, keys))

    def leases(self) -> list[tuple[int, float]]:
        """The rows that a process holds, or held when it ended, with the seconds that are left."""
        rows = self.filter(lease_until__gte=DatabaseNow())
        left = rows.values_list("pk", "lease_until", DatabaseNow())
        # Sorted here: SQLite would look at all rows in the order of their keys.
        return sorted((pk, (until - now).total_seconds()) for pk, until, now in left)

    def needs_reconciliation(self) -> ClientRegistrationQuerySet:
        """Rows that a crash or a lost answer left behind, and nobody works on."""
        interim = [Status.REGISTERING, Status.REVOKING]
        waiting = models.Q(status__in=interim) & LEASE_IS_FREE
        # An unknown one that is not live any more, and cannot be deleted, is only a record.
        deletable = models.Q(registration_access_token__isnull=False)
        doubtful = models.Q(status=Status.UNKNOWN) & (models.Q(live=True) | deletable)
        # A renewal registered it, and was interrupted before it put it in the place of the old one.
        renewing = self.model._default_manager.filter(key_digest=models.OuterRef("key_digest"))
        renewing = renewing.filter(live=True, lease_until__gte=DatabaseNow())
        past = models.Q(status=Status.ACTIVE, live__isnull=True)
        orphaned = past & ~models.Exists(renewing)
        # What the indexes hold of these: no database takes them apart.
        found = self.any_of(models.Q(status__in=[*interim, Status.UNKNOWN]), past, WAS_INTERRUPTED)
        return found.filter(waiting | doubtful | orphaned | WAS_INTERRUPTED)


def _if_past(value: Any) -> models.Case:
    return models.Case(models.When(live__isnull=True, then=value))


def may_expire(before: datetime) -> models.Q:
    """A condition: active, with a secret that may expire before that moment by one of the clocks.

    The index "dcr_expiry" holds it, and it is wide enough for every ``clock_offset``.
    """
    latest = int(before.timestamp()) + protocol.MAX_CLOCK_OFFSET
    return models.Q(
        status=Status.ACTIVE, client_secret_expires_at__gt=0, client_secret_expires_at__lt=latest
    )


def is_named(text: str) -> models.Q:
    """A condition: ``text`` is the owner or the client ID, in this very spelling."""
    return models.Q(owner_digest=digest(text)) | models.Q(client_id_digest=digest(text))


def check_owner(owner: str) -> None:
    """Raise NotAllowedError for text that not every database stores."""
    if protocol.storable(owner) != owner:
        raise NotAllowedError("Null characters and lone surrogates are not allowed in an owner.")

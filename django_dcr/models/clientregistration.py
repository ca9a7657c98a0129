"""The registrations of this site at authorization servers, and the queries for them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, text
from django_dcr.exceptions import NotAllowedError
from django_dcr.fields import DigestField, SecretQuerySet, digest
from django_dcr.lifecycle import Status
from django_dcr.mechanisms import Mechanism
from django_dcr.models.authorizationserver import COLUMNS as SERVER_COLUMNS
from django_dcr.models.authorizationserver import AuthorizationServer, check_issuer
from django_dcr.models.leases import LEASE_IS_FREE, WAS_INTERRUPTED, DatabaseNow
from django_dcr.models.loading import Columns
from django_dcr.models.transitions import ClientTransitionsModel

# Rows to have in memory at a time.
_PAGE = 100

# What each mechanism may have: one constraint, since MariaDB and SQLite copy the table for each.
_IS_DOCUMENT = models.Q(mechanism=Mechanism.METADATA_DOCUMENT)
_HAS_NO_SECRET = models.Q(
    client_secret__isnull=True,
    client_secret_expires_at__isnull=True,
    registration_access_token__isnull=True,
    registration_client_uri="",
)
_IS_ITS_URL = models.Q(client_id="") | ~models.Q(document_slug="") & models.Q(
    client_id__startswith="https://", client_id__endswith=models.F("document_slug")
)
_IS_ADOPTED = models.Q(mechanism=Mechanism.PRE_REGISTERED)
_EXISTS = ~models.Q(client_id="") & models.Q(
    status__in=[Status.ACTIVE, Status.REVOKING, Status.REVOKED, Status.GONE]
)
_INVARIANTS = (
    (_IS_DOCUMENT & _HAS_NO_SECRET & _IS_ITS_URL)
    | (_IS_ADOPTED & _EXISTS & models.Q(document_slug=""))
    | models.Q(mechanism=Mechanism.DYNAMIC, document_slug="")
)


class ClientRegistrationQuerySet(SecretQuerySet["ClientRegistration"]):
    def for_key(self, issuer: str, owner: str = "") -> ClientRegistrationQuerySet:
        """The registrations, live and past, of ``owner`` at ``issuer``."""
        return self.filter(key_digest=digest(issuer, owner))

    def live_or_new(self, issuer: str, owner: str = "") -> ClientRegistration:
        """The live registration of ``owner`` at ``issuer``, or a new one that is not saved.

        A new server is not saved either. Raises NotAllowedError for an issuer or an owner that
        is not allowed.
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
        """Those that are or may become usable: at most one for each server and owner."""
        return self.filter(live=True)

    def signing(self) -> ClientRegistrationQuerySet:
        """Those that authenticate with a key."""
        method = "private_key_jwt"
        return self.filter(metadata__token_endpoint_auth_method=method)

    def with_replacements(self) -> ClientRegistrationQuerySet:
        """With ``replaced_by`` and ``replaces``, which otherwise take a query each for each row."""
        rows = self.model._default_manager.filter(key_digest=models.OuterRef("key_digest"))
        later = rows.filter(pk__gt=models.OuterRef("pk")).order_by("pk").values("pk")
        earlier = rows.filter(pk__lt=models.OuterRef("pk")).order_by("-pk")
        # One that is still live was not replaced; the later one was registered too late.
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
        """Yield these rows in the order of their keys, with one page at a time in memory.

        ``iterator()`` loads all of them on MariaDB, and holds a lock on SQLite.
        """
        rows = self.order_by("pk")
        page = list(rows[:_PAGE])
        while page:
            yield from page
            page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE])

    def any_of(self, *conditions: models.Q) -> ClientRegistrationQuerySet:
        """Those that meet one of the conditions, each of which an index covers."""
        # SQLite uses no index for an OR that might find many rows, but does for subqueries;
        # PostgreSQL and MariaDB use one for the OR only.
        rows = self.model._default_manager.using(self.db)
        keys = (models.Q(pk__in=rows.filter(condition).values("pk")) for condition in conditions)
        return self.filter(reduce(operator.or_, conditions)).filter(reduce(operator.or_, keys))

    def leases(self) -> list[tuple[int, float]]:
        """The rows with an unexpired lease, with the seconds that are left of it."""
        rows = self.filter(lease_until__gte=DatabaseNow())
        left = rows.values_list("pk", "lease_until", DatabaseNow())
        # Sorted here: SQLite would scan all rows in the order of their keys.
        return sorted((pk, (until - now).total_seconds()) for pk, until, now in left)

    def needs_reconciliation(self) -> ClientRegistrationQuerySet:
        """The rows that a crash or a lost response left behind, and that no process works on."""
        interim = [Status.REGISTERING, Status.REVOKING]
        waiting = models.Q(status__in=interim) & LEASE_IS_FREE
        # An unknown one that is no longer live and cannot be deleted is only a record.
        deletable = models.Q(registration_access_token__isnull=False)
        doubtful = models.Q(status=Status.UNKNOWN) & (models.Q(live=True) | deletable)
        # A renewal registered it, and was interrupted before it replaced the old one with it.
        renewing = self.model._default_manager.filter(key_digest=models.OuterRef("key_digest"))
        renewing = renewing.filter(live=True, lease_until__gte=DatabaseNow())
        past = models.Q(status=Status.ACTIVE, live__isnull=True)
        orphaned = past & ~models.Exists(renewing)
        # The parts that indexes cover: no database separates them by itself.
        found = self.any_of(models.Q(status__in=[*interim, Status.UNKNOWN]), past, WAS_INTERRUPTED)
        return found.filter(waiting | doubtful | orphaned | WAS_INTERRUPTED)


if TYPE_CHECKING:
    _ClientRegistrations = models.Manager["ClientRegistration"]

    class ClientRegistrationManager(ClientRegistrationQuerySet, _ClientRegistrations):  # type: ignore[misc]
        """The type of ``objects``, for type checkers that do not know ``as_manager()``."""


class ClientRegistration(ClientTransitionsModel):
    """One client of this site at one authorization server, from intent to tombstone.

    Its columns are inherited: what was requested, granted and issued from ``ClientModel``, its
    state from ``ClientTransitionsModel``.
    """

    Status = Status
    # The owner as stored, which may be edited as long as the issuer stays the same.
    _saved_owner: str | None = None
    # The caller's request stays, whatever another process has stored.
    kept_on_reload = ("id", "server", "owner", "requested_metadata")

    key_digest = DigestField(source="_key_parts")
    # A process of an earlier release leaves both of these empty.
    owner_digest = DigestField(source="_owner_parts", null=True)
    client_id_digest = DigestField(source="_client_id_parts", null=True)
    #: The last part of a metadata document's URL, which is the client ID.
    document_slug = models.CharField(
        max_length=16, blank=True, default="", db_default="", editable=False, db_index=True
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects: ClassVar[ClientRegistrationManager] = ClientRegistrationQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("client registration")
        verbose_name_plural = _("client registrations")
        permissions = [
            ("register_clientregistration", "Can register clients at their servers"),
            ("update_clientregistration", "Can read and update clients at their servers"),
            ("renew_clientregistration", "Can renew client secrets"),
            ("revoke_clientregistration", "Can revoke and forget clients"),
            ("reveal_clientregistration", "Can see client secrets"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["key_digest", "live"], name="dcr_one_live_per_key"),
            models.CheckConstraint(name="dcr_mechanism", condition=_INVARIANTS),
        ]
        indexes = [
            models.Index(fields=["status", "client_secret_expires_at"], name="dcr_expiry"),
            # For what an interrupted renewal left behind.
            models.Index(fields=["live", "status"], name="dcr_spare"),
            # All that metrics count, so that no row is read.
            models.Index(
                fields=[
                    "server",
                    "status",
                    "mechanism",
                    "live",
                    "client_secret_expires_at",
                    "clock_offset",
                ],
                name="dcr_metrics",
            ),
            # For searching, by the whole text.
            models.Index(fields=["owner_digest"], name="dcr_owner"),
            models.Index(fields=["client_id_digest"], name="dcr_client_id"),
            # For the admin's filters, whose pages begin with the newest row.
            models.Index(fields=["status", "id"], name="dcr_status"),
            models.Index(fields=["mechanism", "id"], name="dcr_by_mechanism"),
            models.Index(fields=["has_drift", "id"], name="dcr_drift"),
        ]

    def __str__(self) -> str:
        owner = text.clean(self.owner) or gettext("this site")
        return gettext("%(owner)s at %(issuer)s") % {"owner": owner, "issuer": self.server.issuer}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; raises NotAllowedError if the server's issuer is no longer the client's."""
        # With a new digest the credentials would be taken for those of the other issuer.
        owner = self.owner if self._saved_owner is None else self._saved_owner
        if self.client_id and self.key_digest not in ("", digest(self.server.issuer, owner)):
            self.check_attached()
        super().save(*args, **kwargs)
        self._saved_owner = self.owner

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        row = super().from_db(*args, **kwargs)
        row._saved_owner = row.__dict__.get("owner")
        return row

    def _key_parts(self) -> tuple[str, ...]:
        return self.server.issuer, self.owner

    def _owner_parts(self) -> tuple[str, ...]:
        return (self.owner,)

    def _client_id_parts(self) -> tuple[str, ...] | None:
        return (self.client_id,) if self.client_id else None

    def clean(self) -> None:
        if self.server_id is None:
            return  # the form reports that it is missing
        try:
            check_owner(self.owner)
        except NotAllowedError as exc:
            raise ValidationError({"owner": str(exc)}) from exc
        try:
            faults = protocol.client_metadata_faults(self.requested, complete=self._states_all)
        except NotAllowedError as exc:
            faults = [str(exc)]
        if faults:
            raise ValidationError({"requested_metadata": faults})
        if self.live and self.rivals().exists():
            raise ValidationError(_("This owner already has a registration at this server."))

    def rivals(self) -> ClientRegistrationQuerySet:
        """The other live registration of this owner at this server, if any."""
        rows = type(self).objects.primary().for_key(self.server.issuer, self.owner)
        return rows.live().exclude(pk=self.pk)

    @cached_property
    def replaced_by(self) -> int | None:
        """The primary key of the registration that replaced this one, if any."""
        row = type(self).objects.with_replacements().filter(pk=self.pk).first()
        return row.replaced_by if row else None

    @cached_property
    def replaces(self) -> int | None:
        """The primary key of the registration that this one replaced, if any."""
        row = type(self).objects.with_replacements().filter(pk=self.pk).first()
        return row.replaces if row else None

    @property
    def is_only_a_record(self) -> bool:
        """Whether it was replaced by another registration, and nothing is left to do."""
        is_to_be_deleted = self.is_manageable and self.status in (Status.UNKNOWN, Status.REVOKING)
        return not self.live and not is_to_be_deleted and self.replaced_by is not None

    @property
    def belongs_to_server(self) -> bool:
        """Whether the server's row still has the issuer at which this was registered."""
        return bool(self.key_digest == digest(*self._key_parts()))

    def check_attached(self) -> None:
        """Raise NotAllowedError unless ``belongs_to_server`` or the row is not stored yet."""
        if self.pk is not None and not self.belongs_to_server:
            raise NotAllowedError(
                f"The issuer of registration {self.pk} was changed after it was registered, and "
                "its credentials must not go to another server. Restore the issuer.",
                issuer=self.server.issuer,
            )

    def has_duplicate(self, client_id: str | None) -> bool:
        """Whether another live row has this client of the same server."""
        return self.duplicates(client_id or "").exists() or self._has_public_duplicate(client_id)

    def duplicates(self, client_id: str | None = None) -> ClientRegistrationQuerySet:
        """The other live rows with this client, or with ``client_id``, at the same server."""
        known = digest(self.server.issuer, self.client_id if client_id is None else client_id)
        rows = type(self).objects.using(self._alias).filter(client_digest=known)
        return rows.exclude(pk=self.pk)

    def _has_public_duplicate(self, client_id: str | None) -> bool:
        others = type(self).objects.using(self._alias).exclude(pk=self.pk)
        public = others.live().filter(server=self.server, client_digest=None, client_id=client_id)
        return client_id in public.values_list("client_id", flat=True)  # letter case counts

    @property
    def is_shared(self) -> bool:
        """Whether another owner's row has this client too, which public clients allow."""
        return self.is_public and self.has_duplicate(self.client_id)


# No login needs the deviations; they are loaded on access.
_COLUMNS = Columns(ClientRegistration, deferred=["deviations"])
_OURS, _THEIRS = ClientRegistration._meta.db_table, AuthorizationServer._meta.db_table
_SELECT_LIVE = (
    f"SELECT {_COLUMNS.sql}, {SERVER_COLUMNS.sql} "  # noqa: S608
    f"FROM {_OURS} JOIN {_THEIRS} ON {_THEIRS}.id = server_id "
    "WHERE key_digest IN (%s, %s) AND live = %s"
)


def live_registration(issuer: str, owner: str) -> ClientRegistration | None:
    """Return the live registration of ``owner`` at ``issuer``, its server loaded with it.

    Where the owner has none and the server's row says that the site's own client is shared,
    that one.
    """
    own, site = digest(issuer, owner), digest(issuer, "")
    connection = connections[router.db_for_write(ClientRegistration)]  # a replica may lag
    with connection.cursor() as cursor:
        cursor.execute(_SELECT_LIVE, [own, site, True])
        rows = cursor.fetchall()
    found = {}
    for row in rows:
        registration = _COLUMNS.load(row[: len(_COLUMNS.names)], connection)
        registration.server = SERVER_COLUMNS.load(row[len(_COLUMNS.names) :], connection)
        found[registration.key_digest] = registration
    shared = found.get(site)
    return found.get(own, shared if shared is not None and shared.server.shared else None)


def _if_past(value: Any) -> models.Case:
    return models.Case(models.When(live__isnull=True, then=value))


def may_expire(before: datetime) -> models.Q:
    """A condition: active, with a secret that may expire before that moment by one of the clocks.

    The index "dcr_expiry" covers it, and it is wide enough for every ``clock_offset``.
    """
    latest = int(before.timestamp()) + protocol.MAX_CLOCK_OFFSET
    return models.Q(
        status=Status.ACTIVE, client_secret_expires_at__gt=0, client_secret_expires_at__lt=latest
    )


def owner_or_client_id_is(text: str) -> models.Q:
    """A condition: ``text`` is the owner or the client ID, letter case included."""
    return models.Q(owner_digest=digest(text)) | models.Q(client_id_digest=digest(text))


def check_owner(owner: str) -> None:
    """Raise NotAllowedError for text that some database cannot store."""
    if protocol.storable(owner) != owner:
        raise NotAllowedError("Null characters and lone surrogates are not allowed in an owner.")

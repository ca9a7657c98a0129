"""The registrations of this site at those servers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from datetime import timezone as tz
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import Error, IntegrityError, models, transaction
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, text
from django_dcr.conf import conf
from django_dcr.exceptions import (
    DecryptionError,
    NotAllowedError,
    NotStoredError,
    UnsupportedError,
)
from django_dcr.fields import (
    DigestField,
    Secret,
    SecretField,
    SecretQuerySet,
    ciphertext_is,
    digest,
)
from django_dcr.lifecycle import Status
from django_dcr.mechanisms import Mechanism
from django_dcr.models.authorizationserver import AuthorizationServer, check_issuer
from django_dcr.models.clientkey import signing_key
from django_dcr.models.failures import FORGOTTEN, RememberingModel, fingerprint
from django_dcr.models.leases import (
    LEASE_IS_FREE,
    WAS_INTERRUPTED,
    DatabaseNow,
    LeasedModel,
)
from django_dcr.models.persistence import retry_on_db_error
from django_dcr.models.registrationevent import record

# An expired secret must not be handed out by a clock that is a little behind.
EXPIRY_MARGIN = timedelta(seconds=60)
# How long a renewed secret is left alone, in seconds: a server whose secrets expire at once must
# not get a new client with every login.
_RENEWAL_PAUSE = 3600.0


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
        latest = int(before.timestamp())
        by_our_clock = models.F("client_secret_expires_at") + models.F("clock_offset")
        # The first two conditions are the index's, and wide enough for every offset.
        return (
            self.live()
            .active()
            .filter(
                client_secret_expires_at__gt=0,
                client_secret_expires_at__lt=latest + protocol.MAX_CLOCK_OFFSET,
            )
            .alias(ends=by_our_clock)
            .filter(ends__lt=latest)
        )

    def leases(self) -> list[tuple[int, float]]:
        """The rows that a process holds, or held when it ended, with the seconds that are left."""
        rows = self.filter(lease_until__gte=DatabaseNow()).order_by("pk")
        left = rows.values_list("pk", "lease_until", DatabaseNow())
        return [(pk, (until - now).total_seconds()) for pk, until, now in left]

    def needs_reconciliation(self) -> ClientRegistrationQuerySet:
        """Rows that a crash or a lost answer left behind, and nobody works on."""
        waiting = models.Q(status__in=[Status.REGISTERING, Status.REVOKING]) & LEASE_IS_FREE
        # An unknown one that is not live any more, and cannot be deleted, is only a record.
        deletable = models.Q(registration_access_token__isnull=False)
        doubtful = models.Q(status=Status.UNKNOWN) & (models.Q(live=True) | deletable)
        # A renewal registered it, and was interrupted before it put it in the place of the old one.
        renewing = self.model._default_manager.filter(key_digest=models.OuterRef("key_digest"))
        renewing = renewing.filter(live=True, lease_until__gte=DatabaseNow())
        spare = models.Q(status=Status.ACTIVE, live__isnull=True) & ~models.Exists(renewing)
        # Each by its own index: no database searches one for the sides of every OR.
        found = (waiting, doubtful, spare, WAS_INTERRUPTED)
        rows = self.model._default_manager.using(self.db)
        keys = [models.Q(pk__in=rows.filter(condition).values("pk")) for condition in found]
        return self.filter(reduce(operator.or_, keys))


def _if_past(value: Any) -> models.Case:
    return models.Case(models.When(live__isnull=True, then=value))


def check_owner(owner: str) -> None:
    """Raise NotAllowedError for text that not every database stores."""
    if protocol.storable(owner) != owner:
        raise NotAllowedError("Null characters and lone surrogates are not allowed in an owner.")


if TYPE_CHECKING:
    _ClientRegistrations = models.Manager["ClientRegistration"]

    class ClientRegistrationManager(ClientRegistrationQuerySet, _ClientRegistrations):  # type: ignore[misc]
        """What ``objects`` is, for type checkers that do not know ``as_manager()``."""


class ClientRegistration(LeasedModel, RememberingModel):
    """One client of this site at one authorization server, from intent to tombstone.

    The columns that the server issues have the names of RFC 7591 section 3.2.1 and RFC 7592
    section 3; times among them are seconds since 1970.
    """

    Status = Status
    #: The methods by which ``client_authentication()`` authenticates.
    AUTHENTICATION_METHODS = protocol.AUTHENTICATION_METHODS
    #: The columns that ``request_metadata()`` changes.
    REQUEST_FIELDS = ("requested_metadata", "has_drift")
    #: Why it is registered by this mechanism, for the history.
    reason = ""
    # The owner as it is stored, which may be edited as long as the issuer stays.
    _saved_owner: str | None = None
    # What the caller wishes is not what another process may have stored.
    kept_on_reload = ("id", "server", "owner", "requested_metadata")

    server: models.ForeignKey[AuthorizationServer, AuthorizationServer] = models.ForeignKey(
        AuthorizationServer,
        on_delete=models.PROTECT,
        related_name="registrations",
        verbose_name=_("authorization server"),
    )
    owner = models.TextField(
        _("owner"),
        blank=True,
        default="",
        help_text=_("Whose registration this is; empty for the site itself."),
    )
    key_digest = DigestField(source="_key_parts")
    # True or NULL: a unique index lets NULLs repeat on every database, so past rows may stay.
    live = models.BooleanField(null=True, default=True, editable=False)
    status = models.CharField(
        _("status"), max_length=16, choices=Status.choices, default=Status.DRAFT, editable=False
    )
    #: How the client came about; see ``mechanisms.py``. The row of an earlier release is "dynamic",
    #: and so is one that a process of that release still writes, hence the database's default.
    mechanism = models.CharField(
        _("mechanism"),
        max_length=20,
        choices=Mechanism.choices,
        default=Mechanism.DYNAMIC,
        db_default=Mechanism.DYNAMIC.value,
        editable=False,
    )
    #: The last part of a metadata document's URL, which is the client ID.
    document_slug = models.CharField(
        max_length=16, blank=True, default="", db_default="", editable=False, db_index=True
    )
    requested_metadata = models.JSONField(
        _("requested metadata"),
        default=dict,
        blank=True,
        help_text=_("Client metadata to ask for, as RFC 7591 members; null removes a default."),
    )
    metadata: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        _("granted metadata"), default=dict, blank=True, editable=False
    )
    deviations = models.JSONField(_("deviations"), default=list, blank=True, editable=False)
    client_id = models.TextField(_("client ID"), blank=True, default="", editable=False)
    client_digest = DigestField(source="_client_parts", null=True, unique=True)
    client_secret = SecretField(_("client secret"), null=True, editable=False)
    client_secret_expires_at = models.BigIntegerField(
        _("client secret expires at"), null=True, editable=False
    )  # 0 never, NULL unknown
    #: Seconds by which this site's clock was ahead of the server's when it said so.
    clock_offset = models.IntegerField(default=0, editable=False)
    #: When the present secret came by a renewal; null for one that came with the client.
    renewed_at = models.DateTimeField(_("renewed"), null=True, editable=False)
    #: When a token endpoint last refused the client, and its server was asked why.
    refused_at = models.DateTimeField(null=True, editable=False)
    client_id_issued_at = models.BigIntegerField(_("issued at"), null=True, editable=False)
    registration_client_uri = models.TextField(
        _("client configuration endpoint"), blank=True, default="", editable=False
    )
    registration_access_token = SecretField(
        _("registration access token"), null=True, editable=False
    )
    last_error = models.TextField(_("last error"), blank=True, default="", editable=False)
    # Of the last answer: a list of many rows cannot ask each for its ``drift``.
    has_drift = models.BooleanField(_("drift"), default=False, editable=False)
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
        ]

    def __str__(self) -> str:
        owner = text.clean(self.owner) or gettext("this site")
        return gettext("%(owner)s at %(issuer)s") % {"owner": owner, "issuer": self.server.issuer}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; raises NotAllowedError where the server's issuer is not the client's any more."""
        # Digested again, the credentials would pass for those of the other issuer.
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

    def _client_parts(self) -> tuple[str, ...] | None:
        # Letter case counts and MariaDB's collation ignores it, hence a digest; past rows give
        # their id up, since a server may issue it again.
        own = (
            self.live and self.client_id and not self._is_public(self.client_secret, self.metadata)
        )
        return (self.server.issuer, self.client_id) if own else None

    def _own_client(self, client_id: str, secret: object, metadata: dict[str, Any]) -> str | None:
        """Return the digest of a client that no other live row may hold."""
        public = self._is_public(secret, metadata)
        return None if public else digest(self.server.issuer, client_id)

    @staticmethod
    def _is_public(secret: object, metadata: dict[str, Any]) -> bool:
        """Whether a client has no credentials, and so may be several owners' (RFC 7591, 3.2.1)."""
        return secret is None and metadata.get("token_endpoint_auth_method") == "none"

    def clean(self) -> None:
        if self.server_id is None:
            return  # a form that lacks it says so itself
        try:
            check_owner(self.owner)
        except NotAllowedError as exc:
            raise ValidationError({"owner": str(exc)}) from exc
        try:
            faults = protocol.client_metadata_faults(self.asked, complete=self._states_all)
        except NotAllowedError as exc:
            faults = [str(exc)]
        if faults:
            raise ValidationError({"requested_metadata": faults})
        if self.live and self.rivals().exists():
            raise ValidationError(_("This owner already has a registration at this server."))

    def rivals(self) -> ClientRegistrationQuerySet:
        """The other live registration of this owner at this server, if there is one."""
        rows = type(self).objects.primary().for_key(self.server.issuer, self.owner)
        return rows.live().exclude(pk=self.pk)

    @cached_property
    def replaced_by(self) -> int | None:
        """The number of the registration that took the place of this one, if there is one."""
        row = type(self).objects.with_places().filter(pk=self.pk).first()
        return row.replaced_by if row else None

    @cached_property
    def replaces(self) -> int | None:
        """The number of the registration whose place this one took, if there was one."""
        row = type(self).objects.with_places().filter(pk=self.pk).first()
        return row.replaces if row else None

    @property
    def is_only_a_record(self) -> bool:
        """Whether another registration has taken its place, and nothing is left to do here."""
        is_to_be_deleted = self.is_manageable and self.status in (Status.UNKNOWN, Status.REVOKING)
        return not self.live and not is_to_be_deleted and self.replaced_by is not None

    @property
    def asked(self) -> dict[str, Any]:
        """The client metadata this row asks for, with the server's and the site's defaults."""
        return protocol.client_metadata(
            conf.DCR_CLIENT_METADATA,
            self.server.client_metadata,
            self.requested_metadata,
            owner=self.owner,
        )

    @property
    def chosen(self) -> dict[str, Any]:
        """The members that a request states for lack of a wish, such as how to authenticate."""
        try:
            asked = self.asked
            known = {**self._signing_members(asked), **asked}
            request = protocol.registration_request(known, self.server.metadata)
        except (NotAllowedError, UnsupportedError):
            return {}
        return {name: value for name, value in request.items() if name not in asked}

    def _signing_members(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Whether and with which keys a client signs, as was chosen when it was registered."""
        if not self.signs or protocol.brings_keys(asked):
            return {}
        return {name: self.metadata[name] for name in _SIGNING if name in self.metadata}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what is asked for, may be sent, and yet is better changed."""
        try:
            asked = self.asked
            protocol.check_client_metadata(asked, complete=False)
        except NotAllowedError:
            return []  # what is asked is refused, with reasons of its own
        sentences = protocol.warnings(asked, self.server.metadata)
        method = asked.get("token_endpoint_auth_method", "none")
        if method not in self.AUTHENTICATION_METHODS:
            sentences.append(
                f"This app cannot authenticate by {text.clean(method, 100)}, so logins have to be "
                "the site's own code."
            )
        return sentences

    @property
    def drift(self) -> dict[str, dict[str, Any]]:
        """The members whose granted value is not the asked one, with both values."""
        return self.drift_from(self.metadata)

    def drift_from(self, granted: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The members of which ``granted`` has another value than the requested one."""
        if not granted:
            return {}
        offer, asked = self.server.metadata, self.asked
        method = granted.get("token_endpoint_auth_method")
        if self.mechanism != Mechanism.DYNAMIC and method:
            # It is what the site itself or a person has stated, for lack of a wish.
            asked = {"token_endpoint_auth_method": method, **asked}
        return protocol.differences(asked, granted, server_metadata=offer)

    def request_metadata(self, metadata: dict[str, Any]) -> None:
        """Set the client metadata to request, and whether what was granted differs from it.

        Saves nothing; ``REQUEST_FIELDS`` are the columns that change. Raises NotAllowedError for
        metadata that must not be sent.
        """
        self.requested_metadata = metadata
        protocol.check_client_metadata(self.asked, complete=self._states_all)
        self.has_drift = self._drifts(self.metadata)

    @property
    def _states_all(self) -> bool:
        # What is in a server's console nobody need repeat here.
        return bool(self.mechanism != Mechanism.PRE_REGISTERED)

    def conditions(self) -> str:
        """What the server's answers depend on here: what is asked, and what its row says."""
        try:
            asked = self.asked
        except (NotAllowedError, ImproperlyConfigured):
            asked = {}
        return fingerprint(asked, self.server.conditions())

    def _drifts(self, granted: dict[str, Any]) -> bool:
        try:
            return bool(self.drift_from(granted))
        except (NotAllowedError, ImproperlyConfigured):
            return False  # what is asked cannot be told, and a response must be stored nevertheless

    @property
    def is_manageable(self) -> bool:
        """Whether the server gave the means to read, update and delete the client (RFC 7592)."""
        return bool(self.registration_client_uri and self.registration_access_token)

    @property
    def belongs_to_server(self) -> bool:
        """Whether the server row still names the issuer that this was registered at."""
        return bool(self.key_digest == digest(*self._key_parts()))

    def check_attached(self) -> None:
        """Raise NotAllowedError unless ``belongs_to_server``, or nothing is stored yet."""
        if self.pk is not None and not self.belongs_to_server:
            raise NotAllowedError(
                f"The issuer of registration {self.pk} was changed after it was registered, and "
                "its credentials must not go to another server. Restore the issuer.",
                issuer=self.server.issuer,
            )

    @property
    def secret_expiry(self) -> datetime | None:
        """When the client secret expires, by this site's clock; None for never and for unknown."""
        if not self.client_secret_expires_at:
            return None
        seconds = self.client_secret_expires_at + self.clock_offset
        return datetime.fromtimestamp(seconds, tz=tz.utc)

    @property
    def secret_has_expired(self) -> bool:
        """Whether the client secret has expired, or will within a minute."""
        return self.secret_expires_within(EXPIRY_MARGIN)

    def secret_expires_within(self, margin: timedelta) -> bool:
        """Whether the client secret has expired, or will before ``margin`` has passed."""
        expiry = self.secret_expiry
        return expiry is not None and expiry - margin <= datetime.now(tz=tz.utc)

    @property
    def seconds_until_renewal(self) -> float:
        """For how many seconds the site does not renew the secret again by itself."""
        if self.renewed_at is None:
            return 0.0
        age = (timezone.now() - self.renewed_at).total_seconds()
        # A moment in the future was written by a clock that has been set back since.
        return _RENEWAL_PAUSE - age if 0 <= age < _RENEWAL_PAUSE else 0.0

    @property
    def authentication_method(self) -> str:
        """The method that was registered, by default client_secret_basic (RFC 7591 section 2)."""
        return str(self.metadata.get("token_endpoint_auth_method") or "client_secret_basic")

    @property
    def signs(self) -> bool:
        """Whether the client authenticates with a key, and needs no secret."""
        return self.authentication_method == "private_key_jwt"

    def check_authentication(self) -> None:
        """Raise UnsupportedError where ``client_authentication()`` would; decrypts nothing.

        A client that was registered with keys of the site's own code is left to that.
        """
        protocol.check_authentication_method(
            self.authentication_method,
            has_secret=self.client_secret is not None,
        )
        if self.signs and not protocol.brings_keys(self.asked):
            signing_key(self)

    def client_authentication(
        self, audience: str | None = None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form parameters that authenticate this client at the token endpoint.

        By the *registered* method only (RFC 6749 section 2.3.1). What is signed is good for one
        request within four minutes; it addresses ``audience``, or whom the server's row says.
        Raises DecryptionError, and UnsupportedError where secret or key are missing or do not fit
        the method.
        """
        if self.signs:
            key = signing_key(self)
            header = {"alg": key.algorithm, "kid": key.kid}
            return {}, self._assertion(audience, header, key.sign)
        secret = None if self.client_secret is None else self.client_secret.reveal()
        method = self.authentication_method
        if method == "client_secret_jwt" and secret is not None:
            algorithm = self.metadata.get("token_endpoint_auth_signing_alg", "HS256")
            sign = partial(protocol.mac, secret, algorithm)
            return {}, self._assertion(audience, {"alg": algorithm}, sign)
        return protocol.client_authentication(self.client_id, secret, method)

    def _assertion(
        self, audience: str | None, header: dict[str, str], sign: Callable[[bytes], bytes]
    ) -> dict[str, str]:
        server = self.server
        typ = {"typ": server.assertion_typ} if server.assertion_typ else {}
        return protocol.client_assertion(
            self.client_id,
            audience or server.audience(),
            header={**header, **typ},
            sign=sign,
            clock_offset=self.clock_offset,
        )

    # -- changes of state ------------------------------------------------------------------

    def store(
        self,
        information: protocol.ClientInformation,
        *,
        metadata: dict[str, Any] | None,
        superseded: Secret | None = None,
        release: bool = False,
    ) -> bool:
        """Save what the server issued; with the ``metadata`` it granted, as an active client.

        Absent credentials never replace stored ones. Returns False, having changed nothing,
        where another process has taken the row over. ``superseded`` is the access token that the
        answer superseded: while the row still holds it nobody got further, and the new one is
        saved even without the lease; of a row that is no longer live, only the new one.
        """
        values = self._issued(information)
        if metadata is not None:
            values |= {
                "status": Status.ACTIVE,
                "metadata": metadata,
                "deviations": list(information.deviations),
                "last_error": "",
            }
            values |= self._signers_values(information, metadata)
            if release or metadata != self.metadata:  # else nothing has been asked or granted
                values["has_drift"] = self._drifts(metadata)
            if self.status == Status.GONE:  # and the server knows it after all
                secret = values.get("client_secret", self.client_secret)
                own = self._own_client(self.client_id, secret, metadata)
                values |= {"live": True, "client_digest": own}
        if release:  # nothing more is to come of this step
            new = "client_secret" in values and self.client_secret is not None
            event = {"new_secret": new} if self.task == "renew" or new else {}
            values["event"] = {"outcome": Status.ACTIVE.value, **event}
            values |= FORGOTTEN
            values["refused_at"] = None  # what was asked since then may explain it
            if self.task == "update":
                # Only now, for what was refused must not look like what was requested.
                values["requested_metadata"] = self.requested_metadata
        elif all(getattr(self, name) == value for name, value in values.items()):
            self.interrupted = self.interrupted and metadata is None
            return True  # nothing to keep, and more is to come
        self.interrupted = self.interrupted and metadata is None
        try:
            return self._store(values, superseded, release=release)
        except IntegrityError:
            raise
        except Error as exc:
            self.interrupted = True
            raise self._not_stored(values, exc) from exc

    def _signers_values(
        self, information: protocol.ClientInformation, metadata: dict[str, Any]
    ) -> dict[str, Any]:
        """What is different about a client that signs: the time, and that no secret ends."""
        values: dict[str, Any] = {}
        stated = information.metadata.get("token_endpoint_auth_method")
        if stated in protocol.ASSERTION_METHODS:
            values["clock_offset"] = information.clock_offset
        if metadata.get("token_endpoint_auth_method") == "private_key_jwt":
            # Some servers issue a secret as well. It is kept, and nothing is renewed for it.
            values["client_secret_expires_at"] = None
        return values

    def _store(self, values: dict[str, Any], superseded: Secret | None, *, release: bool) -> bool:
        until = self._last_attempt()
        if self._write(release=release, atomic=superseded is None, until=until, **values):
            return True
        return superseded is not None and self._store_late(superseded, values, release=release)

    def _not_stored(self, values: dict[str, Any], cause: Error) -> NotStoredError:
        lost = [name for name in ("client_secret", "registration_access_token") if name in values]
        what = f"its new {' and '.join(lost)}" if lost else "it"
        pk, reason = self.pk, text.clean(cause, 80)
        return NotStoredError(
            f"The server answered about registration {pk}, and the database did not store {what} "
            f"({reason}). When the database works again, run: manage.py dcr_read {pk}. If the "
            "server then refuses the old token, register a new client with: "
            f"manage.py dcr_reconcile --retry {pk}"
        )

    def _store_late(self, superseded: Secret, values: dict[str, Any], *, release: bool) -> bool:
        not_yet_rotated = ciphertext_is("registration_access_token", superseded)
        if self._write(not_yet_rotated & models.Q(live=self.live), release=release, **values):
            return True
        # Of a row that was given up as "gone" for the old credentials, the new ones.
        secrets = {name: values[name] for name in _CREDENTIALS if name in values}
        self._write(not_yet_rotated, **secrets)
        return False

    def _issued(self, information: protocol.ClientInformation) -> dict[str, Any]:
        issued = {name: getattr(information, name) for name in _ISSUED}
        values = {name: value for name, value in issued.items() if value is not None}
        for name in ("client_secret", "registration_access_token"):
            if name in values and self.secret_equals(name, issued[name]):
                del values[name]
        if "client_secret" in values:
            # A new secret must not inherit the lifetime of the old one.
            values["client_secret_expires_at"] = issued["client_secret_expires_at"]
        if "client_secret_expires_at" in values:
            values["clock_offset"] = information.clock_offset
            if self.task == "renew" and self._is_renewed(values):
                values["renewed_at"] = timezone.now()
        if self.live and information.client_id:
            secret = information.client_secret or self.client_secret
            granted = {**self.metadata, **information.metadata}
            values["client_digest"] = self._own_client(information.client_id, secret, granted)
        return values

    def _is_renewed(self, values: dict[str, Any]) -> bool:
        end = values["client_secret_expires_at"]
        return "client_secret" in values or end != self.client_secret_expires_at

    def record_orphan(self, information: protocol.ClientInformation) -> None:
        """Keep a client that came too late, and could not be deleted, in a row of its own."""
        spare = type(self)(
            server=self.server,
            owner=self.owner,
            live=None,
            status=Status.UNKNOWN,
            requested_metadata=self.requested_metadata,
            last_error="An orphaned client: another process had registered meanwhile. Revoke it.",
        )
        spare._assign(spare._issued(information))
        retry_on_db_error(partial(spare.save, using=self._alias), self._alias)
        record(spare, self.task, Status.UNKNOWN.value)

    def has_twin(self, client_id: str | None) -> bool:
        """Whether another live row holds this client of the same server."""
        return self.twins(client_id or "").exists() or self._has_public_twin(client_id)

    def twins(self, client_id: str | None = None) -> ClientRegistrationQuerySet:
        """The other live rows that hold this client, or ``client_id``, of the same server."""
        known = digest(self.server.issuer, self.client_id if client_id is None else client_id)
        rows = type(self).objects.using(self._alias).filter(client_digest=known)
        return rows.exclude(pk=self.pk)

    def _has_public_twin(self, client_id: str | None) -> bool:
        others = type(self).objects.using(self._alias).exclude(pk=self.pk)
        public = others.live().filter(server=self.server, client_digest=None, client_id=client_id)
        return client_id in public.values_list("client_id", flat=True)  # letter case counts

    @property
    def is_shared(self) -> bool:
        """Whether another owner's row holds this client, too, as it may hold a public one."""
        public = self._is_public(self.client_secret, self.metadata)
        return public and self.has_twin(self.client_id)

    def secret_equals(self, name: str, value: str | None) -> bool:
        """Whether the secret column ``name`` holds ``value``; False where no key opens it."""
        stored: Secret | None = getattr(self, name)
        try:
            return (None if stored is None else stored.reveal()) == value
        except DecryptionError:
            return False

    def fail(self, error: object, status: str | None = None) -> bool:
        """Record an error, with the state it leaves the row in, and give the lease back.

        Returns False, having changed nothing, where another process has taken the row over.
        """
        values: dict[str, Any] = {"last_error": str(error), **self.remembering(error, self.task)}
        self.may_retry = False
        fence = None
        if status is not None:
            values["status"] = status
            self.interrupted = self.interrupted and status == Status.ACTIVE
        if status == Status.GONE:
            values |= {"live": None, "client_digest": None}
            # Who slept too long may have stored a newer token than the one that was refused.
            token: Any = self.registration_access_token  # or there was nothing to refuse
            fence = self.owned_by_me() & ciphertext_is("registration_access_token", token)
        if status in (Status.DRAFT, Status.REJECTED):
            values |= _NO_CREDENTIALS
        event = {"outcome": status or self.status}
        if isinstance(error, Exception):
            event["error"] = type(error).__name__
        return self._write(fence, release=True, event=event, **values)

    def clear(self, note: str = "") -> bool:
        """Wipe the credentials and close the row (RFC 7592 section 2.3)."""
        values = {**_NO_CREDENTIALS, "status": Status.REVOKED, "live": None, "last_error": note}
        values |= FORGOTTEN
        self.interrupted = False
        values.pop("client_id")  # names the tombstone, and opens nothing
        return self._write(release=True, event={"outcome": Status.REVOKED.value}, **values)

    def publish(
        self,
        members: dict[str, Any],
        warnings: Sequence[str],
        *,
        others: Sequence[ClientRegistration] = (),
    ) -> bool:
        """Save what a metadata document says, as an active client, and release the row.

        ``others`` are the rows of the same client at other servers, which take the wishes over.
        Returns False, having changed nothing, where another process has taken the row over.
        """
        wishes = {"requested_metadata": self.requested_metadata, "metadata": members}
        values = {
            **wishes,
            "status": Status.ACTIVE,
            "deviations": [text.clean(warning, 300) for warning in warnings],
            "last_error": "",
            "has_drift": self._drifts(members),
            "event": {"outcome": Status.ACTIVE.value},
        }
        if self.live:
            values["client_digest"] = digest(self.server.issuer, self.client_id)
        self.interrupted = False
        with transaction.atomic(using=self._alias):
            if not self._write(release=True, **values):
                return False
            for other in others:
                moment = {"updated_at": other._next_moment(), "has_drift": other._drifts(members)}
                other._row().update(**wishes, **moment)
        return True

    def note_wishes(self) -> None:
        """Save what is asked for, which nobody can ask the server."""
        self.has_drift = self._drifts(self.metadata)
        self.save(update_fields=["requested_metadata", "has_drift", "updated_at"])

    def confirm(self) -> bool:
        """Release a row that holds all there is to know of its client, and record that."""
        return self._write(release=True, event={"outcome": self.status})

    def withdraw(self) -> None:
        """Delete a row that was inserted and came to nothing, if this process still holds it."""
        self._row().filter(self.owned_by_me()).delete()

    def note(self, action: str) -> bool:
        """Write an event that changes nothing; False where another process holds the row."""
        held = self.claim(*Status, task=action)
        return held and self._write(release=True, event={"outcome": self.status})

    def note_refusal(self) -> None:
        """Write down that a token endpoint refused the client just now."""
        self._write(refused_at=timezone.now())

    def _write(
        self,
        fence: models.Q | None = None,
        *,
        event: dict[str, Any] | None = None,
        **values: Any,
    ) -> bool:
        written = super()._write(fence, **values)
        if written and event:
            record(self, self.task, note=self.reason, **event)
            self.reason = ""
        return written

    def successor(
        self, mechanism: str = Mechanism.DYNAMIC, *, action: str = "retry"
    ) -> ClientRegistration:
        """Create a draft that takes over the key of this row, which stays as a record.

        ``action`` is what the history calls this.
        """
        past = {"live": None, "client_digest": None, "updated_at": self._next_moment()}

        def succeed() -> ClientRegistration:
            draft = type(self)(
                server=self.server,
                owner=self.owner,
                mechanism=mechanism,
                requested_metadata=self.requested_metadata,
            )
            with transaction.atomic(using=self._alias):
                self._row().update(**past)
                draft.save(using=self._alias)
            return draft

        draft = retry_on_db_error(succeed, self._alias)
        self.live = None
        record(self, action, self.status)
        return draft

    def replace(self, predecessor: ClientRegistration) -> bool:
        """Become the live row of the key in place of ``predecessor``, now "revoking".

        Returns False, having changed nothing, where another process has taken that row over.
        """
        client_digest = self._own_client(self.client_id, self.client_secret, self.metadata)
        replaced = {**_REPLACED, "updated_at": predecessor._next_moment()}
        live = {"live": True, "client_digest": client_digest, "updated_at": self._next_moment()}

        def replace() -> bool:
            with transaction.atomic(using=self._alias):
                old = predecessor._row().filter(predecessor.owned_by_me(), live=True)
                # Another process may be deleting what an interrupted renewal left behind.
                new = self._row().filter(status=Status.ACTIVE, live__isnull=True)
                if old.update(**replaced) and new.update(**live):
                    return True
                transaction.set_rollback(True, using=self._alias)
            return False

        if not retry_on_db_error(replace, self._alias):
            return False
        self._assign(live)
        predecessor._assign(replaced)
        record(predecessor, predecessor.task, Status.REVOKING.value)
        return True


#: The columns that the server issues.
_ISSUED = (
    "client_id",
    "client_id_issued_at",
    "client_secret",
    "client_secret_expires_at",
    "registration_client_uri",
    "registration_access_token",
)
_CREDENTIALS = ("client_secret", "client_secret_expires_at", "registration_access_token")
_SIGNING = (
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    *protocol.KEY_MEMBERS,
)
_REPLACED: dict[str, Any] = {"live": None, "client_digest": None, "status": Status.REVOKING}
_NO_CREDENTIALS: dict[str, Any] = {
    "client_id": "",
    "client_digest": None,
    "client_secret": None,
    "registration_access_token": None,
    "registration_client_uri": "",
}

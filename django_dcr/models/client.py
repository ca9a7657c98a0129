"""A client: what is requested for it, what its server granted, and how it authenticates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import timezone as tz
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, text
from django_dcr.conf import conf
from django_dcr.exceptions import DecryptionError, NotAllowedError, UnsupportedError
from django_dcr.fields import Secret, SecretField
from django_dcr.mechanisms import Mechanism
from django_dcr.models.authorizationserver import AuthorizationServer
from django_dcr.models.clientkey import signing_key
from django_dcr.models.failures import fingerprint

# A clock that is a little slow must not let an expired secret be used.
EXPIRY_MARGIN = timedelta(seconds=60)
# How many seconds a renewed secret is not renewed again: a server whose secrets expire at once must
# not get a new client with every login.
_RENEWAL_PAUSE = 3600.0
# What was chosen for a client that signs, and does not change afterwards.
_SIGNING = (
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    *protocol.KEY_MEMBERS,
)


class ClientModel(models.Model):
    """A client's metadata (RFC 7591 section 2), as requested and as granted, and its credentials.

    What the server issues has columns named as in RFC 7591 section 3.2.1 and RFC 7592 section 3;
    times among them are seconds since 1970.
    """

    #: The methods by which ``client_authentication()`` authenticates.
    AUTHENTICATION_METHODS = protocol.AUTHENTICATION_METHODS
    #: The columns that ``request_metadata()`` changes.
    REQUEST_FIELDS = ("requested_metadata", "has_drift")

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
    # As of the last response: computing ``drift`` for each row of a long list takes too long.
    has_drift = models.BooleanField(_("drift"), default=False, editable=False)

    client_id = models.TextField(_("client ID"), blank=True, default="", editable=False)
    client_secret = SecretField(_("client secret"), null=True, editable=False)
    client_secret_expires_at = models.BigIntegerField(
        _("client secret expires at"), null=True, editable=False
    )  # 0 never, NULL unknown
    #: Seconds by which this site's clock was ahead of the server's when it said so.
    clock_offset = models.IntegerField(default=0, editable=False)
    #: When the present secret came by a renewal; null for one that came with the client.
    renewed_at = models.DateTimeField(_("renewed"), null=True, editable=False)
    client_id_issued_at = models.BigIntegerField(_("issued at"), null=True, editable=False)
    registration_client_uri = models.TextField(
        _("client configuration endpoint"), blank=True, default="", editable=False
    )
    registration_access_token = SecretField(
        _("registration access token"), null=True, editable=False
    )

    class Meta:
        abstract = True

    @property
    def requested(self) -> dict[str, Any]:
        """The client metadata that this row requests, with the server's and the site's defaults."""
        return protocol.client_metadata(
            conf.DCR_CLIENT_METADATA,
            self.server.client_metadata,
            self.requested_metadata,
            owner=self.owner,
        )

    @property
    def chosen(self) -> dict[str, Any]:
        """The members that this app chooses if nothing was requested, such as the method to
        authenticate by.
        """
        try:
            requested = self.requested
            known = {**self._signing_members(requested), **requested}
            request = protocol.registration_request(known, self.server.metadata)
        except (NotAllowedError, UnsupportedError):
            return {}
        return {name: value for name, value in request.items() if name not in requested}

    def _signing_members(self, requested: dict[str, Any]) -> dict[str, Any]:
        """The members about keys that were chosen when a signing client was registered."""
        if not self.signs or protocol.brings_keys(requested):
            return {}
        return {name: self.metadata[name] for name in _SIGNING if name in self.metadata}

    @property
    def warnings(self) -> list[str]:
        """Sentences about requested members that may be sent, but had better be changed."""
        try:
            requested = self.requested
            protocol.check_client_metadata(requested, complete=False)
        except NotAllowedError:
            return []  # sending the request raises this error
        sentences = protocol.warnings(requested, self.server.metadata)
        method = requested.get("token_endpoint_auth_method", "none")
        if method not in self.AUTHENTICATION_METHODS:
            sentences.append(
                f"This app cannot authenticate by {text.clean(method, 100)}, so logins have to be "
                "the site's own code."
            )
        return sentences

    @property
    def drift(self) -> dict[str, dict[str, Any]]:
        """The members whose granted value differs from the requested one, with both values."""
        return self.drift_from(self.metadata)

    def drift_from(self, granted: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """As ``drift``, but from the metadata ``granted``."""
        if not granted:
            return {}
        offer, requested = self.server.metadata, self.requested
        method = granted.get("token_endpoint_auth_method")
        if self.mechanism != Mechanism.DYNAMIC and method:
            # If it was not requested, the site itself or a person has stated it.
            requested = {"token_endpoint_auth_method": method, **requested}
        return protocol.differences(requested, granted, server_metadata=offer)

    def request_metadata(self, metadata: dict[str, Any]) -> None:
        """Set the client metadata to request, and ``has_drift`` with it, without saving.

        ``REQUEST_FIELDS`` are the columns that change. Raises NotAllowedError for metadata that
        must not be sent.
        """
        self.requested_metadata = metadata
        protocol.check_client_metadata(self.requested, complete=self._states_all)
        self.has_drift = self._drifts(self.metadata)

    @property
    def _states_all(self) -> bool:
        # What was entered in the server's console need not be repeated here.
        return bool(self.mechanism != Mechanism.PRE_REGISTERED)

    def conditions(self) -> str:
        """A digest of what the server's responses depend on: the request, and the server's row."""
        try:
            requested = self.requested
        except (NotAllowedError, ImproperlyConfigured):
            requested = {}
        return fingerprint(requested, self.server.conditions())

    def _drifts(self, granted: dict[str, Any]) -> bool:
        try:
            return bool(self.drift_from(granted))
        except (NotAllowedError, ImproperlyConfigured):
            return False  # the request is malformed, but the response must be stored

    @property
    def authentication_method(self) -> str:
        """The method that was registered, by default client_secret_basic (RFC 7591 section 2)."""
        return str(self.metadata.get("token_endpoint_auth_method") or "client_secret_basic")

    @property
    def signs(self) -> bool:
        """Whether the client authenticates with a key and needs no secret."""
        return self.authentication_method == "private_key_jwt"

    @property
    def is_manageable(self) -> bool:
        """Whether the client can be read, updated and deleted (RFC 7592)."""
        return bool(self.registration_client_uri and self.registration_access_token)

    @property
    def secret_expiry(self) -> datetime | None:
        """When the client secret expires by this site's clock; None if never, or if unknown."""
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
        """The seconds until the site renews the secret again by itself; 0 if it may now."""
        if self.renewed_at is None:
            return 0.0
        age = (timezone.now() - self.renewed_at).total_seconds()
        # A moment in the future was written by a clock that has been set back since.
        return _RENEWAL_PAUSE - age if 0 <= age < _RENEWAL_PAUSE else 0.0

    def secret_equals(self, name: str, value: str | None) -> bool:
        """Whether the secret column ``name`` holds ``value``; False if no key decrypts it."""
        stored: Secret | None = getattr(self, name)
        try:
            return (None if stored is None else stored.reveal()) == value
        except DecryptionError:
            return False

    def check_authentication(self) -> None:
        """Raise UnsupportedError if ``client_authentication()`` would; decrypt nothing.

        Clients that the site's own code registered with its keys are not checked.
        """
        protocol.check_authentication_method(
            self.authentication_method,
            has_secret=self.client_secret is not None,
        )
        if self.signs and not protocol.brings_keys(self.requested):
            signing_key(self)

    def client_authentication(
        self, audience: str | None = None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form parameters that authenticate this client at the token endpoint.

        Only the *registered* method is used (RFC 6749 section 2.3.1). An assertion is valid for
        one request within four minutes; its ``aud`` is ``audience`` or what the server's row says.
        Raises DecryptionError, and UnsupportedError if the secret or the key is missing or does
        not fit the method.
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

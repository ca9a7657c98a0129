"""What a client authenticates with, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import timezone as tz
from functools import partial

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol
from django_dcr.exceptions import DecryptionError
from django_dcr.fields import Secret, SecretField
from django_dcr.models.clientkey import signing_key
from django_dcr.models.clientmetadata import ClientMetadataModel

# An expired secret must not be handed out by a clock that is a little behind.
EXPIRY_MARGIN = timedelta(seconds=60)
# How long a renewed secret is left alone, in seconds: a server whose secrets expire at once must
# not get a new client with every login.
_RENEWAL_PAUSE = 3600.0


class ClientCredentialsModel(ClientMetadataModel):
    """The credentials that a server issued, and the client's use of them.

    The columns have the names of RFC 7591 section 3.2.1 and RFC 7592 section 3; times among them
    are seconds since 1970.
    """

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
    def is_manageable(self) -> bool:
        """Whether the server gave the means to read, update and delete the client (RFC 7592)."""
        return bool(self.registration_client_uri and self.registration_access_token)

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

    def secret_equals(self, name: str, value: str | None) -> bool:
        """Whether the secret column ``name`` holds ``value``; False where no key opens it."""
        stored: Secret | None = getattr(self, name)
        try:
            return (None if stored is None else stored.reveal()) == value
        except DecryptionError:
            return False

    def check_authentication(self) -> None:
        """Raise UnsupportedError where ``client_authentication()`` would; decrypts nothing.

        A client that was registered with keys of the site's own code is left to that.
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

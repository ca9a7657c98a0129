"""What is requested for a client, and what its server granted."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, text
from django_dcr.conf import conf
from django_dcr.exceptions import NotAllowedError, UnsupportedError
from django_dcr.mechanisms import Mechanism
from django_dcr.models.authorizationserver import AuthorizationServer
from django_dcr.models.failures import fingerprint

# What was chosen for a client that signs, and stays as long as it lives.
_SIGNING = (
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    *protocol.KEY_MEMBERS,
)


class ClientMetadataModel(models.Model):
    """A client's metadata (RFC 7591 section 2), as requested and as granted."""

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
    # Of the last answer: a list of many rows cannot ask each for its ``drift``.
    has_drift = models.BooleanField(_("drift"), default=False, editable=False)

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
        """The members that this app chooses where nobody did, such as how to authenticate."""
        try:
            requested = self.requested
            known = {**self._signing_members(requested), **requested}
            request = protocol.registration_request(known, self.server.metadata)
        except (NotAllowedError, UnsupportedError):
            return {}
        return {name: value for name, value in request.items() if name not in requested}

    def _signing_members(self, requested: dict[str, Any]) -> dict[str, Any]:
        """Whether and with which keys a client signs, as was chosen when it was registered."""
        if not self.signs or protocol.brings_keys(requested):
            return {}
        return {name: self.metadata[name] for name in _SIGNING if name in self.metadata}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what is requested and may be sent, but is better changed."""
        try:
            requested = self.requested
            protocol.check_client_metadata(requested, complete=False)
        except NotAllowedError:
            return []  # the request is refused, with reasons of its own
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
        """The members whose granted value is not the requested one, with both values."""
        return self.drift_from(self.metadata)

    def drift_from(self, granted: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The members of which ``granted`` has another value than the requested one."""
        if not granted:
            return {}
        offer, requested = self.server.metadata, self.requested
        method = granted.get("token_endpoint_auth_method")
        if self.mechanism != Mechanism.DYNAMIC and method:
            # It is what the site itself or a person has stated where nothing was requested.
            requested = {"token_endpoint_auth_method": method, **requested}
        return protocol.differences(requested, granted, server_metadata=offer)

    def request_metadata(self, metadata: dict[str, Any]) -> None:
        """Set the client metadata to request, and whether what was granted differs from it.

        Saves nothing; ``REQUEST_FIELDS`` are the columns that change. Raises NotAllowedError for
        metadata that must not be sent.
        """
        self.requested_metadata = metadata
        protocol.check_client_metadata(self.requested, complete=self._states_all)
        self.has_drift = self._drifts(self.metadata)

    @property
    def _states_all(self) -> bool:
        # What is in a server's console nobody need repeat here.
        return bool(self.mechanism != Mechanism.PRE_REGISTERED)

    def conditions(self) -> str:
        """What the server's answers depend on here: what is requested, and what its row says."""
        try:
            requested = self.requested
        except (NotAllowedError, ImproperlyConfigured):
            requested = {}
        return fingerprint(requested, self.server.conditions())

    def _drifts(self, granted: dict[str, Any]) -> bool:
        try:
            return bool(self.drift_from(granted))
        except (NotAllowedError, ImproperlyConfigured):
            return False  # the request is malformed, and a response must be stored nevertheless

    @property
    def authentication_method(self) -> str:
        """The method that was registered, by default client_secret_basic (RFC 7591 section 2)."""
        return str(self.metadata.get("token_endpoint_auth_method") or "client_secret_basic")

    @property
    def signs(self) -> bool:
        """Whether the client authenticates with a key, and needs no secret."""
        return self.authentication_method == "private_key_jwt"

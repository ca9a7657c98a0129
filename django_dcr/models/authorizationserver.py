"""The authorization servers that this site knows, and their metadata (RFC 8414)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import connections, models, router
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, uris
from django_dcr.conf import conf
from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    NotAllowedError,
    UnsupportedError,
    errors_at,
)
from django_dcr.fields import DigestField, SecretField, SecretQuerySet, digest
from django_dcr.mechanisms import AUTOMATIC
from django_dcr.models.cacheddocument import FETCHED, CachedDocument, check_origins, origin_of
from django_dcr.models.failures import NO_FAILURE
from django_dcr.models.leases import DatabaseNow
from django_dcr.models.loading import Columns
from django_dcr.text import clean

# How many requests may follow each other at once: discovery, and a read before an update.
_BURST = 3


class AuthorizationServerQuerySet(SecretQuerySet["AuthorizationServer"]):
    def for_issuer(self, issuer: str) -> AuthorizationServer:
        """Find or create the row of ``issuer``.

        Raises NotAllowedError where the string is not an issuer identifier (RFC 8414 section 2)
        or the site's policy excludes it; then nothing is stored.
        """
        check_issuer(issuer)
        known = digest(issuer)
        connection = connections[router.db_for_write(self.model)]
        with connection.cursor() as cursor:
            cursor.execute(_SELECT, [known])
            row = cursor.fetchone()
        if row:
            return COLUMNS.load(row, connection)
        return self.get_or_create(issuer_digest=known, defaults={"issuer": issuer})[0]


def check_issuer(issuer: str) -> None:
    """Raise NotAllowedError unless ``issuer`` is well formed and the site's policy allows it."""
    protocol.check_issuer(issuer, allow_http=conf.is_internal(issuer))
    if conf.DCR_ALLOWED_ISSUERS and issuer not in conf.DCR_ALLOWED_ISSUERS:
        raise NotAllowedError(
            f"The issuer {issuer} is not in DCR_ALLOWED_ISSUERS. Add it there, exactly as "
            "written, to let this site use it.",
            issuer=issuer,
        )


if TYPE_CHECKING:
    _AuthorizationServers = models.Manager["AuthorizationServer"]

    class AuthorizationServerManager(AuthorizationServerQuerySet, _AuthorizationServers):  # type: ignore[misc]
        """The type of ``objects``, for type checkers that do not know ``as_manager()``."""


class AuthorizationServer(CachedDocument):
    """An authorization server, and the last good copy of its metadata: the row is the cache."""

    IDENTITY = "issuer"

    issuer = models.TextField(
        _("issuer"), help_text=_("The issuer identifier, exactly as the server writes it.")
    )
    issuer_digest = DigestField(source="_issuer_parts", unique=True)
    name = models.CharField(_("name"), max_length=200, blank=True)
    enabled = models.BooleanField(
        _("enabled"),
        default=True,
        help_text=_("If unchecked, the registrations at this server are not used."),
    )
    initial_access_token = SecretField(_("initial access token"), null=True, blank=True)
    client_metadata = models.JSONField(
        _("client metadata"),
        default=dict,
        blank=True,
        help_text=_("Defaults for registrations at this server, as RFC 7591 members."),
    )
    trusted_origins = models.JSONField(
        _("trusted origins"),
        default=list,
        blank=True,
        help_text=_(
            "Origins besides the issuer's that its endpoints may be on, such as "
            '["https://register.example.com"]. Credentials are sent there.'
        ),
    )
    send_client_secret = models.BooleanField(
        _("send client secret in updates"),
        default=False,
        help_text=_("A few servers refuse updates without the current secret, a few with it."),
    )
    requests_per_minute = models.PositiveIntegerField(
        _("requests per minute"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_(
            "The most that all processes of this site send to the server together; empty for no"
            " limit. An update or a renewal takes two or more."
        ),
    )
    rejects_with_503 = models.BooleanField(
        _("503 means rejected"),
        default=False,
        help_text=_(
            "Check this where a response with status 503 always means that the server did "
            "nothing. Otherwise such a response leaves a registration unanswered, since a proxy "
            "also sends 503 when its server fails half-way."
        ),
    )
    retry_unknown = models.BooleanField(
        _("retry unanswered registrations"),
        default=False,
        db_default=False,
        help_text=_(
            "Check this to let the site register again by itself, after a pause, where an answer "
            "was lost. The server may then hold clients that nobody uses; their rows stay."
        ),
    )
    require_pkce = models.BooleanField(
        _("require PKCE"),
        default=False,
        db_default=False,
        help_text=_(
            "Check this to refuse logins at this server unless it announces PKCE with S256. For "
            "protected resources that is always required."
        ),
    )
    discovery_url = models.TextField(
        _("discovery URL"),
        blank=True,
        default="",
        db_default="",
        help_text=_(
            "Where the server's metadata is, if it is at no well-known place. The document must "
            "still name the issuer above."
        ),
    )
    metadata_by_hand = models.BooleanField(
        _("metadata entered by hand"),
        default=False,
        db_default=False,
        help_text=_("Check this for a server without a metadata document; none is fetched."),
    )
    mechanisms = models.JSONField(
        _("mechanisms"),
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text=_(
            "The mechanisms for new clients at this server, the preferred one first, such as "
            '["dynamic"]; empty for DCR_MECHANISMS.'
        ),
    )
    shared = models.BooleanField(
        _("shared client"),
        default=False,
        db_default=False,
        help_text=_(
            "Check this to let the site's own client serve every owner who has none of their own."
        ),
    )
    assertion_audience = models.CharField(
        _("audience of assertions"),
        max_length=16,
        choices=[
            ("issuer", _("the issuer")),
            ("token_endpoint", _("the token endpoint's URL")),
        ],
        default="issuer",
        db_default="issuer",
        help_text=_(
            "The audience of signed assertions. Servers for SMART require their token endpoint."
        ),
    )
    assertion_typ = models.CharField(
        _("type of assertions"),
        max_length=100,
        blank=True,
        default="client-authentication+jwt",
        db_default="client-authentication+jwt",
        help_text=_(
            "The header member typ of signed assertions; empty for none. Servers for SMART, and"
            " those built with Spring, require JWT."
        ),
    )
    sends_jwks = models.BooleanField(
        _("send keys by value"),
        default=False,
        db_default=False,
        help_text=_(
            "Check this where the server cannot fetch the keys of this site's clients from "
            "DCR_BASE_URL. Registrations then have the keys in them."
        ),
    )
    paced_until = models.DateTimeField(null=True, editable=False)
    objects: ClassVar[AuthorizationServerManager] = AuthorizationServerQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("authorization server")
        verbose_name_plural = _("authorization servers")
        permissions = [("discover_authorizationserver", "Can ask servers what they offer")]

    def __str__(self) -> str:
        return self.name or self.issuer

    def _issuer_parts(self) -> tuple[str, ...]:
        return (self.issuer,)

    def clean(self) -> None:
        # The other columns stay editable when a stored issuer is no longer allowed.
        if self.issuer_digest != digest(self.issuer):
            self._check_new_issuer()
        try:
            defaults = protocol.client_metadata(self.client_metadata)
            faults = protocol.client_metadata_faults(defaults, complete=False)
        except NotAllowedError as exc:
            faults = [str(exc)]
        if faults:
            raise ValidationError({"client_metadata": faults})
        check_origins(self.trusted_origins)
        _check_mechanisms(self.mechanisms)
        _check_discovery_url(self.discovery_url)

    def shares_origin(self, issuer: str) -> bool:
        """Whether another issuer is on the same origin, and so may be sent the same tokens."""
        return origin_of(issuer) == origin_of(self.issuer) != ""

    def forget_metadata(self) -> set[str]:
        """Clear what was learned of the server under another issuer; return the changed columns."""
        self.metadata, self.metadata_url, self.etag, self.last_error = {}, "", "", ""
        self.fetched_at = self.fresh_until = None
        return {*FETCHED, "issuer", "issuer_digest"}

    def _check_new_issuer(self) -> None:
        if self.pk and self.registrations.exists():
            message = _("It has registrations, whose credentials must go to no other server.")
            raise ValidationError({"issuer": message})
        try:
            check_issuer(self.issuer)
        except NotAllowedError as exc:
            raise ValidationError({"issuer": str(exc)}) from exc
        others = type(self).objects.filter(issuer_digest=digest(self.issuer)).exclude(pk=self.pk)
        if others.exists():
            raise ValidationError({"issuer": _("This authorization server is already listed.")})

    def check_allowed(self) -> None:
        """Raise NotAllowedError unless the server is enabled and its issuer still allowed."""
        check_issuer(self.issuer)
        if not self.enabled:
            raise NotAllowedError(
                f"The authorization server {self.issuer} is disabled. "
                "Enable it in the admin to use it.",
                issuer=self.issuer,
            )

    @property
    def is_fresh(self) -> bool:
        """Whether ``metadata`` can be used without asking the server."""
        if self.has_metadata and self.metadata_by_hand:
            return True
        return self.discovery_url in ("", self.metadata_url) and super().is_fresh

    @property
    def metadata_places(self) -> list[str]:
        """The URLs at which the metadata may be, in the order to ask them."""
        return [self.discovery_url] if self.discovery_url else protocol.well_known_urls(self.issuer)

    @property
    def takes_documents(self) -> bool:
        """Whether the server announces Client ID Metadata Documents."""
        return self.metadata.get("client_id_metadata_document_supported") is True

    @property
    def untrusted_origins(self) -> list[str]:
        """The origins of endpoints that are not used until ``trusted_origins`` lists them."""
        trusted = self.trusted_origins if isinstance(self.trusted_origins, list) else []
        if not origin_of(self.issuer):
            return []
        return protocol.foreign_origins(self.metadata, issuer=self.issuer, trusted_origins=trusted)

    @property
    def supports_pkce(self) -> bool:
        """Whether the server announces PKCE with S256 (RFC 8414 section 2, RFC 7636)."""
        return "S256" in self.offered("code_challenge_methods_supported")

    def check_suits(self, resources: Sequence[str], *, logs_in: bool) -> None:
        """Check that the server may be used for ``resources``, the names of one, if any.

        Raises UnsupportedError if users log in and the server does not announce PKCE with
        S256 (RFC 7636), and InvalidResponseError if it lists its resources and this is not one
        of them (RFC 9728 section 4).
        """
        if logs_in and not self.supports_pkce:
            raise UnsupportedError(
                "This server does not announce PKCE with S256 (code_challenge_methods_supported), "
                "without which a login could be stolen. Ask its operator to turn it on and to "
                f"publish that, then run: manage.py dcr_discover {clean(self.issuer)}",
            )
        listed = self.offered("protected_resources")
        if resources and listed and not {*resources} & {*listed}:
            raise InvalidResponseError(
                "The resource names this authorization server, which lists its resources "
                "(protected_resources), and this is none of them, so it is not used. Report it to "
                "the operators of both."
            )

    def endpoint(self, name: str) -> str:
        """Return the URL of an endpoint such as "token_endpoint", exactly as the server states it.

        Raises UnsupportedError if the server has none, InvalidResponseError if its URL is
        malformed, and NotAllowedError if it is on an origin that is not trusted.
        """
        return protocol.endpoint(
            self.metadata, name, issuer=self.issuer, trusted_origins=self.trusted_origins
        )

    def audience(self) -> str:
        """Return the ``aud`` of an assertion for this server's token endpoint (RFC 7523 section 3).

        Raises UnsupportedError if that is the endpoint's URL and the metadata has none.
        """
        if self.assertion_audience == "issuer":
            return self.issuer
        with errors_at(self.issuer, "login"):
            return self.endpoint("token_endpoint")

    def suffices(self, metadata: dict[str, Any]) -> bool:
        """Whether the document offers registration; if not, further places are worth a request."""
        return "registration_endpoint" in metadata

    def checked_metadata(self, document: dict[str, Any], url: str = "") -> dict[str, Any]:
        return protocol.check_server_metadata(document, issuer=self.issuer)

    def enter_metadata(self, document: dict[str, Any]) -> None:
        """Save a document that a person entered, for a server that publishes none.

        Raises InvalidResponseError if it is another issuer's.
        """
        self.metadata = self.checked_metadata(document)
        self.metadata_url, self.etag, self.last_error = "", "", ""
        self.fetched_at, self.fresh_until, self.metadata_by_hand = None, None, True
        self._save(*FETCHED, "metadata_by_hand")

    def refused(self, error: DCRError) -> bool:
        """Whether ``error`` proves that this server did not carry the request out."""
        return error.was_refused or (self.rejects_with_503 and error.status == 503)

    def reserve(self, within: float) -> float:
        """Reserve the next request by ``requests_per_minute``; return the seconds until then.

        Nothing is reserved if that is more than ``within`` seconds. All processes of the site use
        the same clock and column. Of those that read the same value only one writes the next; the
        others read it again, so that no lock is held.
        """
        rate = self.requests_per_minute
        if not rate or not self.pk:
            return 0.0
        burst = min(_BURST, rate)
        # No minute has more than ``rate`` requests, a burst at its beginning included.
        interval = timedelta(minutes=1) / (rate - burst + 1)
        alias = router.db_for_write(type(self), instance=self)
        row = type(self)._default_manager.using(alias).filter(pk=self.pk)
        while True:
            until, now = row.values_list("paced_until", DatabaseNow()).get()
            following = max(until or now, now)
            wait: float = (following - (burst - 1) * interval - now).total_seconds()
            if wait > within:
                return wait
            if row.filter(paced_until=until).update(paced_until=following + interval):
                return max(wait, 0.0)

    @property
    def is_held_back(self) -> bool:
        """Whether the last failure means that no other request to this server will succeed."""
        failure = self.failure
        return bool(
            failure and (failure["silent"] or not self.may_serve_stale) and self.failed_at()
        )

    def record_outage(self, error: DCRError, task: str) -> None:
        """Remember that the server did not answer, or said when to retry."""
        if not (self.failure and self.failure.get("distrusted")):
            self._note(self.failure_columns(error, task, silent=True))

    def clear_outage(self) -> None:
        """Clear what ``record_outage()`` stored, now that the server answers."""
        if self.failure and self.failure["task"] != "discover":
            self._note(NO_FAILURE)


COLUMNS = Columns(AuthorizationServer)
_SELECT = (
    f"SELECT {COLUMNS.sql} FROM {AuthorizationServer._meta.db_table} "  # noqa: S608
    "WHERE issuer_digest = %s"
)


def _check_mechanisms(mechanisms: object) -> None:
    names = mechanisms if isinstance(mechanisms, list) else [None]
    if not all(name in AUTOMATIC for name in names):
        raise ValidationError(
            {"mechanisms": _('Write a list of "metadata_document" and "dynamic", or none of them.')}
        )


def _check_discovery_url(url: str) -> None:
    try:
        is_allowed = not url or uris.parse(url).scheme == "https" or conf.is_internal(url)
    except ValueError:
        is_allowed = False
    if not is_allowed:
        raise ValidationError(
            {"discovery_url": _("Write the https URL of the server's metadata document.")}
        )

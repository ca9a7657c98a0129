"""The protected resources that this site uses, and their metadata (RFC 9728)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models, router
from django.utils.translation import gettext_lazy as _

from django_dcr import protocol, uris
from django_dcr.conf import conf
from django_dcr.exceptions import ConflictError, NotAllowedError, UnsupportedError
from django_dcr.fields import DigestField, digest
from django_dcr.models.authorizationserver import AuthorizationServer, check_issuer
from django_dcr.models.cacheddocument import CachedDocument, check_origins
from django_dcr.models.persistence import moment_after
from django_dcr.text import clean

#: At how many servers the site registers because of one resource, unless a person chooses more.
MAX_SERVERS = 5
_MAX_SHOWN = 3
# Databases limit the number of parameters of a query.
_MAX_LOOKED_UP = 100


class ProtectedResourceQuerySet(models.QuerySet["ProtectedResource"]):
    def stored(self, resource: str) -> ProtectedResource | None:
        """Return the row of ``resource``, from the database that is written to, or None.

        Raises NotAllowedError where the string is not a resource identifier (RFC 9728 section
        1.2).
        """
        check_resource(resource)
        rows = self.using(router.db_for_write(self.model))
        return rows.filter(resource_digest=digest(resource)).first()

    def for_resource(self, resource: str) -> ProtectedResource:
        """Find or create the row of ``resource``.

        Raises NotAllowedError where the string is not a resource identifier (RFC 9728 section
        1.2); then nothing is stored.
        """
        check_resource(resource)
        row, _created = self.get_or_create(
            resource_digest=digest(resource), defaults={"resource": resource}
        )
        return row


def check_resource(resource: str) -> None:
    """Raise NotAllowedError unless ``resource`` is well formed, and https or internal."""
    protocol.check_resource(resource, allow_http=conf.is_internal(resource))


if TYPE_CHECKING:
    _ProtectedResources = models.Manager["ProtectedResource"]

    class ProtectedResourceManager(ProtectedResourceQuerySet, _ProtectedResources):  # type: ignore[misc]
        """The type of ``objects``, for type checkers that do not know ``as_manager()``."""


class ProtectedResource(CachedDocument):
    """An API or MCP server, and the last good copy of its metadata: the row is the cache."""

    IDENTITY = "resource"

    resource = models.TextField(
        _("resource"), help_text=_("The address of the resource, exactly as its server writes it.")
    )
    resource_digest = DigestField(source="_resource_parts", unique=True)
    pinned_issuer = models.TextField(
        _("pinned server"),
        blank=True,
        default="",
        help_text=_(
            "The issuer to register at, where the resource names several servers; empty to take "
            "the only one that this site allows."
        ),
    )
    alias = models.TextField(
        _("alias"),
        blank=True,
        default="",
        help_text=_(
            "What the resource's document may name in place of the address above, such as its "
            "origin: an exception from RFC 9728, for servers that do so."
        ),
    )
    trusted_origins = models.JSONField(
        _("trusted origins"),
        default=list,
        blank=True,
        help_text=_(
            "Origins besides the resource's that its challenges may refer to for its metadata, "
            'such as ["https://api.example.com"].'
        ),
    )
    #: The issuers at which the site has registered, or tried to, because of this resource.
    known_issuers = models.JSONField(default=list, editable=False)

    objects: ClassVar[ProtectedResourceManager] = ProtectedResourceQuerySet.as_manager()  # type: ignore[assignment]

    #: The URL of the metadata that a challenge names, for the present call.
    challenged_url = ""
    #: The issuers that the resource named before, if the present call found others.
    named_before: list[str] | None = None
    #: Whether a person chose the server of the present call.
    is_chosen = False

    class Meta:
        verbose_name = _("protected resource")
        verbose_name_plural = _("protected resources")
        permissions = [("discover_protectedresource", "Can ask resources for their metadata")]

    def __str__(self) -> str:
        return uris.without_query(self.resource)

    @property
    def _shown(self) -> str:
        """The address for a command line; its query may contain a key."""
        return "URL" if "?" in self.resource else clean(self.resource, 120)

    def _resource_parts(self) -> tuple[str, ...]:
        return (self.resource,)

    def clean(self) -> None:
        faults: dict[str, Any] = {}
        try:
            check_resource(self.resource)
        except NotAllowedError as exc:
            raise ValidationError({"resource": str(exc)}) from exc
        others = type(self).objects.filter(resource_digest=digest(self.resource))
        if others.exclude(pk=self.pk).exists():
            faults["resource"] = _("This protected resource is already listed.")
        if self.alias and not protocol.may_be_alias(self.alias, self.resource):
            faults["alias"] = _("Write an address on the same origin of which this one is a part.")
        if self.pinned_issuer:
            try:
                check_issuer(self.pinned_issuer)
            except NotAllowedError as exc:
                faults["pinned_issuer"] = str(exc)
        if faults:
            raise ValidationError(faults)
        check_origins(self.trusted_origins)

    def _identifies(self, name: object) -> bool:
        return protocol.is_metadata_of(
            name, self.resource, place=self.metadata_url, alias=self.alias
        )

    @property
    def metadata_places(self) -> list[str]:
        """The URL that a challenge named, then the well-known ones (MCP authorization)."""
        places = protocol.resource_metadata_urls(self.resource)
        named = self.challenged_url or self.metadata_url
        return places if named in ("", *places) else [named, *places]

    def check_place(self, url: str) -> None:
        protocol.check_metadata_place(
            url, resource=self.resource, trusted_origins=self.trusted_origins
        )

    def checked_metadata(self, document: dict[str, Any], url: str = "") -> dict[str, Any]:
        # At a URL from a challenge only the exact resource is accepted (RFC 9728 section 3.3).
        place = "" if url == self.challenged_url else url
        return protocol.check_resource_metadata(
            document, resource=self.resource, place=place, alias=self.alias
        )

    def store(self, metadata: dict[str, Any], *, url: str, etag: str, lifetime: float) -> None:
        before = protocol.named_servers(self.metadata) if self.has_metadata else None
        super().store(metadata, url=url, etag=etag, lifetime=lifetime)
        if before is not None and {*before} != {*protocol.named_servers(metadata)}:
            self.named_before = before

    @property
    def indicator(self) -> str:
        """The ``resource`` parameter to send (RFC 8707): the identifier in the metadata."""
        return str(self.metadata["resource"]) if self.has_metadata else self.resource

    @property
    def servers(self) -> dict[str, str]:
        """The issuers that the resource names, each with why this site refuses it, or ""."""
        return {
            issuer: refusal or self._refusal_of_insider(issuer)
            for issuer, refusal in self._refusals().items()
        }

    @property
    def pinnable_issuers(self) -> list[str]:
        """The named issuers that a person may pin: also those inside the site's own network."""
        return [issuer for issuer, refusal in self._refusals().items() if not refusal]

    def _refusals(self) -> dict[str, str]:
        issuers = protocol.named_servers(self.metadata)
        disabled = set()
        if len(issuers) > 1:
            rows = AuthorizationServer.objects.filter(enabled=False)
            disabled = set(rows.values_list("issuer", flat=True))
        return {issuer: _refusal(issuer, disabled) for issuer in issuers}

    def _refusal_of_insider(self, issuer: str) -> str:
        """Keep an external resource from directing requests to internal hosts."""
        is_chosen = issuer == self.pinned_issuer or issuer in conf.DCR_ALLOWED_ISSUERS
        if is_chosen or not conf.is_internal(issuer) or conf.is_internal(self.resource):
            return ""
        return (
            f"The server {clean(issuer, 120)} is inside your network, and the resource is not. If "
            "that is right, choose it on the resource's page of the admin, or with: manage.py "
            f"dcr_discover --resource {self._shown} --pin ISSUER"
        )

    @property
    def known_servers(self) -> models.QuerySet[AuthorizationServer]:
        """The rows of the servers that the resource names, or at which the site has registered."""
        named = protocol.named_servers(self.metadata)[:_MAX_LOOKED_UP]
        known = [digest(issuer) for issuer in {*self.known_issuers, *named}]
        return AuthorizationServer.objects.filter(issuer_digest__in=known).order_by("pk")

    def choose_issuer(self, issuer: str = "") -> str:
        """Return the issuer of the server to register at: one that is named and allowed.

        That is ``issuer``, else the pinned one, else the only one. Raises UnsupportedError where
        none is named, NotAllowedError where none is allowed, ConflictError where a person has to
        choose or the chosen one is not named.
        """
        chosen = issuer or self.pinned_issuer
        self.is_chosen = bool(chosen)
        if chosen:
            return self._checked_choice(chosen)
        servers = self.servers
        allowed = [name for name, refusal in servers.items() if not refusal]
        if len(allowed) == 1:
            self._check_number(allowed[0])
            return allowed[0]
        if not servers:
            raise UnsupportedError(
                "This resource names no authorization server. Ask its operator for the issuer, "
                "and register with: manage.py dcr_register ISSUER"
            )
        if not allowed:
            more = f" And {len(servers) - 1} more." if len(servers) > 1 else ""
            raise NotAllowedError(
                "This resource names no authorization server that this site allows. "
                f"{clean(next(iter(servers.values())), 350)}{more}"
            )
        raise ConflictError(
            f"This resource names {len(allowed)} authorization servers: {_listed(allowed)}. "
            f"Choose one: on the resource's page of the admin, with manage.py dcr_discover "
            f"--resource {self._shown} --pin ISSUER, or by the argument issuer."
        )

    def _check_number(self, issuer: str) -> None:
        if issuer in self.known_issuers or len(self.known_issuers) < MAX_SERVERS:
            return
        raise ConflictError(
            f"This resource has led to {len(self.known_issuers)} authorization servers already, "
            f"and now names {clean(issuer, 120)}. If that is right, choose it with: manage.py "
            f"dcr_discover --resource {self._shown} --pin ISSUER"
        )

    def record_issuer(self, issuer: str) -> None:
        """Record that the site registers at this server, before anything is sent there.

        Raises ConflictError if that is one too many, unless a person has chosen it. Of the
        processes that read the same list only one adds to it; the others read it again, so that
        no server is lost.
        """
        self._read_known_issuers()
        while issuer not in self.known_issuers:
            if not self.is_chosen:
                self._check_number(issuer)
            if len(self.known_issuers) >= MAX_SERVERS:
                return
            self._add(issuer)

    def _read_known_issuers(self) -> None:
        alias = router.db_for_write(type(self))
        self.refresh_from_db(using=alias, fields=["known_issuers", "updated_at"])

    def _add(self, issuer: str) -> None:
        unchanged = self._stored().filter(updated_at=self.updated_at)
        issuers = [*self.known_issuers, issuer]
        now = moment_after(self.updated_at)
        if unchanged.update(known_issuers=issuers, updated_at=now):
            self.known_issuers, self.updated_at = issuers, now
        else:
            self._read_known_issuers()

    def _checked_choice(self, issuer: str) -> str:
        check_issuer(issuer)
        named = protocol.named_servers(self.metadata)
        if issuer in named:
            return issuer
        raise ConflictError(
            f"The chosen server {clean(issuer, 120)} is not among those that the resource names: "
            f"{_listed(named) or 'none'}. Choose another with: manage.py dcr_discover "
            f"--resource {self._shown} --pin ISSUER"
        )


def _refusal(issuer: str, disabled: set[str]) -> str:
    try:
        check_issuer(issuer)
    except NotAllowedError as exc:
        return str(exc)
    return f"The server {clean(issuer, 120)} is disabled." if issuer in disabled else ""


def _listed(issuers: list[str]) -> str:
    # The part before an @ may be a password.
    shown = ", ".join(clean(name.rpartition("@")[2], 60) for name in issuers[:_MAX_SHOWN])
    more = len(issuers) - _MAX_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown

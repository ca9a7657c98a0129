"""Rows that cache a document that somebody else publishes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_dcr import uris
from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, errors_at
from django_dcr.models.failures import NO_FAILURE, RememberingModel, fingerprint
from django_dcr.text import clean

# The settings on which the outcome of an exchange depends.
_SETTINGS = (
    "DCR_ALLOWED_ISSUERS",
    "DCR_BASE_URL",
    "DCR_CA_BUNDLE",
    "DCR_INTERNAL_ORIGINS",
    "DCR_MAX_RESPONSE_BYTES",
    "DCR_PREFER_KEYS",
    "DCR_PROXY",
    "DCR_TIMEOUT",
)


#: The columns that a fetched document changes.
FETCHED = ("metadata", "metadata_url", "etag", "fetched_at", "fresh_until", "last_error")


class CachedDocument(RememberingModel):
    """The row of a server that publishes a JSON document about itself: the row is the cache."""

    #: The column that identifies the server. The document's member that must have the same value,
    #: and the attribute of errors about it, have that name too.
    IDENTITY: ClassVar[str]
    #: The URLs without the document that the present call tried first, with the outcomes.
    attempts: tuple[tuple[str, str], ...] = ()

    metadata: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        _("metadata"), default=dict, blank=True, editable=False
    )
    metadata_url = models.TextField(_("metadata URL"), blank=True, editable=False)
    etag = models.TextField(blank=True, editable=False)
    fetched_at = models.DateTimeField(_("fetched"), null=True, editable=False)
    fresh_until = models.DateTimeField(_("fresh until"), null=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        abstract = True

    @property
    def identity(self) -> str:
        """The URL that identifies the server, compared byte by byte."""
        return str(getattr(self, self.IDENTITY))

    def errors(self) -> errors_at:
        """A context manager that names this server in the errors of its block."""
        known = {self.IDENTITY: self.identity}
        return errors_at(known.get("issuer", ""), "discover", resource=known.get("resource", ""))

    @property
    def metadata_places(self) -> list[str]:
        """The URLs at which the document may be, in the order to try them."""
        raise NotImplementedError  # pragma: no cover - each such model has its own

    def check_place(self, url: str) -> None:
        """Raise UnsupportedError if the document must not be requested from this URL."""

    def checked_metadata(self, document: dict[str, Any], url: str = "") -> dict[str, Any]:
        """Return what to store of the document, found at ``url`` or entered by a person.

        Raises InvalidResponseError if it is another server's.
        """
        raise NotImplementedError  # pragma: no cover - each such model has its own

    def suffices(self, _metadata: dict[str, Any]) -> bool:
        """Whether no other place has to be tried once this document is found."""
        return True

    @property
    def has_metadata(self) -> bool:
        """Whether ``metadata`` is this server's: its identity may have been edited since."""
        return self._identifies(self.metadata.get(self.IDENTITY))

    def _identifies(self, name: object) -> bool:
        return name == self.identity

    @property
    def is_fresh(self) -> bool:
        """Whether ``metadata`` can be used without another request for it."""
        return bool(self.has_metadata and self.fresh_until and timezone.now() < self.fresh_until)

    @property
    def may_serve_stale(self) -> bool:
        """Whether the cached document may be used although it is stale."""
        return self.has_metadata and not (self.failure and self.failure.get("distrusted"))

    def offered(self, name: str) -> list[str]:
        """The strings in a member of the metadata, such as "scopes_supported"."""
        value = self.metadata.get(name)
        return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []

    def store(self, metadata: dict[str, Any], *, url: str, etag: str, lifetime: float) -> None:
        """Save a checked document, fresh for ``lifetime`` seconds."""
        self.metadata, self.metadata_url, self.etag = metadata, url, etag
        self.fetched_at = timezone.now()
        self.fresh_until = self.fetched_at + timedelta(seconds=lifetime)
        self.last_error = ""
        self.failure, self.retry_at, self.may_retry = None, None, False
        self._save(*FETCHED, *NO_FAILURE)

    def conditions(self) -> str:
        """A digest of what the responses depend on: the columns that people edit, and settings."""
        columns = {
            field.attname: getattr(self, field.attname)
            for field in self._meta.concrete_fields
            if field.editable and not field.primary_key
        }
        return fingerprint(columns, [getattr(conf, name) for name in _SETTINGS])

    def fail(self, error: DCRError, *, silent: bool, distrusted: bool = False) -> None:
        """Record that the document could not be fetched.

        ``silent`` means that the server answers nothing at present, ``distrusted`` that the cached
        document must not be used either.
        """
        values = self.failure_columns(error, "discover", silent=silent, distrusted=distrusted)
        values = {"last_error": str(error), **(values or NO_FAILURE)}
        if distrusted:
            values["fresh_until"] = timezone.now()
        self._note(values)

    def _note(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.may_retry = False
        self._save(*values)

    def _save(self, *fields: str) -> None:
        self.save(update_fields=[*fields, "updated_at"] if self.pk else None)


def origin_of(url: object) -> str:
    """The origin of a URL, or "" for what is not a URL."""
    try:
        return uris.origin(url) if isinstance(url, str) else ""
    except ValueError:
        return ""


def check_origins(origins: object) -> None:
    """Raise ValidationError unless ``origins`` is a list of origins."""
    entries = origins if isinstance(origins, list) else [origins]
    wrong = [entry for entry in entries if entries is not origins or not _is_origin(entry)]
    if wrong:
        text = _(
            '%(entry)s is not an origin. Write a list of origins, such as ["https://example.com"].'
        )
        shown = [clean(json.dumps(entry, ensure_ascii=False), 100) for entry in wrong]
        errors = [ValidationError(text, params={"entry": entry}) for entry in shown]
        raise ValidationError({"trusted_origins": errors})


def _is_origin(entry: object) -> bool:
    return isinstance(entry, str) and origin_of(entry) == entry != ""

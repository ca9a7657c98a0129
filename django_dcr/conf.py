"""The settings, typed, read from Django's at each access so that ``override_settings`` works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings

from django_dcr import uris

_T = TypeVar("_T")


class Settings:
    """One property per setting, under its full name; the docstrings give units and defaults."""

    @property
    def DCR_ENCRYPTION_KEYS(self) -> Sequence[str]:
        """Fernet keys: the first encrypts, all decrypt. Required."""
        return _setting("DCR_ENCRYPTION_KEYS", ())

    @property
    def DCR_ALLOWED_ISSUERS(self) -> Sequence[str]:
        """Issuers that may be used, compared exactly; empty means any public https issuer."""
        return _setting("DCR_ALLOWED_ISSUERS", ())

    @property
    def DCR_INTERNAL_ORIGINS(self) -> Sequence[str]:
        """Origins that may be at non-public addresses; an ``http://`` one also without TLS."""
        return _setting("DCR_INTERNAL_ORIGINS", ())

    @property
    def DCR_CLIENT_METADATA(self) -> Mapping[str, Any]:
        """Client metadata sent with every registration, unless overridden nearer to it."""
        return _setting("DCR_CLIENT_METADATA", {})

    @property
    def DCR_PREFER_KEYS(self) -> bool:
        """Whether clients sign where the server and the site can, in place of secrets (False)."""
        return _setting("DCR_PREFER_KEYS", False)

    @property
    def DCR_AUTO_REGISTER(self) -> bool:
        """Whether ``get_or_register`` may register (default True)."""
        return _setting("DCR_AUTO_REGISTER", True)

    @property
    def DCR_METADATA_TTL(self) -> float:
        """The longest a discovery document counts as fresh, in seconds (default 3600)."""
        return _setting("DCR_METADATA_TTL", 3600.0)

    @property
    def DCR_METADATA_MIN_TTL(self) -> float:
        """How long it counts as fresh at least, whatever the server says (default 300 seconds)."""
        return _setting("DCR_METADATA_MIN_TTL", 300.0)

    @property
    def DCR_BACKOFF(self) -> float:
        """The first pause after a failure, in seconds (default 30); each next is twice as long."""
        return _setting("DCR_BACKOFF", 30.0)

    @property
    def DCR_TIMEOUT(self) -> float:
        """The longest one exchange with a server may take as a whole, in seconds (default 10)."""
        return _setting("DCR_TIMEOUT", 10.0)

    @property
    def DCR_MAX_RESPONSE_BYTES(self) -> int:
        """The largest answer that is read, in bytes after decoding (default 1 MiB)."""
        return _setting("DCR_MAX_RESPONSE_BYTES", 1024 * 1024)

    @property
    def DCR_CA_BUNDLE(self) -> str:
        """A PEM file of the authorities to trust; empty (the default) means certifi's."""
        return str(_setting("DCR_CA_BUNDLE", ""))

    @property
    def DCR_PROXY(self) -> str:
        """The URL of an egress proxy; empty (the default) means none."""
        return _setting("DCR_PROXY", "")

    @property
    def DCR_LEASE(self) -> float:
        """How long one process may hold a registration for itself, in seconds (default 60)."""
        return _setting("DCR_LEASE", 60.0)

    @property
    def DCR_RENEW_BEFORE(self) -> timedelta:
        """How long before its expiry a secret is renewed: a timedelta or seconds (7 days)."""
        value: timedelta | float = _setting("DCR_RENEW_BEFORE", timedelta(days=7))
        return value if isinstance(value, timedelta) else timedelta(seconds=value)

    @property
    def DCR_TASK_RUNNER(self) -> str:
        """What carries work in the background: "inline" (the default) means that nothing does."""
        return _setting("DCR_TASK_RUNNER", "inline")

    @property
    def DCR_BASE_URL(self) -> str:
        """The https origin where servers fetch this site's documents; empty (default) for none."""
        return _setting("DCR_BASE_URL", "")

    @property
    def DCR_MECHANISMS(self) -> Sequence[str]:
        """How new clients come about, the first that server and site both can."""
        return _setting("DCR_MECHANISMS", ("metadata_document", "dynamic"))

    def is_internal(self, url: uris.URL) -> bool:
        """Whether ``DCR_INTERNAL_ORIGINS`` lists the origin of ``url``."""
        return any(_covers(entry, url) for entry in self.DCR_INTERNAL_ORIGINS)


def _covers(entry: str, url: uris.URL) -> bool:
    try:
        allowed = uris.parse(entry)
    except ValueError:
        return False  # the system check dcr.E004 names it
    # An entry without a port allows every port; an http:// entry allows TLS as well.
    return (
        url.host == allowed.host
        and (not allowed.explicit_port or url.port == allowed.port)
        and (url.scheme == "https" or allowed.scheme == "http")
    )


def _setting(name: str, default: _T) -> _T:
    value: _T = getattr(settings, name, default)
    return value


conf = Settings()

"""The settings with their types and defaults, read at each access for ``override_settings``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings

from django_dcr import uris

_T = TypeVar("_T")


class Settings:
    """One property per setting, under its full name; docs/settings.md is generated from them."""

    @property
    def DCR_ENCRYPTION_KEYS(self) -> Sequence[str]:
        """A list of Fernet keys, required: the first encrypts, all of them decrypt."""
        return _setting("DCR_ENCRYPTION_KEYS", ())

    @property
    def DCR_ALLOWED_ISSUERS(self) -> Sequence[str]:
        """The only issuers that may be used, compared character by character.

        Empty means any public https issuer.
        """
        return _setting("DCR_ALLOWED_ISSUERS", ())

    @property
    def DCR_INTERNAL_ORIGINS(self) -> Sequence[str]:
        """Origins that may be at non-public addresses, or on other ports than 443, 8443 and 9443.

        An ``http://`` origin may also be reached without TLS. An origin without a port stands for
        every port.
        """
        return _setting("DCR_INTERNAL_ORIGINS", ())

    @property
    def DCR_CLIENT_METADATA(self) -> Mapping[str, Any]:
        """A dict of client metadata for every registration.

        The server's ``client_metadata`` and the registration's ``requested_metadata`` override it.
        """
        return _setting("DCR_CLIENT_METADATA", {})

    @property
    def DCR_PREFER_KEYS(self) -> bool:
        """Whether a client signs instead of having a secret, if server and site both support it.

        It applies to client metadata without a ``token_endpoint_auth_method``.
        """
        return _setting("DCR_PREFER_KEYS", False)

    @property
    def DCR_AUTO_REGISTER(self) -> bool:
        """Whether ``get_or_register()`` may register.

        If False, a missing registration raises NotAllowedError, which says how to register.
        """
        return _setting("DCR_AUTO_REGISTER", True)

    @property
    def DCR_METADATA_TTL(self) -> float:
        """The longest time for which a server's metadata is fresh, in seconds.

        The server's ``Cache-Control`` may shorten it.
        """
        return _setting("DCR_METADATA_TTL", 3600.0)

    @property
    def DCR_METADATA_MIN_TTL(self) -> float:
        """The shortest time for which a server's metadata is fresh, in seconds.

        It applies whatever the server says, up to ``DCR_METADATA_TTL``.
        """
        return _setting("DCR_METADATA_MIN_TTL", 300.0)

    @property
    def DCR_BACKOFF(self) -> float:
        """The first pause after a failure, in seconds, during which nothing retries automatically.

        Each further failure doubles the pause, up to an hour. With 0, only ``Retry-After`` causes
        pauses.
        """
        return _setting("DCR_BACKOFF", 30.0)

    @property
    def DCR_TIMEOUT(self) -> float:
        """The longest time for one exchange with a server, in seconds.

        It includes everything from resolving the host name to the last byte of the response.
        """
        return _setting("DCR_TIMEOUT", 10.0)

    @property
    def DCR_MAX_RESPONSE_BYTES(self) -> int:
        """The largest response that is read, in bytes after decoding."""
        return _setting("DCR_MAX_RESPONSE_BYTES", 1024 * 1024)

    @property
    def DCR_CA_BUNDLE(self) -> str:
        """A PEM file with the certificate authorities to trust; empty means certifi's."""
        return str(_setting("DCR_CA_BUNDLE", ""))

    @property
    def DCR_PROXY(self) -> str:
        """The ``http://`` URL of a proxy for all requests; empty means none.

        ``HTTP_PROXY`` and similar variables are ignored. The proxy resolves host names, so it must
        refuse internal addresses.
        """
        return _setting("DCR_PROXY", "")

    @property
    def DCR_LEASE(self) -> float:
        """How long one process may lease a registration, in seconds.

        Make it at least three times ``DCR_TIMEOUT``.
        """
        return _setting("DCR_LEASE", 60.0)

    @property
    def DCR_RENEW_BEFORE(self) -> timedelta:
        """How long before its expiry a secret is renewed: a timedelta, or a number of seconds."""
        value: timedelta | float = _setting("DCR_RENEW_BEFORE", timedelta(days=7))
        return value if isinstance(value, timedelta) else timedelta(seconds=value)

    @property
    def DCR_TASK_RUNNER(self) -> str:
        """The task queue for background work.

        One of ``"inline"`` (no queue), ``"django.tasks"``, ``"celery"``, or the dotted path of a
        function of the site.
        """
        return _setting("DCR_TASK_RUNNER", "inline")

    @property
    def DCR_BASE_URL(self) -> str:
        """The origin where servers fetch metadata documents and keys of the site's clients.

        For example ``"https://shop.example"``. If it is empty, there are no metadata documents, and
        keys are sent by value.
        """
        return _setting("DCR_BASE_URL", "")

    @property
    def DCR_MECHANISMS(self) -> Sequence[str]:
        """The mechanisms for new clients; the first that server and site both support is used."""
        return _setting("DCR_MECHANISMS", ("metadata_document", "dynamic"))

    def is_internal(self, url: uris.URL | str) -> bool:
        """Whether ``url`` is a URL whose origin ``DCR_INTERNAL_ORIGINS`` lists."""
        entries = self.DCR_INTERNAL_ORIGINS
        if not entries:
            return False
        try:
            parts = uris.parse(url) if isinstance(url, str) else url
        except ValueError:
            return False
        return any(_covers(entry, parts) for entry in entries)


def _covers(entry: str, url: uris.URL) -> bool:
    try:
        allowed = uris.parse(entry)
    except ValueError:
        return False  # the system check dcr.E004 reports it
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

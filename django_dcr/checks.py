"""System checks of the settings. The ID of a check is never reused for another.

::

    dcr.E001  DCR_ENCRYPTION_KEYS is missing or empty
    dcr.E002  a member of DCR_ENCRYPTION_KEYS is not a valid Fernet key
    dcr.E003  a setting has a wrong type, or is out of range
    dcr.E004  a member of DCR_INTERNAL_ORIGINS is not an origin
    dcr.E005  a member of DCR_ALLOWED_ISSUERS is not an issuer
    dcr.E006  DCR_CLIENT_METADATA has a member that must not be sent to any server
    dcr.E007  DCR_CA_BUNDLE holds no certificates, or cannot be read
    dcr.E008  DCR_PROXY is not an http:// URL
    dcr.E009  no key decrypts the stored secrets *
    dcr.E010  DCR_TASK_RUNNER is unknown, or its package is not installed
    dcr.E011  DCR_BASE_URL is not an https origin
    dcr.E101  a SecretField in a model of the site has a default
    dcr.W001  a DCR_ name is not a setting
    dcr.W002  DCR_LEASE is shorter than three times DCR_TIMEOUT
    dcr.W003  a MariaDB or MySQL table is not utf8mb4 *
    dcr.W004  DCR_BASE_URL is set, and the site's URLs do not include django_dcr.urls
    dcr.W005  DCR_PREFER_KEYS is on, and there is no client key *

* runs with ``migrate`` and ``check --database``, because it looks into the database.

The field's own dcr.E101 is in ``fields.py``. docs/checks.md is made of this list.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Callable, Iterable
from datetime import timedelta
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from django_dcr import protocol, tasks, uris
from django_dcr.conf import Settings, conf
from django_dcr.exceptions import DecryptionError, NotAllowedError
from django_dcr.fields import Secret, digest
from django_dcr.mechanisms import AUTOMATIC
from django_dcr.models import ClientKey, ClientRegistration, check_issuer
from django_dcr.text import clean

_NEW_KEY = (
    'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)
# An update sends two requests, and discovery may send one before them.
_EXCHANGES_PER_LEASE = 3


@register("django_dcr")
def check_keys_exist(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if getattr(settings, "DCR_ENCRYPTION_KEYS", None):
        return []
    return [
        Error(
            "DCR_ENCRYPTION_KEYS is missing or empty.",
            hint=f"Set it to a list of one key, and keep that key safe. This makes one: {_NEW_KEY}",
            id="dcr.E001",
        )
    ]


@register("django_dcr")
def check_keys(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    keys = getattr(settings, "DCR_ENCRYPTION_KEYS", None) or []
    hint = f"Every member of the list is a key as this makes one: {_NEW_KEY}"
    if not isinstance(keys, (list, tuple)):
        return [Error("DCR_ENCRYPTION_KEYS is not a list.", hint=hint, id="dcr.E002")]
    return [
        # The message must not contain the value, which may be a key with a typo.
        Error(f"DCR_ENCRYPTION_KEYS[{index}] is not a valid Fernet key.", hint=hint, id="dcr.E002")
        for index, key in enumerate(keys)
        if not _is_key(key)
    ]


def _is_key(key: Any) -> bool:
    # As cryptography takes it, which is not imported for this.
    try:
        return len(base64.urlsafe_b64decode(key)) == 32
    except (ValueError, TypeError):
        return False


def _is_number(value: Any) -> bool:
    # A bool is an int to isinstance(). With NaN, or above a billion, no deadline can be computed.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 10**9


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_duration(value: Any) -> bool:
    return _is_number(value.total_seconds() if isinstance(value, timedelta) else value)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(item, str) for item in value
    )


#: For each setting a test of its value, and what the error says that it must be.
TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "DCR_ALLOWED_ISSUERS": (_is_list_of_strings, "a list of issuers"),
    "DCR_AUTO_REGISTER": (lambda value: isinstance(value, bool), "True or False"),
    "DCR_BACKOFF": (_is_number, "a number of seconds, 0 or more"),
    "DCR_BASE_URL": (lambda value: isinstance(value, str), "an origin, or empty"),
    "DCR_CA_BUNDLE": (lambda value: isinstance(value, (str, os.PathLike)), "the path of a file"),
    "DCR_INTERNAL_ORIGINS": (_is_list_of_strings, "a list of origins"),
    "DCR_LEASE": (_is_positive, "a number of seconds above 0"),
    "DCR_MAX_RESPONSE_BYTES": (
        lambda value: isinstance(value, int) and _is_positive(value),
        "a whole number of bytes above 0",
    ),
    "DCR_METADATA_MIN_TTL": (_is_number, "a number of seconds, 0 or more"),
    "DCR_MECHANISMS": (
        lambda value: _is_list_of_strings(value) and set(value) <= {*AUTOMATIC},
        f"a list of {' and '.join(AUTOMATIC)}",
    ),
    "DCR_METADATA_TTL": (_is_number, "a number of seconds, 0 or more"),
    "DCR_PREFER_KEYS": (lambda value: isinstance(value, bool), "True or False"),
    "DCR_PROXY": (lambda value: isinstance(value, str), "a URL, or empty"),
    "DCR_RENEW_BEFORE": (_is_duration, "a timedelta or a number of seconds, 0 or more"),
    "DCR_TASK_RUNNER": (lambda value: isinstance(value, str), "a string"),
    "DCR_TIMEOUT": (_is_positive, "a number of seconds above 0"),
}


@register("django_dcr")
def check_types(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(f"{name} must be {wording}.", id="dcr.E003")
        for name, (_fits, wording) in TYPES.items()
        if not _is_well_typed(name)
    ]


def _is_well_typed(name: str) -> bool:
    fits, _wording = TYPES[name]
    return not hasattr(settings, name) or fits(getattr(settings, name))


@register("django_dcr")
def check_internal_origins(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not _is_well_typed("DCR_INTERNAL_ORIGINS"):
        return []
    return [
        Error(
            f'DCR_INTERNAL_ORIGINS has "{entry}", which is not an origin.',
            hint='Write scheme, host and, where it counts, port: "https://login.internal:8443".',
            id="dcr.E004",
        )
        for entry in conf.DCR_INTERNAL_ORIGINS
        if not _is_origin(entry)
    ]


def _is_origin(entry: str) -> bool:
    try:
        url = uris.parse(entry)
    except ValueError:
        return False
    return not url.path and url.query is None


@register("django_dcr")
def check_allowed_issuers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not (_is_well_typed("DCR_ALLOWED_ISSUERS") and _is_well_typed("DCR_INTERNAL_ORIGINS")):
        return []
    faults = map(_issuer_fault, conf.DCR_ALLOWED_ISSUERS)
    return [
        Error(f"DCR_ALLOWED_ISSUERS[{index}]: {fault}", id="dcr.E005")
        for index, fault in enumerate(faults)
        if fault
    ]


def _issuer_fault(issuer: str) -> str:
    try:
        check_issuer(issuer)
    except NotAllowedError as exc:
        return str(exc)
    return ""


@register("django_dcr")
def check_client_metadata(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        metadata = protocol.client_metadata(conf.DCR_CLIENT_METADATA)
        protocol.check_client_metadata(metadata, complete=False)
    except NotAllowedError as exc:
        return [Error(f"DCR_CLIENT_METADATA: {exc}", id="dcr.E006")]
    return []


@register("django_dcr")
def check_ca_bundle(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not _is_well_typed("DCR_CA_BUNDLE") or not conf.DCR_CA_BUNDLE:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(conf.DCR_CA_BUNDLE)
    except (OSError, ValueError):
        return [
            Error(
                f"DCR_CA_BUNDLE names {conf.DCR_CA_BUNDLE}, which holds no certificates or "
                "cannot be read.",
                hint="Name a PEM file of certificate authorities that this process may read.",
                id="dcr.E007",
            )
        ]
    return []


@register("django_dcr")
def check_proxy(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not _is_well_typed("DCR_PROXY") or not conf.DCR_PROXY or _is_http(conf.DCR_PROXY):
        return []
    # The message must not contain the URL, which may have a password in it.
    hint = 'Write "http://proxy.internal:3128".'
    return [Error("DCR_PROXY is not an http:// URL.", hint=hint, id="dcr.E008")]


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@register("django_dcr")
def check_base_url(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not _is_well_typed("DCR_BASE_URL") or not conf.DCR_BASE_URL or _is_public_base():
        return []
    return [
        Error(
            f"DCR_BASE_URL is not an https origin: {clean(conf.DCR_BASE_URL, 100)}.",
            hint='Write the origin alone, such as "https://shop.example".',
            id="dcr.E011",
        )
    ]


def _is_public_base() -> bool:
    try:
        base = uris.parse(conf.DCR_BASE_URL)
    except ValueError:
        return False
    # During development there may be no TLS; keys are then sent to servers by value.
    is_origin = conf.DCR_BASE_URL.removesuffix("/").lower() == base.origin
    return is_origin and (base.scheme == "https" or base.is_loopback)


@register(Tags.urls)
def check_urls(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not conf.DCR_BASE_URL:
        return []
    try:
        reverse("django_dcr:jwks")
    except NoReverseMatch:
        return [
            checks.Warning(
                "DCR_BASE_URL is set, and the URLs of this app are not among the site's.",
                hint='Add path("oauth/", include("django_dcr.urls")) to the urlpatterns.',
                id="dcr.W004",
            )
        ]
    return []


@register("django_dcr")
def check_task_runner(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not _is_well_typed("DCR_TASK_RUNNER"):
        return []
    try:
        tasks.runner()
    except ImproperlyConfigured as exc:
        package = _PACKAGES.get(conf.DCR_TASK_RUNNER)
        hint = f"Install it: pip install {package}" if package else _RUNNERS
        return [Error(str(exc), hint=hint, id="dcr.E010")]
    return []


_PACKAGES = {"celery": "celery", "django.tasks": "django-tasks"}
_RUNNERS = 'Set it to "inline", "django.tasks", "celery", or the dotted path of a function.'


@register("django_dcr")
def check_names(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    known = [name for name in dir(Settings) if name.startswith("DCR_")]
    unknown = {name for name in dir(settings) if name.startswith("DCR_")} - set(known)
    return [
        checks.Warning(
            f"{name} is not a setting of django-dcr, and does nothing.",
            hint=_advice(get_close_matches(name, known, n=1, cutoff=0.8)),
            id="dcr.W001",
        )
        for name in sorted(unknown)
    ]


def _advice(nearest: list[str]) -> str:
    return f"Did you mean {nearest[0]}?" if nearest else "Remove it, or check its spelling."


@register("django_dcr")
def check_lease(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not (_is_well_typed("DCR_LEASE") and _is_well_typed("DCR_TIMEOUT")):
        return []
    if conf.DCR_LEASE >= _EXCHANGES_PER_LEASE * conf.DCR_TIMEOUT:
        return []
    return [
        checks.Warning(
            "DCR_LEASE is shorter than three times DCR_TIMEOUT, so that the lease may expire "
            "during a slow update.",
            hint=f"Make it at least {_EXCHANGES_PER_LEASE * conf.DCR_TIMEOUT:g} seconds.",
            id="dcr.W002",
        )
    ]


@register(Tags.database)
def check_stored_secrets(
    app_configs: Any, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    return [
        Error(
            f"None of DCR_ENCRYPTION_KEYS opens the secrets stored in the database {alias}.",
            hint="Put the key they were encrypted with back into the list, before anything is "
            "written under another one.",
            id="dcr.E009",
        )
        for alias in databases or ()
        if _has_table(alias) and _is_locked_out(alias)
    ]


def _has_table(alias: str, model: Any = ClientRegistration) -> bool:
    return model._meta.db_table in connections[alias].introspection.table_names()


def _is_locked_out(alias: str) -> bool:
    """Whether no key decrypts any of the newest secrets; a single one may be damaged."""
    rows = ClientRegistration.objects.using(alias).filter(client_secret__isnull=False)
    newest: list[Any] = [
        row.client_secret for row in rows.only("client_secret").order_by("-pk")[:3]
    ]
    if _has_table(alias, ClientKey):
        keys = ClientKey.objects.using(alias).only("private_key").order_by("-pk")
        newest += [key.private_key for key in keys[:3]]
    return bool(newest) and not any(_opens(secret) for secret in newest)


def _opens(secret: Secret) -> bool:
    try:
        secret.reveal()
    except (DecryptionError, ImproperlyConfigured):
        return False
    return True


@register(Tags.database)
def check_signing_keys(
    app_configs: Any, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    return [
        checks.Warning(
            f"DCR_PREFER_KEYS is on, and no key in the database {alias} signs.",
            hint="Make one, and have this run daily: manage.py dcr_client_keys --rotate",
            id="dcr.W005",
        )
        for alias in databases or ()
        if conf.DCR_PREFER_KEYS and _has_table(alias, ClientKey) and not _signs(alias)
    ]


def _signs(alias: str) -> bool:
    now = timezone.now()
    rows = ClientKey.objects.using(alias).filter(owner_digest=digest(""))
    return rows.filter(signs_from__lte=now, signs_until__gt=now).exists()


@register(Tags.database)
def check_collation(
    app_configs: Any, databases: Iterable[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    return [
        checks.Warning(
            f"The tables in the database {alias} cannot hold every character.",
            hint="Convert them to utf8mb4; what a server issues may not fit otherwise.",
            id="dcr.W003",
        )
        for alias in databases or ()
        if _has_table(alias) and is_narrow(_collation(alias))
    ]


def _collation(alias: str) -> str:
    connection, table = connections[alias], ClientRegistration._meta.db_table
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, table)
    return next(str(column.collation or "") for column in columns if column.name == "client_id")


def is_narrow(collation: str) -> bool:
    """Whether the character set of a collation of MariaDB or MySQL lacks a part of Unicode."""
    # On other databases the collation does not name a character set, and all of Unicode fits.
    return collation.partition("_")[0] in ("utf8", "utf8mb3", "latin1", "ascii", "ucs2")

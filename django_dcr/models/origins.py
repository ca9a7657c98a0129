"""What the site and its operators allow of the URLs that others write."""

from __future__ import annotations

import json

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from django_dcr import uris
from django_dcr.conf import conf
from django_dcr.text import clean


def may_use_http(url: str) -> bool:
    """Whether the site allows a URL without TLS, by ``DCR_INTERNAL_ORIGINS``."""
    try:
        return conf.is_internal(uris.parse(url))
    except ValueError:
        return False


def origin_of(url: object) -> str:
    """The origin of a URL, "" for what is none."""
    try:
        return uris.origin(url) if isinstance(url, str) else ""
    except ValueError:
        return ""


def check_origins(origins: object) -> None:
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

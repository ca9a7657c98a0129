"""What several of the admin's pages show; all that a server wrote is cleaned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import display_for_value
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.models import AuthorizationServer
from django_dcr.text import clean

#: What is shown where there is nothing.
NOTHING = "-"
#: How many items of a list are shown; a row of an earlier release may have any number of them.
MAX_SHOWN = 100

# Colour is not all that tells the badges apart: each has words and, but for the quiet, a sign.
_SIGNS = {"good": "✓", "warn": "!", "bad": "✕"}


class CommonColumnsMixin:
    """Columns and fields that several of the models have."""

    @admin.display(description=_("owner"), ordering="owner")
    def whose(self, row: Any) -> str:
        return clean(row.owner, 80) or gettext("this site")

    @admin.display(description=_("last error"))
    def error(self, row: Any) -> str:
        return clean(row.last_error, 500) or NOTHING

    @admin.display(description=_("next attempt"))
    def next_attempt(self, row: Any) -> str:
        """When the site retries by itself what failed; a person may retry at any time."""
        return NOTHING if row.paused_until is None else until(row.paused_until)


def badge(text: str, tone: str = "quiet") -> str:
    """Return words with a sign and a background: "good", "warn", "bad" or "quiet"."""
    sign = _SIGNS.get(tone)
    if sign is None:
        return format_html('<span class="dcr-badge">{}</span>', text)
    return format_html(
        '<span class="dcr-badge dcr-{}"><span aria-hidden="true">{}</span> {}</span>',
        tone,
        sign,
        text,
    )


def stored(secret: object) -> str:
    """Return whether there is a secret. It is not decrypted, so a lost key breaks no page."""
    return gettext("none") if secret is None else gettext("stored, encrypted")


def until(moment: datetime) -> str:
    """Return a moment to come, with the time that is left."""
    values = {"at": display_for_value(moment, NOTHING), "time": timeuntil(moment, depth=1)}
    return gettext("%(at)s, in %(time)s") % values


def terms(server: AuthorizationServer) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's policy and terms, for whoever registers (RFC 8414 section 2).

    As text: a link that a server wrote may lead anywhere.
    """
    labels = {"op_policy_uri": gettext("Policy"), "op_tos_uri": gettext("Terms of service")}
    for name, label in labels.items():
        if server.metadata.get(name):
            yield label, lines(server.metadata[name])


def lines(value: Any) -> list[str]:
    """Return JSON as lines of text: each string of a list, or the whole value."""
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return first_lines(value, 200)
    return [clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 500)]


def first_lines(texts: list[str], limit: int) -> list[str]:
    """Return the first texts, cleaned, and a line with the number of the others."""
    shown = [clean(text, limit) for text in texts[:MAX_SHOWN]]
    return [*shown, *more(len(texts) - len(shown))]


def more(count: int) -> list[str]:
    """Return a line that says how many items are left out, if any."""
    return [gettext("and %(count)d more") % {"count": count}] if count > 0 else []

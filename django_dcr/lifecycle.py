"""The life of a registration: its statuses."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    DRAFT = "draft", _("draft")  # never sent
    REGISTERING = "registering", _("registering")  # intent committed, response awaited
    ACTIVE = "active", _("active")
    REJECTED = "rejected", _("rejected")  # the server said no
    UNKNOWN = "unknown", _("unknown")  # the server may hold a client that cannot be named
    REVOKING = "revoking", _("revoking")  # deletion committed, response awaited
    REVOKED = "revoked", _("revoked")  # credentials wiped
    GONE = "gone", _("gone")  # the server refuses the token or forgot the client

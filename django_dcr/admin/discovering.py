"""Rows of those who publish a document of themselves, in the admin."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import models, router, transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from django_dcr.admin import display
from django_dcr.admin.actions import ServiceAdminMixin
from django_dcr.models import CachedDocument
from django_dcr.text import clean


class DiscoveringAdminMixin(ServiceAdminMixin):
    """A row whose document is asked for when it is added, and by an action."""

    actions = ["discover"]
    #: What the messages say when that was done, and when the user may not do it.
    discovered: Any
    not_discovered: Any

    def ask(self, row: Any, *, refresh: bool = False) -> Any:
        """Return the row with its document, asked for again with ``refresh``."""
        raise NotImplementedError  # pragma: no cover - each such admin has its own

    def discover_after_commit(self, request: HttpRequest, row: Any) -> None:
        """Ask once the row is stored, for no transaction is held across HTTP."""
        using = router.db_for_write(self.model)
        transaction.on_commit(partial(self._discover_new, request, row), using=using)

    def _discover_new(self, request: HttpRequest, row: Any) -> None:
        if not self.has_discover_permission(request, row):
            self.hint_at(request, "discover", str(self.not_discovered))
            return
        outcome = self.attempt(request, row, "discover", self.ask, str(self.discovered))
        # A warning at most: the row itself was stored.
        self.message_user(request, outcome.render(500), min(outcome.level, messages.WARNING))

    def has_discover_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, obj, "discover")

    @admin.action(permissions=["discover"], description=_("Discover again"))
    def discover(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        ask_again = partial(self.ask, refresh=True)
        return self.perform(request, queryset, "discover", ask_again, str(self.discovered))

    @admin.display(description=_("last error"))
    def short_error(self, row: CachedDocument) -> str:
        return clean(row.last_error, 60) or display.NOTHING

    @admin.display(description=_("last error"))
    def error(self, row: CachedDocument) -> str:
        return clean(row.last_error, 500) or display.NOTHING

    @admin.display(description=_("next attempt"))
    def next_attempt(self, row: CachedDocument) -> str:
        return display.next_attempt(row)

    @admin.display(description=_("fresh until"))
    def freshness(self, row: CachedDocument) -> str:
        return display.freshness(row)

    def table(self, rows: list[tuple[str, list[str]]], caption: str, nothing: str) -> str:
        """Return labels with their values as a table."""
        context = {"rows": rows, "caption": caption, "nothing": nothing}
        return render_to_string("admin/django_dcr/offer.html", context)

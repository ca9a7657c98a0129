"""The admin of rows whose metadata document can be fetched: servers and resources."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import display_for_value
from django.db import models, router, transaction
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.admin.actions import ServiceAdminMixin, permission_method
from django_dcr.admin.display import NOTHING, until
from django_dcr.models import AuthorizationServer, CachedDocument
from django_dcr.text import clean


class DiscoveringAdminMixin(ServiceAdminMixin):
    """A row whose document is fetched when the row is added, and by an action."""

    actions = ["discover"]
    readonly_fields = [
        "metadata_url",
        "fetched_at",
        "freshness",
        "error",
        "next_attempt",
        "created_at",
        "updated_at",
    ]
    #: What the messages say when that was done, and when the user has no permission for it.
    discovered: Any
    not_discovered: Any
    has_discover_permission = permission_method("discover")

    def ask(self, row: Any, *, refresh: bool = False) -> Any:
        """Return the row with its document, fetched again with ``refresh``."""
        raise NotImplementedError  # pragma: no cover - each such admin has its own

    def discover_after_commit(self, request: HttpRequest, row: Any) -> None:
        """Fetch the document once the row is committed: no transaction is held across HTTP."""
        using = router.db_for_write(self.model)
        transaction.on_commit(partial(self._discover_new, request, row), using=using)

    def _discover_new(self, request: HttpRequest, row: Any) -> None:
        if not self.has_discover_permission(request, row):
            self.hint_at(request, "discover", str(self.not_discovered))
            return
        outcome = self.attempt(request, row, "discover", self.ask, str(self.discovered))
        # A warning at most: the row itself was stored.
        self.message_user(request, outcome.render(500), min(outcome.level, messages.WARNING))

    @admin.action(permissions=["discover"], description=_("Discover again"))
    def discover(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        ask_again = partial(self.ask, refresh=True)
        return self.perform(request, queryset, "discover", ask_again, str(self.discovered))

    @admin.display(description=_("last error"))
    def short_error(self, row: CachedDocument) -> str:
        return clean(row.last_error, 60) or NOTHING

    @admin.display(description=_("fresh until"))
    def freshness(self, row: CachedDocument) -> str:
        """Until when the metadata is used without fetching it again."""
        if isinstance(row, AuthorizationServer) and row.metadata_by_hand:
            return gettext("Entered by hand; never fetched from the server.")
        if row.fresh_until is None:
            return NOTHING
        if row.is_fresh:
            return until(row.fresh_until)
        at = display_for_value(row.fresh_until, NOTHING)
        return gettext("%(at)s: fetched again at the next use") % {"at": at}

    def table(self, rows: list[tuple[str, list[str]]], caption: str, nothing: str) -> str:
        """Return labels with their values as a table."""
        context = {"rows": rows, "caption": caption, "nothing": nothing}
        return render_to_string("admin/django_dcr/offer.html", context)

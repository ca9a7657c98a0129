"""The page of the admin that shows a client secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from django_dcr.admin.actions import CONFIRMED, ServiceAdminMixin, permission_method
from django_dcr.admin.forms import primary_key
from django_dcr.exceptions import DecryptionError
from django_dcr.lifecycle import EVENTS
from django_dcr.models import ClientRegistration, actor

_NOT_REVEALED = {
    True: _("There is no client secret to show."),
    False: _("Another process is at work on this row, and may change the secret. Try again."),
}


class RevealAdminMixin(ServiceAdminMixin):
    """Shows the client secret to users who may see it, once they confirm, and records that."""

    has_reveal_permission = permission_method("reveal")

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_reveal"
        view = self.admin_site.admin_view(self.reveal_view)
        return [path("<path:object_id>/reveal/", view, name=name), *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context["original"]
        if row and row.client_secret is not None and self.has_reveal_permission(request, row):
            context["reveal_url"] = self.url("reveal", quote(row.pk))
            context["reveal_label"] = str(EVENTS["reveal"])
        return super().render_change_form(request, context, *args, **kwargs)

    def question(self, request: HttpRequest, rows: Sequence[Any], name: str) -> HttpResponse:
        """Return the page that asks whether to carry out the action ``name``."""
        raise NotImplementedError  # pragma: no cover - the admin of the rows has its own

    # The event is committed before the secret is shown.
    @method_decorator(transaction.non_atomic_requests)
    def reveal_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for confirmation, then record that the client secret is shown, and show it."""
        row = self.get_queryset(request).filter(pk=primary_key(object_id)).first()
        if row is None:
            return HttpResponse(status=404)
        if not self.has_reveal_permission(request, row):
            raise PermissionDenied
        if request.method != "POST":  # the address was opened again
            return self.to_page(row)
        if CONFIRMED not in request.POST:
            return self.question(request, [row], "reveal")
        return self._revealed(request, row)

    @sensitive_variables()
    def _revealed(self, request: HttpRequest, row: ClientRegistration) -> HttpResponse:
        label = str(EVENTS["reveal"])
        with actor(request.user.get_username()):
            noted = row.note("reveal")
        if not noted or row.client_secret is None:
            self.message_user(request, _NOT_REVEALED[noted], messages.ERROR)
            return self.to_page(row)
        try:
            secret = row.client_secret.reveal()
        except DecryptionError as exc:
            self.log_failure(request, row, label, exc)
            self.message_user(request, str(exc), messages.ERROR)
            return self.to_page(row)
        self.log_change(request, row, gettext("%(action)s: done.") % {"action": label})
        back = self.url("change", quote(row.pk))
        shown = {"row": row, "original": row, "secret": secret}
        response = self.page(request, "secret", title=label, back=back, **shown)
        response["Cache-Control"] = "no-store"
        return response

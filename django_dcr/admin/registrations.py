"""Client registrations in the admin."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import display_for_value, quote
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr import services
from django_dcr.admin import wording
from django_dcr.admin.actions import FROM_PAGE, ServiceAdmin
from django_dcr.exceptions import NotAllowedError
from django_dcr.models import AuthorizationServer, ClientRegistration, Status
from django_dcr.text import clean

_TEMPLATES = "admin/django_dcr/clientregistration"
#: The form field of the confirmation page.
_CONFIRMED = "_confirmed"
_OFFERED = {
    Status.DRAFT: ["register"],
    Status.REGISTERING: [],
    Status.ACTIVE: ["read", "update", "renew", "revoke", "forget"],
    Status.REJECTED: ["register"],
    Status.UNKNOWN: ["revoke", "forget"],
    Status.REVOKING: ["read", "revoke", "forget"],
    Status.REVOKED: [],
    Status.GONE: ["forget"],
}
_NEEDS_ENDPOINT = {"read", "update", "revoke"}
#: No server holds a client of these: such rows may be deleted.
_DELETABLE = [Status.DRAFT, Status.REJECTED, Status.REVOKED]

_forget = partial(services.revoke, forget=True)


class ServerFilter(admin.SimpleListFilter):
    """By server, where a site has a few of them; the search finds the others."""

    title = _("authorization server")
    parameter_name = "server"
    max_choices = 30

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        servers = AuthorizationServer.objects.values_list("pk", "name", "issuer")
        for pk, name, issuer in servers.order_by("name", "issuer")[: self.max_choices]:
            yield str(pk), clean(name or issuer, 60)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value() or ""
        return queryset.filter(server=int(value)) if value.isdecimal() else queryset


class ExpiryFilter(admin.SimpleListFilter):
    """Active registrations by the time that their secret has left."""

    title = _("secret expires")
    parameter_name = "expires"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        yield "0", gettext("Has expired")
        yield "7", gettext("Within 7 days")
        yield "30", gettext("Within 30 days")

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        days = {"0": 0, "7": 7, "30": 30}.get(self.value() or "")
        if days is None:
            return queryset
        return queryset.expiring(datetime.now(tz=timezone.utc) + timedelta(days=days))


@admin.register(ClientRegistration)
class ClientRegistrationAdmin(ServiceAdmin):
    """A registration: what was asked and granted, its state, and the work at its server."""

    actions = ["register", "read", "update", "renew", "revoke", "forget"]
    autocomplete_fields = ["server"]
    list_display = ["issuer", "whose", "status", "short_client_id", "expiry", "drifted"]
    list_filter = ["status", ExpiryFilter, ServerFilter]
    list_select_related = ["server"]
    search_fields = ["owner", "server__issuer", "server__name", "client_id"]
    readonly_fields = [
        "state",
        "error",
        "terms",
        "comparison",
        "oddities",
        "shown_client_id",
        "secret",
        "expiry",
        "issued",
        "endpoint",
        "access_token",
        "created_at",
        "updated_at",
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["server", "owner", "requested_metadata"]})]
        credentials = ["shown_client_id", "secret", "expiry", "issued", "access_token", "endpoint"]
        return [
            (None, {"fields": ["server", "whose", "state", "error", "terms"]}),
            (_("Client metadata"), {"fields": ["requested_metadata", "comparison", "oddities"]}),
            (_("Credentials"), {"fields": credentials}),
            (_("This row"), {"fields": ["created_at", "updated_at"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # At another server, or another owner's, it would be another registration.
        return [*self.readonly_fields, "server", "whose"] if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        action = {Status.DRAFT: "register", Status.REJECTED: "register", Status.ACTIVE: "update"}
        if action.get(obj.status) and (form.changed_data or not change):
            hint = gettext("The server was not asked yet: press “%(action)s” for that.")
            label = self.label(action[obj.status])
            self.message_user(request, hint % {"action": label}, messages.INFO)

    # -- actions -------------------------------------------------------------------------------

    def offers(self, row: ClientRegistration) -> Iterable[str]:
        names = _OFFERED[Status(row.status)]
        return [name for name in names if row.is_manageable or name not in _NEEDS_ENDPOINT]

    def has_revoke_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may take a client from its server: who may delete rows may."""
        return self.has_delete_permission(request, obj)

    @admin.action(permissions=["change"], description=_("Register"))
    def register(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        done = gettext("Registered at the server.")
        return self.perform(request, queryset, "register", services.register, done)

    @admin.action(permissions=["change"], description=_("Read from the server"))
    def read(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        done = gettext("Read from the server.")
        return self.perform(request, queryset, "read", services.read, done)

    @admin.action(permissions=["change"], description=_("Update at the server"))
    def update(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        done = gettext("Updated at the server.")
        return self.perform(request, queryset, "update", services.update, done)

    @admin.action(permissions=["change"], description=_("Renew the secret"))
    def renew(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        done = gettext("The server issued a new secret.")
        return self.perform(request, queryset, "renew", services.renew, done)

    @admin.action(permissions=["revoke"], description=_("Revoke"))
    def revoke(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        if _CONFIRMED not in request.POST:
            return self._confirm(request, queryset, "revoke")
        done = gettext("Revoked: nothing is left at the server.")
        return self.perform(request, queryset, "revoke", services.revoke, done)

    @admin.action(permissions=["revoke"], description=_("Forget"))
    def forget(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        if _CONFIRMED not in request.POST:
            return self._confirm(request, queryset, "forget")
        done = gettext("Closed: nothing is left at the server.")
        return self.perform(request, queryset, "forget", _forget, done)

    def _confirm(
        self, request: HttpRequest, queryset: models.QuerySet[Any], name: str
    ) -> HttpResponse | None:
        """Say what would happen at which server, and ask."""
        rows = self.selected(request, queryset, name)
        if not rows:
            return None
        page = self.url("change", quote(rows[0].pk)) if FROM_PAGE in request.POST else ""
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": self.label(name),
            "opts": self.opts,
            "media": self.media,
            "action": name,
            "rows": [(row, wording.prospect(row, forget=name == "forget")) for row in rows],
            "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "markers": [_CONFIRMED, FROM_PAGE] if page else [_CONFIRMED],
            "back": page or request.get_full_path(),
        }
        return TemplateResponse(request, f"{_TEMPLATES}/confirmation.html", context)

    # -- deleting rows -------------------------------------------------------------------------

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Protect the rows whose client may exist at the server: nothing else knows of it."""
        deleted, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        for row in objs:
            if row.status not in _DELETABLE:
                page = self.url("change", quote(row.pk))
                reason = wording.protected(row)
                protected = [*protected, format_html('<a href="{}">{}</a>', page, reason)]
        return deleted, counts, forbidden, protected

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, ClientRegistration.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        # A row may have been registered after the page was shown.
        queryset.filter(status__in=_DELETABLE).delete()

    # -- what is shown -------------------------------------------------------------------------

    @admin.display(description=_("server"), ordering="server__issuer")
    def issuer(self, registration: ClientRegistration) -> str:
        return clean(registration.server.issuer, 80)

    @admin.display(description=_("owner"), ordering="owner")
    def whose(self, registration: ClientRegistration) -> str:
        return clean(registration.owner, 80) or gettext("this site")

    @admin.display(description=_("client ID"), ordering="client_id")
    def short_client_id(self, registration: ClientRegistration) -> str:
        return clean(registration.client_id, 12) or wording.NOTHING

    @admin.display(description=_("expires"), ordering="client_secret_expires_at")
    def expiry(self, registration: ClientRegistration) -> str:
        return wording.expiry(registration)

    @admin.display(description=_("drift"))
    def drifted(self, registration: ClientRegistration) -> str:
        if not registration.metadata:
            return wording.NOTHING
        try:
            return str(len(registration.drift))
        except NotAllowedError:
            return "?"  # what is asked is no client metadata; the row's page says why

    @admin.display(description=_("status"))
    def state(self, registration: ClientRegistration) -> str:
        return wording.state(registration)

    @admin.display(description=_("last error"))
    def error(self, registration: ClientRegistration) -> str:
        return clean(registration.last_error, 500) or wording.NOTHING

    @admin.display(description=_("server's terms"))
    def terms(self, registration: ClientRegistration) -> str:
        lines = [f"{label}: {' '.join(uri)}" for label, uri in wording.terms(registration.server)]
        return "\n".join(lines) or wording.NOTHING

    @admin.display(description=_("asked and granted"))
    def comparison(self, registration: ClientRegistration) -> str:
        try:
            members = wording.comparison(registration)
        except NotAllowedError as exc:
            return str(exc)
        return render_to_string(f"{_TEMPLATES}/comparison.html", {"members": members})

    @admin.display(description=_("oddities in answers"))
    def oddities(self, registration: ClientRegistration) -> str:
        lines = [clean(sentence, 300) for sentence in registration.deviations]
        return "\n".join(lines) or wording.NOTHING

    @admin.display(description=_("client ID"))
    def shown_client_id(self, registration: ClientRegistration) -> str:
        return clean(registration.client_id, 500) or wording.NOTHING

    @admin.display(description=_("client secret"))
    def secret(self, registration: ClientRegistration) -> str:
        return wording.stored(registration.client_secret)

    @admin.display(description=_("registration access token"))
    def access_token(self, registration: ClientRegistration) -> str:
        return wording.stored(registration.registration_access_token)

    @admin.display(description=_("issued"))
    def issued(self, registration: ClientRegistration) -> str:
        seconds = registration.client_id_issued_at
        at = None if seconds is None else datetime.fromtimestamp(seconds, tz=timezone.utc)
        return display_for_value(at, wording.NOTHING)

    @admin.display(description=_("client configuration endpoint"))
    def endpoint(self, registration: ClientRegistration) -> str:
        return clean(registration.registration_client_uri, 500) or wording.NOTHING

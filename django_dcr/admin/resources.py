"""Protected resources in the admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr import services
from django_dcr.admin.discovering import DiscoveringAdminMixin
from django_dcr.admin.display import NOTHING, first_lines
from django_dcr.admin.forms import OneErrorEach
from django_dcr.exceptions import DCRError
from django_dcr.models import AuthorizationServer, ProtectedResource
from django_dcr.text import clean


class ProtectedResourceForm(OneErrorEach):
    """Lets the user choose among the servers that the resource names and the site allows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "pinned_issuer" in self.fields:
            self.fields["pinned_issuer"].widget = forms.Select(choices=[*self._choices()])

    def _choices(self) -> Iterator[tuple[str, str]]:
        yield "", gettext("the only one that this site allows")
        resource = self.instance
        refusals, pinnable = resource.servers, resource.pinnable_issuers
        for issuer in pinnable:
            label = (
                gettext("%(issuer)s (inside your network)") if refusals[issuer] else "%(issuer)s"
            )
            yield issuer, label % {"issuer": clean(issuer, 200)}
        # A pin stays a choice where its server is refused, or saving would clear it.
        if resource.pinned_issuer not in ("", *pinnable):
            yield resource.pinned_issuer, clean(resource.pinned_issuer, 200)


class ProtectedResourceAdminMixin(DiscoveringAdminMixin):
    """A resource, what its metadata says, and which server was chosen for it."""

    form = ProtectedResourceForm
    list_display = ["shown_resource", "named", "pinned_issuer", "fetched_at", "short_error"]
    search_fields = ["resource"]
    readonly_fields = ["said", "tried", *DiscoveringAdminMixin.readonly_fields]
    discovered = _("Fetched the resource's metadata.")
    not_discovered = _("The resource's metadata was not fetched.")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["resource", "alias", "trusted_origins"]})]
        document = ["said"]
        document += ["metadata_url", "fetched_at", "freshness"] if obj.metadata else []
        document = ["next_attempt", *document] if obj.paused_until else document
        document = ["error", "tried", *document] if obj.last_error else document
        return [
            (None, {"fields": ["resource", "pinned_issuer", "alias", "trusted_origins"]}),
            (_("Metadata of the resource"), {"fields": document}),
            (_("This row"), {"fields": ["created_at", "updated_at"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Another address is another resource, of which nothing that is stored here holds.
        return [*self.readonly_fields, "resource"] if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            self.discover_after_commit(request, obj)

    def ask(self, row: Any, *, refresh: bool = False) -> Any:
        return services.discover_resource(row.resource, refresh=refresh)

    def links(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Link to the servers at which this resource had the site register."""
        servers = self.other_admin(AuthorizationServer)
        if servers is None or not servers.has_view_or_change_permission(request):
            return []
        return [
            (self.url("change", server.pk, model=AuthorizationServer), clean(server, 100))
            for server in row.known_servers
        ]

    def remark(self, row: Any) -> str:
        issuer, why_none = _choice(row)
        return "" if issuer else why_none

    @admin.display(description=_("resource"), ordering="resource")
    def shown_resource(self, resource: ProtectedResource) -> str:
        return clean(resource.resource, 100)

    @admin.display(description=_("servers"))
    def named(self, resource: ProtectedResource) -> str:
        first, *others = resource.offered("authorization_servers") or [NOTHING]
        shown = clean(first, 60)
        return f"{shown} +{len(others)}" if others else shown

    @admin.display(description=_("contents"))
    def said(self, resource: ProtectedResource) -> str:
        caption = gettext("Metadata of the resource")
        nothing = gettext("Not known yet: no metadata document of this resource was read.")
        return self.table(_said(resource) if resource.metadata else [], caption, nothing)

    @admin.display(description=_("tried without success"))
    def tried(self, resource: ProtectedResource) -> str:
        attempts = (resource.failure or {}).get("attempts", [])
        lines = ((clean(f"{url} {outcome}", 400),) for url, outcome in attempts)
        return format_html_join("", '<span class="dcr-value">{}</span>', lines) or NOTHING


def _choice(resource: ProtectedResource) -> tuple[str, str]:
    """Return the server to register at, or "" and why there is none, in an error's words."""
    try:
        issuer = resource.choose_issuer()
    except DCRError as exc:
        return "", str(exc)
    return issuer, clean(issuer, 200)


def _said(resource: ProtectedResource) -> list[tuple[str, list[str]]]:
    """Return what a resource says of itself, as labels with their values."""
    servers = [f"{name}: {why}" if why else name for name, why in resource.servers.items()]
    return [
        (gettext("Server to register at"), [_choice(resource)[1]]),
        (gettext("Servers that it names"), first_lines(servers, 400)),
        (gettext("Scopes"), first_lines(resource.offered("scopes_supported"), 200)),
        (gettext("Resource identifier"), [clean(resource.indicator, 200)]),
    ]


@admin.register(ProtectedResource)
class ProtectedResourceAdmin(ProtectedResourceAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Protected resources in Django's own admin."""

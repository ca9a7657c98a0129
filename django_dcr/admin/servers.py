"""Authorization servers in the admin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from django_dcr import services
from django_dcr.admin.actions import FROM_PAGE
from django_dcr.admin.discovering import DiscoveringAdminMixin
from django_dcr.admin.display import MAX_SHOWN, lines, more, stored, terms
from django_dcr.admin.forms import USE_ISSUER, AuthorizationServerForm, issuer_button
from django_dcr.exceptions import DCRError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.text import clean

_CLIENTS = ["client_metadata", "trusted_origins", "mechanisms", "shared"]
# What few servers need, folded away until it is in use.
_RARE = {
    _("Discovery"): ["discovery_url", "metadata_by_hand"],
    _("Client keys"): ["assertion_audience", "assertion_typ", "sends_jwks"],
    _("Compatibility"): [
        "send_client_secret",
        "rejects_with_503",
        "retry_unknown",
        "requests_per_minute",
        "require_pkce",
    ],
}

# RFC 8414 section 2, OpenID Connect Discovery section 3 and RP-Initiated Logout section 2.1.
_ENDPOINTS = {
    "authorization_endpoint",
    "end_session_endpoint",
    "introspection_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
}


def _is_customized(server: AuthorizationServer, columns: Iterable[str]) -> bool:
    """Whether one of the columns has another value than a new row's."""
    new = AuthorizationServer()
    return any(getattr(server, name) != getattr(new, name) for name in columns)


class AuthorizationServerAdminMixin(DiscoveringAdminMixin):
    """A server, what it offers, and what this site asks of it by default."""

    form = AuthorizationServerForm
    list_display = ["shown_issuer", "name", "enabled", "registers", "fetched_at", "short_error"]
    list_filter = ["enabled"]
    search_fields = ["issuer", "name"]
    readonly_fields = ["token", "offer", "registration", *DiscoveringAdminMixin.readonly_fields]
    discovered = _("Fetched the server's metadata.")
    not_discovered = _("The server's metadata was not fetched.")

    @method_decorator(sensitive_post_parameters("initial_access_token"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(request, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        may_change = obj is None or self.has_change_permission(request, obj)
        token = ["initial_access_token" if may_change else "token"]
        if may_change and obj is not None and obj.initial_access_token:
            token.append("remove_initial_access_token")
        sets = [
            (None, {"fields": ["issuer", "name", "enabled", *token]}),
            (_("Clients"), {"fields": _CLIENTS}),
        ]
        for title, columns in _RARE.items():
            own = ["entered_metadata"] if "metadata_by_hand" in columns and may_change else []
            classes = [] if obj is not None and _is_customized(obj, columns) else ["collapse"]
            sets.append((title, {"fields": [*columns, *own], "classes": classes}))
        if obj is None:
            return sets
        document = ["registration", "offer"]
        document += ["metadata_url", "fetched_at", "freshness"] if obj.metadata else []
        document = ["next_attempt", *document] if obj.paused_until else document
        document = ["error", *document] if obj.last_error else document
        return [
            *sets,
            (_("What the server offers"), {"fields": document}),
            (_("This row"), {"fields": ["created_at", "updated_at"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # With another issuer, what is stored of clients would be sent to another server.
        is_in_use = obj is not None and obj.registrations.exists()
        return [*self.readonly_fields, "issuer"] if is_in_use else self.readonly_fields

    def edited_columns(self, form: Any) -> set[str]:
        columns = super().edited_columns(form)
        return columns | form.instance.forget_metadata() if "issuer" in columns else columns

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        entered = form.cleaned_data.get("entered_metadata")
        if obj.metadata_by_hand and entered:
            obj.enter_metadata(entered)
        if change and "issuer" not in form.changed_data:
            return
        self.discover_after_commit(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        response = super().response_change(request, obj)
        return self.to_page(obj) if USE_ISSUER in request.POST else response

    def ask(self, row: Any, *, refresh: bool = False) -> Any:
        return services.discover(row, refresh=refresh)

    def remark(self, row: Any) -> str:
        return " ".join(obstacles(row))

    def remedy(self, request: HttpRequest, row: Any, error: DCRError) -> SafeString:
        """Offer the issuer that the server states, on the page where it can be changed."""
        is_on_page = FROM_PAGE in request.POST or not {"action", "_addanother"} & set(request.POST)
        is_fixed = "issuer" in self.get_readonly_fields(request, row)
        if not is_on_page or is_fixed or not self.has_change_permission(request, row):
            return SafeString()
        return issuer_button(error)

    def links(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Link to the registrations at this server, and to the forms for a new one."""
        registrations = self.other_admin(ClientRegistration)
        if registrations is None:
            return []
        views = {}
        if registrations.has_add_permission(request):
            views["add"] = gettext("Register a client here")
        may_adopt = getattr(registrations, "may_adopt", None)
        if may_adopt is not None and may_adopt(request):
            views["adopt"] = gettext("Enter a client from its console")
        if registrations.has_view_or_change_permission(request):
            views["changelist"] = gettext("Registrations here")
        urls = {view: self.url(view, model=ClientRegistration) for view in views}
        return [(f"{urls[view]}?server={row.pk}", label) for view, label in views.items()]

    @admin.display(description=_("issuer"), ordering="issuer")
    def shown_issuer(self, server: AuthorizationServer) -> str:
        return clean(server.issuer, 100)

    @admin.display(description=_("registers"), boolean=True)
    def registers(self, server: AuthorizationServer) -> bool | None:
        if not server.metadata:
            return None
        return server.takes_documents or "registration_endpoint" in server.metadata

    @admin.display(description=_("initial access token"))
    def token(self, server: AuthorizationServer) -> str:
        return stored(server.initial_access_token)

    @admin.display(description=_("registration"))
    def registration(self, server: AuthorizationServer) -> str:
        """Whether, and on what terms, the server registers clients."""
        if not server.metadata:
            return gettext("unknown")
        problems = " ".join(obstacles(server))
        if problems:
            return problems
        documents = gettext("It accepts metadata documents that sites serve.")
        if "registration_endpoint" not in server.metadata:
            return documents
        return f"{documents} {_openness(server)}" if server.takes_documents else _openness(server)

    @admin.display(description=_("offer"))
    def offer(self, server: AuthorizationServer) -> str:
        caption = gettext("What the server offers")
        nothing = gettext("Not known yet: no metadata document of this server was read.")
        return self.table(_offer(server), caption, nothing)


def obstacles(server: AuthorizationServer) -> Iterator[str]:
    """Yield what keeps this site from registering, or from logging in, at a server."""
    if "registration_endpoint" not in server.metadata and not server.takes_documents:
        yield gettext(
            "It offers no registration: its metadata has no registration endpoint. Ask its "
            "operator to enable registration."
        )
    origins = server.untrusted_origins
    if origins:
        text = gettext(
            "Some of its endpoints are on other origins, and are not used until “Trusted origins” "
            "lists these: %(origins)s."
        )
        yield text % {"origins": clean(json.dumps(origins[:MAX_SHOWN]), 500)}


def _openness(server: AuthorizationServer) -> str:
    if server.initial_access_token is not None:
        return gettext("Yes; the initial access token stored here is sent with the request.")
    return gettext(
        "Yes, apparently without an initial access token: a server that requires one says so only "
        "when a client is registered."
    )


def _offer(server: AuthorizationServer) -> list[tuple[str, list[str]]]:
    """Return what a server offers to clients, as labels with their values."""
    metadata = server.metadata
    if not metadata:
        return []
    methods = server.offered("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    grants = server.offered("grant_types_supported") or ["authorization_code", "implicit"]
    endpoints = [name for name in metadata if name.endswith("_endpoint")]
    # The ones that matter are shown however many others there are.
    endpoints.sort(key=lambda name: (name not in _ENDPOINTS, name))
    shown = sorted(endpoints[:MAX_SHOWN])
    further = more(len(endpoints) - len(shown))
    return [
        *((clean(name, 100), lines(metadata[name])) for name in shown),
        *([(gettext("Further endpoints"), further)] if further else []),
        # What is left out means this (RFC 8414 section 2).
        (gettext("Client authentication"), lines(methods)),
        (gettext("Grant types"), lines(grants)),
        (gettext("Response types"), lines(metadata.get("response_types_supported"))),
        (gettext("Scopes"), lines(metadata.get("scopes_supported"))),
        (gettext("PKCE with S256"), [gettext("yes") if server.supports_pkce else gettext("no")]),
        *terms(server),
    ]


@admin.register(AuthorizationServer)
class AuthorizationServerAdmin(AuthorizationServerAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Authorization servers in Django's own admin."""

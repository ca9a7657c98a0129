"""The lists of the admin: pages, filters and a search that are fast with any number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.admin.forms import primary_key
from django_dcr.conf import conf
from django_dcr.models import AuthorizationServer, ClientRegistration, owner_or_client_id_is
from django_dcr.text import clean

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:  # sites mix this into whatever admin they have
    _ModelAdmin, _Paginator = object, Paginator

_MAX_SERVERS = 100


class FirstPages(_Paginator):
    """Pages of the first rows: counting all of a large table takes longer than showing a page."""

    #: How many rows are counted at most.
    most = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        # Only keys are counted, so that no annotation is computed.
        counted: int = rows.order_by().values("pk")[: self.most].count()
        return counted


class ServerFilter(admin.SimpleListFilter):
    """By server, on a site that has a few of them; the search finds the others."""

    title = _("authorization server")
    parameter_name = "server"
    max_choices = 30

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        servers = AuthorizationServer.objects.values_list("pk", "name", "issuer")
        for pk, name, issuer in servers.order_by("name", "issuer")[: self.max_choices]:
            yield str(pk), clean(name or issuer, 60)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value() or ""
        return queryset.filter(server=primary_key(value)) if value.isdecimal() else queryset


class ExpiryFilter(admin.SimpleListFilter):
    """Active registrations by when their secret expires."""

    title = _("secret expires")
    parameter_name = "expires"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        yield "0", gettext("Has expired")
        yield "soon", gettext("Due for renewal")
        yield "30", gettext("Within 30 days")

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        now = datetime.now(tz=timezone.utc)
        expired = queryset.expiring(now)
        if self.value() == "0":
            return expired
        if self.value() == "soon":
            soon = queryset.expiring(now + conf.DCR_RENEW_BEFORE)
            return soon.exclude(pk__in=expired.values("pk"))
        if self.value() == "30":
            return queryset.expiring(now + timedelta(days=30))
        return queryset


class RegistrationListMixin(_ModelAdmin):
    """Sorting and searching: any column and any substring on a small site, indexes on a large one.

    On a large table everything else reads every row, which takes seconds.
    """

    list_filter = ["status", "mechanism", ExpiryFilter, "has_drift", ServerFilter]
    search_fields = ["owner", "server__issuer", "server__name", "client_id"]
    search_help_text = _(
        "A part of a server's issuer or name, of an owner or of a client ID. Beyond 10,000 "
        "registrations, the whole owner or client ID."
    )

    def get_ordering(self, request: HttpRequest) -> Any:
        if ExpiryFilter.parameter_name in request.GET:
            return ["client_secret_expires_at", "pk"]  # the most urgent first, as in the index
        return super().get_ordering(request)

    def get_sortable_by(self, request: HttpRequest) -> Any:
        return ["number"] if _are_many() else super().get_sortable_by(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term and _are_many():
            return queryset.filter(_is_called(term)), False
        return super().get_search_results(request, queryset, search_term)


def _are_many() -> bool:
    keys = ClientRegistration.objects.order_by("pk").values("pk")
    return keys[FirstPages.most :][:1].exists()


def _is_called(term: str) -> Q:
    named = Q(issuer__icontains=term) | Q(name__icontains=term)
    servers = AuthorizationServer.objects.filter(named).order_by("pk").values_list("pk", flat=True)
    return owner_or_client_id_is(term) | Q(server__in=list(servers[:_MAX_SERVERS]))

"""Finding registrations in the admin, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_dcr.admin.actions import FirstPages
from django_dcr.admin.filters import ExpiryFilter
from django_dcr.models import AuthorizationServer, ClientRegistration, is_named

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:  # sites mix this into whatever admin they have
    _ModelAdmin = object

_MAX_SERVERS = 100


class SearchAdminMixin(_ModelAdmin):
    """Search for parts of texts on a small site, and by indexes on a large one.

    Parts of texts are found by looking at every row, for which a large table takes seconds.
    """

    search_fields = ["owner", "server__issuer", "server__name", "client_id"]
    search_help_text = _(
        "A part of a server's issuer or name, or an owner or client ID: a part of it, and the "
        "whole of it where there are more than 10,000 registrations."
    )

    def get_ordering(self, request: HttpRequest) -> Any:
        if ExpiryFilter.parameter_name in request.GET:
            return ["client_secret_expires_at", "pk"]  # what is most urgent first, as in the index
        return super().get_ordering(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term and _are_many():
            return queryset.filter(_known_by(term)), False
        return super().get_search_results(request, queryset, search_term)


def _are_many() -> bool:
    keys = ClientRegistration.objects.order_by("pk").values("pk")
    return keys[FirstPages.most :][:1].exists()


def _known_by(term: str) -> Q:
    named = Q(issuer__icontains=term) | Q(name__icontains=term)
    servers = AuthorizationServer.objects.filter(named).order_by("pk").values_list("pk", flat=True)
    return is_named(term) | Q(server__in=list(servers[:_MAX_SERVERS]))

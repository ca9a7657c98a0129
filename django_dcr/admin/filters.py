"""What the list of registrations can be narrowed down to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_dcr.admin.forms import primary_key
from django_dcr.conf import conf
from django_dcr.models import AuthorizationServer
from django_dcr.text import clean


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
        return queryset.filter(server=primary_key(value)) if value.isdecimal() else queryset


class ExpiryFilter(admin.SimpleListFilter):
    """Active registrations by the time that their secret has left."""

    title = _("secret expires")
    parameter_name = "expires"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        yield "0", gettext("Has expired")
        yield "soon", gettext("Is to be renewed")
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

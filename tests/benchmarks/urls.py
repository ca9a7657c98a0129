from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls)]
if apps.is_installed("django_dcr"):
    from tests.benchmarks.bare import bare_document
    from tests.benchmarks.models import Bare

    class BareAdmin(admin.ModelAdmin):
        list_display = ["server", "owner", "status", "client_secret_expires_at", "has_drift"]
        list_select_related = ["server"]

    admin.site.register(Bare, BareAdmin)
    urlpatterns += [
        path("oauth/", include("django_dcr.urls")),
        path("bare.json", bare_document),
    ]

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tests.benchmarks.models import Bare


class BareAdmin(admin.ModelAdmin):
    list_display = ["server", "owner", "status", "client_secret_expires_at", "has_drift"]
    list_select_related = ["server"]


admin.site.register(Bare, BareAdmin)
urlpatterns = [path("admin/", admin.site.urls)]

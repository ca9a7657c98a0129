from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DcrConfig(AppConfig):
    name = "django_dcr"
    verbose_name = _("OAuth client registration")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_dcr import checks  # noqa: F401

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _


class DcrConfig(AppConfig):
    name = "django_dcr"
    verbose_name = _("OAuth client registration")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_dcr import checks, tasks  # noqa: F401

        # Celery's workers know only imported tasks. A wrong setting is reported by the checks.
        with suppress(ImproperlyConfigured):
            tasks.runner()

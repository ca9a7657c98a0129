from __future__ import annotations

from django.apps import AppConfig


class AllauthConfig(AppConfig):
    name = "django_dcr.contrib.allauth"
    label = "django_dcr_allauth"  # the last part of the name is allauth's own label

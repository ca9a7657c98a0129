from __future__ import annotations

from django.apps import AppConfig


class PrometheusConfig(AppConfig):
    name = "django_dcr.contrib.prometheus"
    label = "django_dcr_prometheus"

    def ready(self) -> None:
        from prometheus_client import REGISTRY

        from django_dcr.contrib.prometheus import metrics

        metrics.register(REGISTRY)

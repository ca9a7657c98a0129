"""Metrics for Prometheus (the extra ``prometheus``), as an app for ``INSTALLED_APPS``.

It registers with prometheus_client's default registry, which the site exposes as it does its own.
"""

"""What authorization servers fetch from this site: ``path("oauth/", include("django_dcr.urls"))``.

DCR_BASE_URL says under which origin.
"""

from __future__ import annotations

from django.urls import path

from django_dcr import views

app_name = "django_dcr"
urlpatterns = [
    path("clients/<slug:slug>", views.client_document, name="client-document"),
    path("jwks.json", views.jwks, name="jwks"),
    path("jwks/<slug:owner>.json", views.jwks, name="owner-jwks"),
]

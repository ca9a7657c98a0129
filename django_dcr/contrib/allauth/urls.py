from __future__ import annotations

from django.urls import path

from django_dcr.contrib.allauth import views

urlpatterns = [
    path("dcr/<slug:provider_id>/login/", views.login, name="dcr_login"),
    path("dcr/<slug:provider_id>/login/callback/", views.callback, name="dcr_callback"),
]

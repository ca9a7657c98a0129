"""A site that logs people in with django-allauth."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import include, path


def profile(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"user": request.user.get_username()})


urlpatterns = [
    path("accounts/profile/", profile),
    path("accounts/", include("allauth.urls")),
    path("oauth/", include("django_dcr.urls")),
]

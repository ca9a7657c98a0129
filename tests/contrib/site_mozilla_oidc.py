"""A site that logs people in with mozilla-django-oidc."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from django_dcr.contrib.mozilla_oidc import AuthenticationCallbackView, AuthenticationRequestView


class TenantsRequestView(AuthenticationRequestView):
    """As a site has it that gives each of its customers a server."""

    def get_login(self, request: HttpRequest) -> tuple[str, str]:
        return request.GET["issuer"], "customer-42"


def profile(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"user": request.user.get_username()})


urlpatterns = [
    path("profile/", profile),
    path("oidc/authenticate/", AuthenticationRequestView.as_view()),
    path("oidc/tenants/", TenantsRequestView.as_view()),
    path(
        "oidc/callback/", AuthenticationCallbackView.as_view(), name="oidc_authentication_callback"
    ),
    path("oauth/", include("django_dcr.urls")),
]

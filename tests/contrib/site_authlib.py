"""A site that logs people in with Authlib."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path

from django_dcr.contrib.authlib import OAuth

# One for the life of the process: what it kept of a client would outlive a renewal.
oauth = OAuth()


def log_in(request: HttpRequest) -> HttpResponse:
    client = oauth.create_client(request.GET["issuer"], request.GET["owner"])
    return client.authorize_redirect(request, request.GET["callback"])


def callback(request: HttpRequest) -> HttpResponse:
    client = oauth.answered_client(request)
    token = client.authorize_access_token(request)
    return JsonResponse(client.userinfo(token=token))


def wrong_callback(request: HttpRequest, issuer: str) -> HttpResponse:
    """What a site does that does not look which login is answered."""
    return JsonResponse(oauth.create_client(issuer).authorize_access_token(request))


urlpatterns = [
    path("login", log_in),
    path("callback", callback),
    path("callback/<path:issuer>", wrong_callback),
    path("oauth/", include("django_dcr.urls")),
]

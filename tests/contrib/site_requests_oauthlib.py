"""A site that logs people in with requests-oauthlib."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path

from django_dcr.contrib.requests_oauthlib import OAuth2Session, answered_session
from django_dcr.services import for_login


def log_in(request: HttpRequest) -> HttpResponse:
    registration = for_login(request.GET["issuer"], request.GET["owner"])
    session = OAuth2Session(registration, redirect_uri=request.GET["callback"])
    return session.authorize_redirect(request)


def callback(request: HttpRequest) -> HttpResponse:
    session = answered_session(request)
    session.authorize_access_token(request)
    return JsonResponse(session.get(userinfo_endpoint(session)).json())


def userinfo_endpoint(session: OAuth2Session) -> str:
    return str(session.registration.server.metadata["userinfo_endpoint"])


def wrong_callback(request: HttpRequest, issuer: str) -> HttpResponse:
    """What a site does that does not look which login is answered."""
    return JsonResponse(OAuth2Session(for_login(issuer)).authorize_access_token(request))


urlpatterns = [
    path("login", log_in),
    path("callback", callback),
    path("callback/<path:issuer>", wrong_callback),
    path("oauth/", include("django_dcr.urls")),
]

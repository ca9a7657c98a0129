"""Each tenant of the site brings an authorization server of its own."""

from __future__ import annotations

from authlib.common.errors import AuthlibBaseError
from django.contrib.auth import get_user_model, login
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from joserfc.errors import JoseError
from requests import RequestException

from django_dcr.contrib.authlib import OAuth
from django_dcr.exceptions import DCRError

#: The issuer of each tenant, which a real site has in its database.
TENANTS = {"acme": "https://login.test", "globex": "https://sso.test/realms/globex"}
CALLBACK = "https://shop.test/callback"
FAILURES = (AuthlibBaseError, DCRError, JoseError, RequestException)

oauth = OAuth()


@transaction.non_atomic_requests
def log_in(request: HttpRequest, tenant: str) -> HttpResponse:
    try:
        client = oauth.create_client(TENANTS[tenant], tenant)
        answer: HttpResponse = client.authorize_redirect(request, CALLBACK, scope="openid email")
    except FAILURES:
        return HttpResponse("Your company's login is not available at present.", status=503)
    return answer


@transaction.non_atomic_requests
def callback(request: HttpRequest) -> HttpResponse:
    try:
        client = oauth.answered_client(request)
        claims = client.authorize_access_token(request)["userinfo"]
    except FAILURES:
        return HttpResponse("You are not logged in.", status=403)
    name = f"{client.registration.owner}/{claims['sub']}"
    user, _created = get_user_model().objects.get_or_create(username=name)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse(f"Hello, {claims['email']}.")


urlpatterns = [
    path("login/<slug:tenant>/", log_in),
    path("callback", callback),
    path("oauth/", include("django_dcr.urls")),
]

"""The client's pages: choose a server, log in there, and see the result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from authlib.common.errors import AuthlibBaseError
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST
from joserfc.errors import JoseError
from requests import RequestException

from django_dcr.conf import conf
from django_dcr.contrib.authlib import OAuth, RegisteredApp
from django_dcr.exceptions import DCRError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.text import clean

oauth = OAuth()

#: The session's key for who has logged in. Django's own users are those of the server here.
PERSON = "person"
#: Texts for error codes of RFC 6749 section 4.1.2.1 and of Authlib.
_REASONS = {
    "access_denied": "You said no at the server.",
    "mismatching_state": (
        "This answer belongs to no login of this browser, or to one that has ended. Log in again."
    ),
}
FAILURES = (DCRError, AuthlibBaseError, JoseError, RequestException)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    registrations = ClientRegistration.objects.filter(owner="").live().select_related("server")
    known = {registration.server.issuer: registration for registration in registrations}
    servers = [{"issuer": issuer, "registration": known.get(issuer)} for issuer in offered(request)]
    context = {"servers": servers, "person": request.session.get(PERSON), "issuer": own(request)}
    return render(request, "example/home.html", context)


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    issuer = request.POST.get("issuer", "")
    if issuer not in offered(request):
        raise Http404("This is not one of the listed servers.")
    try:
        client = oauth.create_client(issuer)  # registers where there is no client yet
        callback = request.build_absolute_uri(reverse("callback"))
        answer: HttpResponse = client.authorize_redirect(request, callback, scope=scope(client))
    except FAILURES as failure:
        return failed(request, failure)
    return answer


@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    try:
        client = oauth.answered_client(request)
        token = client.authorize_access_token(request)
        profile = token.get("userinfo") or userinfo(client, token)
    except FAILURES as failure:
        return failed(request, failure)
    request.session.cycle_key()  # against session fixation
    request.session[PERSON] = {
        "name": profile.get("name") or profile.get("sub") or "someone",
        "issuer": client.registration.server.issuer,
        "client_id": client.registration.client_id,
    }
    return redirect("home")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    request.session.pop(PERSON, None)
    return redirect("home")


def own(request: HttpRequest) -> str:
    """Return the issuer identifier of the server that this site is, too."""
    return request.build_absolute_uri("/o")


def offered(request: HttpRequest) -> list[str]:
    """Return the issuers to log in at: the site's own, and those that an admin has added."""
    listed: Iterable[str] = AuthorizationServer.objects.filter(enabled=True).values_list(
        "issuer", flat=True
    )
    allowed = conf.DCR_ALLOWED_ISSUERS
    issuers = dict.fromkeys([own(request), *allowed, *listed])
    return [issuer for issuer in issuers if not allowed or issuer in allowed]


def scope(client: RegisteredApp) -> str | None:
    """Return those scopes of the server that identify a user."""
    scopes = client.registration.server.offered("scopes_supported")
    return " ".join(name for name in ("openid", "profile") if name in scopes) or None


def userinfo(client: RegisteredApp, token: dict[str, Any]) -> dict[str, Any]:
    return client.userinfo(token=token) if "userinfo_endpoint" in client.server_metadata else {}


def failed(request: HttpRequest, failure: Exception) -> HttpResponse:
    code = getattr(failure, "error", "")
    reason = _REASONS.get(code) or clean(failure, 500).rstrip(": ")
    messages.error(request, f"Not logged in. {reason}")
    return redirect("home")

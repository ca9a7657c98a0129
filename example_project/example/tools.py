"""The page "Connect a tool server": from its address to a client, a token, and a tool's answer."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

import requests
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from django_dcr import services
from django_dcr.exceptions import DCRError
from django_dcr.text import clean
from example import grants
from example.mcp_client import AuthorizationNeededError, ToolError, ToolServer
from example.models import Connection

# Keys of Django's session: who this browser is, and the logins that it has begun, by ``state``.
OWNER, BEGUN = "tools_owner", "tools_begun"
_MAX_BEGUN = 5
FAILURES = (DCRError, ToolError, grants.GrantError, requests.RequestException)
_REASONS = {"access_denied": "You said no at the server."}


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    # Where ``manage.py run`` has started one.
    offered = os.environ.get("TOOL_SERVER_URL", "")
    return render(request, "example/tools.html", {"connections": own(request), "offered": offered})


@require_POST
def connect(request: HttpRequest) -> HttpResponse:
    """Send a request without a token: the tool server's challenge says who issues one."""
    url = request.POST.get("url", "").strip()
    try:
        ToolServer(url).connect()
    except AuthorizationNeededError as needed:
        return authorize(request, url, needed.challenge)
    except FAILURES as failure:
        return failed(request, failure)
    messages.info(request, "This tool server requires no token, so there is nothing to connect.")
    return redirect("tools")


def authorize(
    request: HttpRequest, url: str, challenge: str, requested: Sequence[str] = ()
) -> HttpResponse:
    """Send the user to the server that issues tokens for this tool server."""
    callback = request.build_absolute_uri(reverse("tools-callback"))
    try:
        place, attempt = grants.begin_for(url, challenge, callback, requested=requested)
    except FAILURES as failure:
        return failed(request, failure)
    begun = list(request.session.get(BEGUN, {}).items())[1 - _MAX_BEGUN :]
    request.session[BEGUN] = {**dict(begun), attempt["state"]: {**attempt, "url": url}}
    return redirect(place)


@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    begun = request.session.get(BEGUN, {})
    attempt = begun.pop(request.GET.get("state"), None)
    request.session[BEGUN] = begun  # a response is used once
    if attempt is None:
        messages.error(request, "Not connected. This answer belongs to nothing that you began.")
        return redirect("tools")
    try:
        token = grants.finish(attempt, request.GET.dict())
    except FAILURES as failure:
        return failed(request, failure)
    if OWNER not in request.session:
        request.session[OWNER] = secrets.token_urlsafe()
    connection = own(request).filter(url=attempt["url"]).first()
    if connection is None:
        connection = Connection(owner=request.session[OWNER], url=attempt["url"])
    else:
        revoke(request, connection)  # the previous tokens, which would otherwise stay valid
    connection.issuer, connection.resource = attempt["issuer"], attempt["resource"]
    connection.token, connection.requested = token, attempt["requested"]
    connection.save()
    return redirect("tools-connection", connection.pk)


@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    return shown(request, get_object_or_404(own(request), pk=pk))


@require_POST
def call(request: HttpRequest, pk: int) -> HttpResponse:
    connection = get_object_or_404(own(request), pk=pk)
    tool = request.POST.get("tool", "")
    text = request.POST.get("text")
    return shown(request, connection, tool, {} if text is None else {"text": text})


def shown(
    request: HttpRequest,
    connection: Connection,
    tool: str = "",
    arguments: dict[str, str] | None = None,
) -> HttpResponse:
    """Show the tools of a connected server; call one, and show its answer."""
    try:
        server = ToolServer(connection.url, fresh_token(connection))
        server.connect()
        tools = server.tools()
        answer = server.call(tool, arguments or {}) if tool else ""
    except AuthorizationNeededError as needed:
        # Otherwise the token is not valid any more, and its scopes are not added to.
        requested = connection.requested if needed.is_step_up else []
        return authorize(request, connection.url, needed.challenge, requested)
    except FAILURES as failure:
        return failed(request, failure, "That did not work.")
    if tool:
        connection.requested = connection.requested[-1:]
        connection.save(update_fields=["requested"])
    context = {"connection": connection, "tools": tools, "called": tool, "answer": answer}
    return render(request, "example/tool_server.html", context)


@require_POST
def disconnect(request: HttpRequest, pk: int) -> HttpResponse:
    """Revoke the tokens at the server that issued them, and delete them."""
    connection = get_object_or_404(own(request), pk=pk)
    revoke(request, connection)
    connection.delete()
    messages.info(request, f"Disconnected from {connection.url}.")
    return redirect("tools")


def revoke(request: HttpRequest, connection: Connection) -> None:
    try:
        grants.revoke(services.for_login(connection.issuer), connection.token)
    except FAILURES as failure:
        reason = clean(failure, 500)
        messages.warning(request, f"The tokens could not be revoked at the server. {reason}")


def own(request: HttpRequest) -> QuerySet[Connection]:
    return Connection.objects.filter(owner=request.session.get(OWNER, "")).order_by("pk")


def fresh_token(connection: Connection) -> str:
    """Return the access token, refreshed where it is about to expire."""
    token = connection.token
    if connection.is_due and token.refresh_token:
        registration = services.for_login(connection.issuer)
        connection.token = token = grants.refresh(registration, token, resource=connection.resource)
        connection.save()
    return token.access_token


def failed(
    request: HttpRequest, failure: Exception, outcome: str = "Not connected."
) -> HttpResponse:
    reason = _REASONS.get(str(failure)) or clean(failure, 500)
    messages.error(request, f"{outcome} {reason}")
    return redirect("tools")

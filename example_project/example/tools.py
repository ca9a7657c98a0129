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

# In Django's session: who this browser is, and what it has begun, by ``state``.
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
    """Ask the tool server without a token: its challenge says who issues one."""
    url = request.POST.get("url", "").strip()
    try:
        ToolServer(url).connect()
    except AuthorizationNeededError as needed:
        return authorize(request, url, needed.challenge)
    except FAILURES as failure:
        return failed(request, failure)
    messages.info(request, "This tool server wants no token, so there is nothing to connect.")
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
    request.session[BEGUN] = begun  # an answer is used once
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
        revoke(request, connection)  # else the tokens so far would live on, without use
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
    """Show the tools of a connected server, and the answer of one where it is called."""
    try:
        server = ToolServer(connection.url, fresh_token(connection))
        server.connect()
        tools = server.tools()
        answer = server.call(tool, arguments or {}) if tool else ""
    except AuthorizationNeededError as needed:
        # Without an error the token is no good any more, and there is nothing to add to.
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
    """Have the tokens revoked where they were issued, and forget them."""
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
        messages.warning(request, f"The server could not be told to revoke the tokens. {reason}")


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

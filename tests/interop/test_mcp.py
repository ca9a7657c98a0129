"""From a tool server's address to a tool call, at servers of the MCP Python SDK.

The client is that of the example site, on this app's services; beside it is the SDK's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from django_dcr import services, signals
from django_dcr.models import AuthorizationServer, ClientRegistration
from example_project.example import grants
from example_project.example.mcp_client import AuthorizationNeededError, ToolServer
from example_project.https_site import HttpsSite
from tests.interop import mcp_sdk
from tests.interop.mcp_sdk import Tools
from tests.interop.server import CALLBACK, NAME

if TYPE_CHECKING:
    from pytest_django import Settings

#: What a registration by the SDK's client sends in addition.
STATED_BY_THE_SDK = {"application_type", "response_types", "scope"}

pytestmark = [pytest.mark.network, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _site(database_file: Path, https_site: HttpsSite, settings: Settings) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1", https_site.origin]
    settings.DCR_BASE_URL = https_site.origin
    settings.DCR_CA_BUNDLE = str(https_site.certificate)
    settings.DCR_CLIENT_METADATA = {
        "client_name": NAME,
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
    }


@pytest.fixture
def tools(request: pytest.FixtureRequest, tmp_path: Path, https_site: HttpsSite) -> Iterator[Tools]:
    variant = getattr(request, "param", "registration")
    with mcp_sdk.serve_tools(variant, tmp_path, https_site.certificate) as tools:
        yield tools


def set_client_metadata(tools: Tools, **metadata: str) -> None:
    """Set the server's default client metadata, as an operator would."""
    server = AuthorizationServer.objects.for_issuer(tools.issuer)
    server.client_metadata = metadata
    server.save()


def needed(server: ToolServer) -> AuthorizationNeededError:
    with pytest.raises(AuthorizationNeededError) as caught:
        server.connect()
    return caught.value


def consented(
    url: str, challenge: str, requested: list[str] | None = None
) -> tuple[dict[str, Any], grants.Token]:
    """Run the login flow once; these servers consent without asking."""
    place, attempt = grants.begin_for(url, challenge, CALLBACK, requested=requested or [])
    answer = requests.get(place, allow_redirects=False, timeout=30)
    query = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    return attempt, grants.finish(attempt, query)


def call(url: str, token: grants.Token) -> str:
    server = ToolServer(url, token.access_token)
    server.connect()
    assert [tool["name"] for tool in server.tools()] == ["double"]
    return server.call("double", {"number": 21})


@pytest.mark.parametrize("tools", ["registration", "documents"], indirect=True)
def test_a_tool_is_called_at_a_server_known_only_by_its_address(tools: Tools) -> None:
    _attempt, token = consented(tools.url, needed(ToolServer(tools.url)).challenge)
    assert call(tools.url, token) == "42"
    client = ClientRegistration.objects.get()
    issued = tools.token(token.access_token)
    assert issued["client_id"] == client.client_id
    assert (issued["resource"], issued["scopes"]) == (tools.url, ["read"])


@pytest.mark.parametrize("tools", ["no default scopes"], indirect=True)
def test_a_server_may_require_registered_scopes(tools: Tools) -> None:
    """As docs/servers.md says of servers without the SDK's option ``default_scopes``."""
    challenge = needed(ToolServer(tools.url)).challenge
    with pytest.raises(grants.GrantError, match="invalid_scope"):
        consented(tools.url, challenge)
    set_client_metadata(tools, scope="read")
    services.replace(ClientRegistration.objects.get())
    _attempt, token = consented(tools.url, challenge)
    assert call(tools.url, token) == "42"


@pytest.mark.parametrize("tools", ["registration", "documents"], indirect=True)
def test_a_tool_that_needs_more_is_called_after_a_step_up(tools: Tools) -> None:
    """R-188: the SDK's challenge names no scope, so the metadata is fetched again."""
    attempt, token = consented(tools.url, needed(ToolServer(tools.url)).challenge)
    tools.say(scopes_supported=["read", "write"])
    more = needed(ToolServer(tools.url, token.access_token))
    assert more.is_step_up
    attempt, token = consented(tools.url, more.challenge, attempt["requested"])
    assert call(tools.url, token) == "42"
    assert tools.token(token.access_token)["scopes"] == ["read", "write"]
    assert ClientRegistration.objects.count() == 1


def test_a_tool_server_that_changes_its_server_gets_another_client_there(
    tools: Tools, tmp_path: Path, https_site: HttpsSite
) -> None:
    """R-148: nothing of the old client is used again, and it is not deleted."""
    heard: list[list[str]] = []

    def hear(resource: Any, before: list[str], **_signal: Any) -> None:
        heard.append(before)

    _attempt, first = consented(tools.url, needed(ToolServer(tools.url)).challenge)
    with mcp_sdk.serve_tools("registration", tmp_path, https_site.certificate) as other:
        tools.say(authorization_servers=[other.issuer])
        signals.servers_changed.connect(hear)
        challenge = needed(ToolServer(tools.url)).challenge
        _attempt, second = consented(tools.url, challenge)
        signals.servers_changed.disconnect(hear)
        assert call(tools.url, second) == "42"
        known = other.token(second.access_token)
        asked = other.asked()
    old, new = ClientRegistration.objects.order_by("pk")
    assert (old.server.issuer, old.status) == (tools.issuer, "active")
    assert (new.server.issuer, new.status) == (other.issuer, "active")
    assert (known["client_id"], known["resource"]) == (new.client_id, tools.url)
    assert heard == [[tools.issuer]]
    assert old.client_id not in str(asked)
    assert first.access_token not in str(asked)


@pytest.mark.parametrize("tools", ["registration", "documents"], indirect=True)
def test_the_requests_are_those_of_the_sdks_own_client(tools: Tools) -> None:
    """Except for the differences that docs/mcp.md lists."""
    if not tools.takes_documents:
        set_client_metadata(tools, token_endpoint_auth_method="client_secret_post")
    _attempt, token = consented(tools.url, needed(ToolServer(tools.url)).challenge)
    assert call(tools.url, token) == "42"
    ours = authorization(tools.asked())
    client = ClientRegistration.objects.get()
    document = [client.client_id] if tools.takes_documents else []
    assert mcp_sdk.own_client(tools.url, CALLBACK, *document) == "42"
    theirs = authorization(tools.asked())
    if tools.takes_documents:
        del ours["GET /.well-known/openid-configuration"]
    else:
        assert theirs["POST /register"] - ours["POST /register"] == STATED_BY_THE_SDK
        theirs["POST /register"] -= STATED_BY_THE_SDK
    assert list(ours.items()) == list(theirs.items())


def authorization(asked: list[dict[str, Any]]) -> dict[str, set[str]]:
    """The requests but those of MCP, in their order: the names of the parameters, and the scheme
    of the Authorization header where there is one.
    """
    others = [each for each in asked if each["path"] != "/mcp"]
    requests = {
        f"{each['method']} {each['path']}": {*each["parameters"], each["authorization"]} - {""}
        for each in others
    }
    assert len(requests) == len(others), "one was sent twice"
    return requests

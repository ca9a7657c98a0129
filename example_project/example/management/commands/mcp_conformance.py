from __future__ import annotations

import json
import os
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import requests
from django.core.management import BaseCommand, CommandError
from django.utils import timezone
from joserfc.jwk import ECKey

from django_dcr import services
from django_dcr.conf import conf
from django_dcr.exceptions import DCRError, UnsupportedError
from django_dcr.models import AuthorizationServer, ClientKey, ClientRegistration
from django_dcr.transport import harden_session
from example import grants
from example.mcp_client import AuthorizationNeededError, ToolError, ToolServer

FAILURES = (DCRError, ToolError, grants.GrantError, requests.RequestException)

Answer = TypeVar("Answer")


class Command(BaseCommand):
    help = (
        "Connect to a tool server, list its tools and call each, as the scenarios of "
        "@modelcontextprotocol/conformance want it. The user says yes to everything."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url")
        parser.add_argument("--document", help="a client metadata document published elsewhere")

    def handle(self, *, url: str, document: str | None, **options: Any) -> None:
        self.url, self.server, self.requested = url, ToolServer(url), list[str]()
        # The client that the suite has registered before, where it has.
        self.known = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
        if document:
            self.known = {"client_id": document}
        try:
            self.permitted(lambda: self.server.connect())
            for tool in self.permitted(lambda: self.server.tools()):
                self.stdout.write(self.permitted(partial(self.call, tool["name"])))
        except FAILURES as exc:
            raise CommandError(str(exc)) from exc

    def call(self, tool: str) -> str:
        return self.server.call(tool, {})

    def permitted(self, ask: Callable[[], Answer]) -> Answer:
        """Ask, and where a token is wanted get one and ask again; ``scopes_for`` sets the bound."""
        while True:
            try:
                return ask()
            except AuthorizationNeededError as needed:
                token = self.token(needed)
            self.server = ToolServer(self.url, token.access_token)
            self.server.connect()

    def token(self, needed: AuthorizationNeededError) -> grants.Token:
        if self.known:  # the suite registered it, so that is not done here
            resource = services.discover_resource(self.url, challenge=needed.challenge)
            adopted = self.adopted(resource.choose_issuer())
            if "authorization_code" not in adopted.server.offered("grant_types_supported"):
                return grants.client_credentials(adopted, resource=resource.indicator, scope="")
        requested = self.requested if needed.is_step_up else []
        try:
            place, attempt = grants.begin_for(
                self.url, needed.challenge, self.callback(), requested=requested
            )
        except UnsupportedError as exc:
            if exc.issuer:  # the resource has named a server
                raise
            place, attempt = self.of_2025_03_26()
        self.requested = attempt.get("requested", [])
        # The user goes where they are sent, says yes, and comes back.
        answer = requests.get(place, allow_redirects=False, timeout=conf.DCR_TIMEOUT)
        query = urlsplit(answer.headers["Location"]).query
        return grants.finish(attempt, dict(parse_qsl(query)))

    def callback(self) -> str:
        return str(conf.DCR_CLIENT_METADATA["redirect_uris"][0])

    def adopted(self, issuer: str) -> ClientRegistration:
        """Store the client that the suite has registered; it authenticates by secret or by key."""
        metadata: dict[str, Any] = {}
        if pem := self.known.get("private_key_pem"):
            key, algorithm = ECKey.import_key(pem), self.known["signing_algorithm"]
            metadata = {
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": algorithm,
                "jwks": {"keys": [key.as_dict(private=False)]},
            }
            tomorrow = timezone.now() + timedelta(days=1)
            ClientKey.objects.create(
                kid=key.thumbprint(),
                algorithm=algorithm,
                private_key=json.dumps(key.as_dict(private=True)),
                public_key=key.as_dict(private=False),
                signs_from=timezone.now(),
                signs_until=tomorrow,
                published_until=tomorrow,
            )
        adopted = services.adopt(
            issuer,
            client_id=self.known["client_id"],
            client_secret=self.known.get("client_secret"),
            metadata=metadata,
        )
        self.known = {}
        services.discover(adopted.server)
        return adopted

    def of_2025_03_26(self) -> tuple[str, dict[str, Any]]:
        """Begin where a tool server of that revision does: at its own origin.

        Its metadata is at the origin's well-known place, whatever the path of its issuer; where
        there is none, the endpoints are where that revision says.
        """
        parts = urlsplit(self.url)
        origin = f"{parts.scheme}://{parts.netloc}"
        place = f"{origin}/.well-known/oauth-authorization-server"
        found = harden_session(requests.Session(), origin).get(place)
        if found.ok:
            server = AuthorizationServer.objects.for_issuer(found.json()["issuer"])
            if not server.shares_origin(origin):
                raise UnsupportedError("The tool server's origin publishes another's metadata.")
            server.discovery_url = place
            server.save()
        else:
            server = AuthorizationServer.objects.for_issuer(origin)
            server.enter_metadata(
                {
                    "issuer": origin,
                    "authorization_endpoint": f"{origin}/authorize",
                    "token_endpoint": f"{origin}/token",
                    "registration_endpoint": f"{origin}/register",
                    "code_challenge_methods_supported": ["S256"],
                }
            )
        client = services.for_login(server.issuer)
        return grants.begin(client, self.callback(), resource=self.url, scope="")

"""idpyoidc's registration, with two Fernet values of each client stored in SQLite."""

from __future__ import annotations

import sys
from collections.abc import Callable

from answering import WISHES, Store, answer
from idpyoidc.client.oauth2.stand_alone_client import StandAloneClient

server, folder = sys.argv[1:]
store = Store(f"{folder}/idpyoidc.sqlite3")
CONFIGURATION = {
    "base_url": "https://site.example",
    "client_type": "oidc",
    "issuer": server,
    "redirect_uris": WISHES["redirect_uris"],
    "client_name": WISHES["client_name"],
    "preference": {
        "response_types_supported": WISHES["response_types"],
        "grant_types_supported": WISHES["grant_types"],
    },
    "services": {
        name: {"class": f"idpyoidc.client.oidc.{name}"}
        for name in (
            "provider_info_discovery.ProviderInfoDiscovery",
            "registration.Registration",
            "authorization.Authorization",
            "access_token.AccessToken",
        )
    },
}
client = StandAloneClient(config=CONFIGURATION)
client.do_provider_info()


def _register() -> None:
    issued = client.do_request("registration", request_args=WISHES)
    token = issued["registration_access_token"]
    store.insert(issued["client_id"], issued["client_secret"], token, issued.to_json())


def register(count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            _register()

    return run


answer({"register": register})

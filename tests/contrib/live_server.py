"""django-oauth-toolkit in a process of its own, with OpenID Connect, and a user who consents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import requests
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.contrib.openid_server import signing_key
from tests.live.server import DOCUMENTS, Server, make_tables, require, serve

TOKEN = "token-of-a-user"
#: By the method that is asked for, the one that is granted: it tells one secret from none only.
GRANTED = {
    "client_secret_basic": "client_secret_basic",
    "client_secret_post": "client_secret_basic",
    "none": "none",
}


@contextmanager
def serve_openid(folder: Path, certificate: Path) -> Iterator[Server]:
    """Serve what anyone may register at, from a database in ``folder``.

    It takes metadata documents, too, of whoever has the ``certificate``.
    """
    require()
    pem = signing_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    options = {
        **DOCUMENTS,
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": pem.decode(),
        "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        "OAUTH2_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": [*GRANTED],
        "OIDC_TOKEN_ENDPOINT_AUTH_METHODS_SUPPORTED": [*GRANTED],
        "SCOPES": {"openid": "Who you are"},
    }
    file = folder / "server.sqlite3"
    make_tables(file)
    permission = "AllowAllDCRPermission"
    with serve(file, permission=permission, options=options, certificate=certificate) as server:
        server.admit(TOKEN)
        yield server


def consent(server: Server, url: str) -> str:
    """Ask for the consent form, and send it; return where that leads."""
    # It has no template for the page, but fetches the document of a client that has one.
    user = {"Authorization": f"Bearer {TOKEN}"}
    requests.get(url, headers=user, timeout=600)
    # The server gives a client that has registered itself no key for its ID tokens.
    server.sql("UPDATE oauth2_provider_application SET algorithm = 'RS256'")
    place = urlsplit(url)
    answer = requests.post(
        place._replace(query="").geturl(),
        data={**dict(parse_qsl(place.query)), "allow": "Authorize"},
        headers=user,
        allow_redirects=False,
        timeout=600,
    )
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]

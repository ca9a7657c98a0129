"""Three ways to a client: the real commands against the real server of this site.

Serves the example site on free ports, with and without TLS, over a temporary database, runs each
command in a process of its own and checks the result in the server's own tables.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import https_site
from demo_site import RequestHandler, check, manage, output, rows, run, say, serve, step
from django.contrib.auth.hashers import check_password
from django.core.wsgi import get_wsgi_application
from django.db import connection


def three_ways(folder: Path) -> None:
    with serve() as issuer, serve_documents(folder):
        registered(issuer)
        documented(issuer)
        entered_by_hand(issuer, folder / "secret.txt")


def registered(issuer: str) -> None:
    say("\nThe first way: this site registers itself, and manages its client there.")
    step("1. Find out what the server offers (RFC 8414)")
    manage("dcr_discover", issuer)
    check("the server knows no client yet", not clients())

    step("2. Register this site there as a client (RFC 7591)")
    name = "client_name=Demo shop"
    manage("dcr_register", issuer, "--mechanism", "dynamic", "--set", name)
    check("the server has one client, called Demo shop", names() == ["Demo shop"])
    secret = revealed_secret()
    check("the secret kept here is the one it issued", fits(secret))
    # Not read from the file: closing it here would drop this process's locks on it
    # (sqlite.org/howtocorrupt.html, section 2.2).
    dump = "".join(connection.connection.iterdump())
    check("nowhere in the database is that secret in clear", secret not in dump)

    step("3. List the registrations, and show one: secrets stay hidden")
    manage("dcr_list")
    manage("dcr_show", registration_id())
    shown = output("dcr_list") + output("dcr_show", registration_id())
    check("neither shows the secret", secret not in shown)

    step("4. Read it back from the server (RFC 7592)")
    manage("dcr_read", "--issuer", issuer)
    check("the server still calls it Demo shop", names() == ["Demo shop"])

    step("5. Change its name at the server (RFC 7592)")
    before = tokens()
    manage("dcr_update", "--issuer", issuer, "--set", "client_name=Demo shop and cafe")
    check("the server calls it Demo shop and cafe now", names() == ["Demo shop and cafe"])
    check("it rotated the registration access token", len(tokens()) == 1 and tokens() != before)
    manage("dcr_read", "--issuer", issuer)
    check("and takes the new token", names() == ["Demo shop and cafe"])

    step("6. Ask for a new secret")
    if manage("dcr_renew", "--issuer", issuer, may_fail=True):
        check("the server issued a new one, and it is kept here", fits(revealed_secret()))
    else:
        say("   Expected: this kind of server never changes a secret, and the command says so.")
        check("the old one is still kept, and still valid", fits(secret))

    step("7. Remove the registration (RFC 7592)")
    manage("dcr_revoke", "--issuer", issuer)
    check("the server no longer has this client", not clients() and not tokens())
    manage("dcr_list")


def documented(issuer: str) -> None:
    say("\nThe second way: a document that this site serves, and the server fetches.")
    step("8. Publish it (Client ID Metadata Document); nothing is sent to the server")
    manage("dcr_register", issuer, "--owner", "document", "--set", "client_name=Demo document")
    manage("dcr_document", registration_id("document"))
    check("the server knows no client yet", not clients())

    step("9. Ask the server to use it, as a login does")
    manage("dcr_probe", registration_id("document"))
    check("the server has fetched it, and has its name", names() == ["Demo document"])
    client, url = clients()[0], registration("document").client_id
    check("the client's ID is the document's URL", client.client_id == url)
    check("its source is the document", client.registration_source == "cimd")

    step("10. Take it down")
    manage("dcr_revoke", "--owner", "document")
    clients()[0].delete()  # which the server would keep until its copy expires


def entered_by_hand(issuer: str, file: Path) -> None:
    say("\nThe third way: a client that a person registered in the server's console.")
    step("11. The server's operator registers it there, and passes its secret on in a file")
    secret = secrets.token_urlsafe()
    file.touch(mode=0o600)
    file.write_text(f"{secret}\n")
    create_by_hand("console-7", secret)
    check("the server has that client", names() == ["Demo by hand"])

    step("12. Adopt it")
    redirect = "redirect_uris=http://127.0.0.1:8000/callback"
    adopt = ("dcr_adopt", issuer, "--owner", "console", "--client-id", "console-7")
    manage(*adopt, "--client-secret-file", str(file), "--set", redirect)
    check("the secret kept here is the one of the console", fits(revealed_secret("console")))
    manage("dcr_probe", registration_id("console"))

    step("13. Close it here; this site cannot delete what is in the console")
    manage("dcr_revoke", "--owner", "console", "--forget")
    check("the server still has it", names() == ["Demo by hand"])


def clients() -> list[Any]:
    """The clients at the server, from its own table."""
    return list(rows("oauth2_provider", "Application"))


def names() -> list[str]:
    return [client.name for client in clients()]


def tokens() -> list[str]:
    """The registration access tokens at the server (their checksums), from its own table."""
    return list(rows("oauth2_provider", "AccessToken").values_list("token_checksum", flat=True))


def fits(secret: str) -> bool:
    """Whether the server, which stores a hash only, accepts this secret."""
    return check_password(secret, clients()[0].client_secret)


def create_by_hand(client_id: str, secret: str) -> None:
    """Register a client as the server's operator does in its console."""
    rows("oauth2_provider", "Application").create(
        name="Demo by hand",
        client_id=client_id,
        client_secret=secret,
        client_type="confidential",
        authorization_grant_type="authorization-code",
        redirect_uris="http://127.0.0.1:8000/callback",
    )


def registration(owner: str = "") -> Any:
    return rows("django_dcr", "ClientRegistration").get(owner=owner)


def registration_id(owner: str = "") -> str:
    return str(registration(owner).pk)


def revealed_secret(owner: str = "") -> str:
    shown = output("dcr_show", registration_id(owner), "--reveal", "--format", "json")
    return str(json.loads(shown)["client_secret"])


@contextmanager
def serve_documents(folder: Path) -> Iterator[None]:
    """Serve the site over https, too, with a certificate that both sides trust."""
    with https_site.serve(get_wsgi_application(), folder, RequestHandler) as site:
        os.environ.update(
            DCR_BASE_URL=site.origin,
            DCR_CA_BUNDLE=str(site.certificate),
            SSL_CERT_FILE=str(site.certificate),
        )
        yield


if __name__ == "__main__":
    run(
        three_ways,
        advice="read what its last command says. To try that command yourself,\n"
        "start the site with make run and use a second terminal.",
    )

"""Three ways to a client: the real commands against the real server of this site.

Serves the example site on free ports, with and without TLS, over a temporary database, runs each
command in a process of its own and checks what came of it in the server's own tables. Exits with
0 only if every check held.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import https_site
from cryptography.fernet import Fernet
from django.apps import apps
from django.contrib.auth.hashers import check_password
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.db.models import QuerySet

MANAGE = str(Path(__file__).with_name("manage.py"))


class DemoError(Exception):
    """A check did not hold."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="django-dcr-demo-") as folder:
        database = Path(folder, "db.sqlite3")
        prepare(database)
        try:
            with serve() as issuer, serve_documents(Path(folder)):
                registered(issuer)
                documented(issuer)
                entered_by_hand(issuer, Path(folder, "secret.txt"))
        except (DemoError, subprocess.CalledProcessError) as error:
            say(f"\nFAILED in the last step above: {error}")
            say("What to do: read what its last command says. To try that command by hand,")
            say("start the site with make run and use a second terminal.")
            return 1
        finally:
            connection.close()
    say("\nDone: every step was checked in the server's own tables. To look around: make run")
    return 0


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
    if manage("dcr_renew", "--issuer", issuer, may_refuse=True):
        check("the server issued a new one, and it is kept here", fits(revealed_secret()))
    else:
        say("   No fault: this kind of server never changes a secret, and the command says so.")
        check("the old one is still kept, and still right", fits(secret))

    step("7. Remove the registration (RFC 7592)")
    manage("dcr_revoke", "--issuer", issuer)
    check("nothing is left at the server", not clients() and not tokens())
    manage("dcr_list")


def documented(issuer: str) -> None:
    say("\nThe second way: a document that this site serves, and the server fetches.")
    step("8. Publish it (Client ID Metadata Document); the server is told nothing")
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
    step("11. The server's operator registers it there, and hands its secret over in a file")
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

    step("13. Close it here; what is in the console is not this site's to delete")
    manage("dcr_revoke", "--owner", "console", "--forget")
    check("the server still has it", names() == ["Demo by hand"])


def step(title: str) -> None:
    say(f"\n{title}")


def manage(*arguments: str, may_refuse: bool = False) -> bool:
    """Run one command as a person would; return whether it did all that was asked."""
    say(f"   $ manage.py {shlex.join(arguments)}")
    done = subprocess.run([sys.executable, MANAGE, *arguments], check=False).returncode == 0
    if not done and not may_refuse:
        raise DemoError(f"{arguments[0]} did not exit with 0")
    return done


def output(*arguments: str) -> str:
    """What a command prints, not shown here."""
    command = [sys.executable, MANAGE, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def check(claim: str, holds: bool) -> None:
    if not holds:
        raise DemoError(f'not so: "{claim}". Clients at the server: {names()}')
    say(f"   ok: {claim}")


def clients() -> list[Any]:
    """What the server holds, from its own table."""
    return list(rows("oauth2_provider", "Application"))


def names() -> list[str]:
    return [client.name for client in clients()]


def tokens() -> list[str]:
    """The registration access tokens at the server (their checksums), from its own table."""
    return list(rows("oauth2_provider", "AccessToken").values_list("token_checksum", flat=True))


def rows(app: str, model: str) -> QuerySet[Any]:
    # By name: models cannot be imported before prepare() has said which settings to use.
    return apps.get_app_config(app).get_model(model)._default_manager.all()


def fits(secret: str) -> bool:
    """Whether the server, which keeps a hash only, would take this secret."""
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


def prepare(database: Path) -> None:
    """Point the site, here and in the commands' processes, at a fresh database and new keys.

    What is set here wins over a file ``.env``.
    """
    os.environ.update(
        DJANGO_SETTINGS_MODULE="example.settings",
        DEBUG="True",
        SECRET_KEY=secrets.token_urlsafe(),
        ALLOWED_HOSTS="127.0.0.1,localhost",
        DATABASE_URL=f"sqlite:///{database}",
        OPEN_REGISTRATION="True",
        TAKES_DOCUMENTS="True",
        DCR_ENCRYPTION_KEYS=Fernet.generate_key().decode(),
        DCR_ALLOWED_ISSUERS="",
        DCR_INTERNAL_ORIGINS=f"http://127.0.0.1,https://{https_site.HOST}",
        DCR_PROXY="",
    )
    django.setup()
    call_command("migrate", verbosity=0)


class RequestHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        side = "server" if "/o/" in self.path or "/.well-known/" in self.path else "site"
        say(f"     the {side} answers {self.command} {self.path.partition('?')[0]} with {code}")


@contextmanager
def serve() -> Iterator[str]:
    """Serve the site on a free port of this machine; yield its issuer identifier."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), RequestHandler)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/o"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serve_documents(folder: Path) -> Iterator[None]:
    """Serve the site over https as well, and have both sides trust its certificate."""
    with https_site.serve(get_wsgi_application(), folder, RequestHandler) as site:
        os.environ.update(
            DCR_BASE_URL=site.origin,
            DCR_CA_BUNDLE=str(site.certificate),
            SSL_CERT_FILE=str(site.certificate),
        )
        yield


def say(text: str) -> None:
    print(text, flush=True)  # at once, so that lines of the commands fall into their places


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the pipe has left: nobody to tell the rest to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

"""The whole life of a registration: the real commands against the real server of this site.

Serves the example site on a free port over a temporary database, runs each command in a process
of its own and checks what came of it in the server's own tables. Exits with 0 only if every
check held.
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
            with serve() as issuer:
                life(issuer)
        except (DemoError, subprocess.CalledProcessError) as error:
            say(f"\nFAILED in the last step above: {error}")
            say("What to do: read what its last command says. To try that command by hand,")
            say("start the site with make run and use a second terminal.")
            return 1
        finally:
            connection.close()
    say("\nDone: every step was checked in the server's own tables. To look around: make run")
    return 0


def life(issuer: str) -> None:
    step("1. Find out what the server offers (RFC 8414)")
    manage("dcr_discover", issuer)
    check("the server knows no client yet", not clients())

    step("2. Register this site there as a client (RFC 7591)")
    manage("dcr_register", issuer, "--set", "client_name=Demo shop")
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


def registration_id() -> str:
    return str(rows("django_dcr", "ClientRegistration").get().pk)


def revealed_secret() -> str:
    shown = output("dcr_show", registration_id(), "--reveal", "--format", "json")
    return str(json.loads(shown)["client_secret"])


def prepare(database: Path) -> None:
    """Point the site, here and in the commands' processes, at a fresh database and new keys.

    What is set here wins over a file ``.env``.
    """
    os.environ.update(
        DJANGO_SETTINGS_MODULE="example.settings",
        DEBUG="True",
        SECRET_KEY=secrets.token_urlsafe(),
        ALLOWED_HOSTS="127.0.0.1",
        DATABASE_URL=f"sqlite:///{database}",
        OPEN_REGISTRATION="True",
        DCR_ENCRYPTION_KEYS=Fernet.generate_key().decode(),
        DCR_ALLOWED_ISSUERS="",
        DCR_INTERNAL_ORIGINS="http://127.0.0.1",
        DCR_PROXY="",
    )
    django.setup()
    call_command("migrate", verbosity=0)


class RequestHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        say(f"     the server answers {self.command} {self.path.partition('?')[0]} with {code}")


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

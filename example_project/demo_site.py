"""What both demonstrations need: the example site on a temporary database, commands, and checks."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import django
import https_site
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.db.models import QuerySet

MANAGE = str(Path(__file__).with_name("manage.py"))


class DemoError(Exception):
    """A check did not hold."""


def run(story: Callable[[Path], None], *, advice: str) -> NoReturn:
    """Run ``story`` with a temporary folder, which has the site's database; then exit.

    The status is 0 only if every check held.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="django-dcr-demo-") as folder:
            sys.exit(_run(story, Path(folder), advice))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(story: Callable[[Path], None], folder: Path, advice: str) -> int:
    _prepare(folder / "db.sqlite3")
    try:
        story(folder)
    except (DemoError, subprocess.CalledProcessError) as error:
        say(f"\nFAILED in the last step above: {error}")
        say(f"What to do: {advice}")
        return 1
    finally:
        connection.close()
    say("\nDone: every step was checked in the servers' own records. To look around: make run")
    return 0


def _prepare(database: Path) -> None:
    """Point the site, here and in the commands' processes, at a new database and new keys.

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
    with https_site.serving(server, get_wsgi_application()):
        yield f"http://127.0.0.1:{server.server_port}/o"


def step(title: str) -> None:
    say(f"\n{title}")


def check(claim: str, holds: bool) -> None:
    if not holds:
        raise DemoError(f'this is not true: "{claim}"')
    say(f"   ok: {claim}")


def say(text: str) -> None:
    print(text, flush=True)  # at once, to keep the order with what commands print


def manage(*arguments: str, may_fail: bool = False) -> bool:
    """Run one command, as a user would; return whether it succeeded."""
    say(f"   $ manage.py {shlex.join(arguments)}")
    succeeded = subprocess.run([sys.executable, MANAGE, *arguments], check=False).returncode == 0
    if not (succeeded or may_fail):
        raise DemoError(f"{arguments[0]} did not exit with 0")
    return succeeded


def output(*arguments: str) -> str:
    """Return what a command prints, without showing it."""
    command = [sys.executable, MANAGE, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def rows(app: str, model: str) -> QuerySet[Any]:
    # By name: models can be imported only when ``run`` has chosen the settings.
    return apps.get_app_config(app).get_model(model)._default_manager.all()

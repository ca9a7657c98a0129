"""The example site in a process of its own, under a strict Content-Security-Policy.

Takes the file of its database, prints its address, and serves until it is stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import django
from cryptography.fernet import Fernet
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Strict:
    """Adds the policy to every answer."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, ("Content-Security-Policy", POLICY)], *rest)

        answer: Iterable[bytes] = self.application(environ, start)
        return answer


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: what is wrong shows in the browser."""


def main(database: str) -> None:
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
    address = f"http://127.0.0.1:{server.server_port}"
    sys.path.insert(0, str(Path(__file__).parents[2] / "example_project"))
    os.environ.update(
        DJANGO_SETTINGS_MODULE="example.settings",
        DEBUG="True",
        SECRET_KEY="only for tests",
        DATABASE_URL=f"sqlite:///{database}",
        OPEN_REGISTRATION="True",
        DCR_ENCRYPTION_KEYS=Fernet.generate_key().decode(),
        DCR_INTERNAL_ORIGINS="http://127.0.0.1",
    )
    django.setup()
    _add_stock_page()
    call_command("migrate", verbosity=0)
    _make_people()
    server.set_app(Strict(StaticFilesHandler(get_wsgi_application())))
    from example.tool_process import tool_server

    with tool_server(f"{address}/o") as url:
        os.environ["TOOL_SERVER_URL"] = url  # which a page offers
        print(address, flush=True)
        server.serve_forever()


def _add_stock_page() -> None:
    """Add a model of Django's own whose pages have a field that completes itself."""
    from django.contrib import admin
    from django.contrib.admin.models import LogEntry

    admin.site.register(LogEntry, autocomplete_fields=["user"])


def _make_people() -> None:
    """Make "admin", who may do all, and "guest", who may only look; names are passwords."""
    from django.contrib.auth.models import Permission, User

    User.objects.create_superuser("admin", password="admin")
    guest = User.objects.create_user("guest", password="guest", is_staff=True)
    looking = Permission.objects.filter(codename__startswith="view_")
    guest.user_permissions.set(looking.filter(content_type__app_label="django_dcr"))


if __name__ == "__main__":
    main(sys.argv[1])

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, call_command

from example.tool_process import is_installed, tool_server


class Command(BaseCommand):
    help = "Prepare the database and an account for the admin, and serve the site."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, port: int, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        self.stdout.write(f"The example site is at http://127.0.0.1:{port}/")
        self.stdout.write(f"Its admin is at http://127.0.0.1:{port}/admin/")
        self.stdout.write(self._admin())
        self.stdout.write("Ctrl-C stops it; make run PORT=8001 takes another port.\n\n")
        if not is_installed():
            self._serve(port)
            return
        with tool_server(f"http://127.0.0.1:{port}/o", port=port + 1000) as url:
            os.environ["TOOL_SERVER_URL"] = url  # which the page offers
            self.stdout.write(f"A tool server to connect, on the page /tools/, is at {url}")
            self._serve(port)

    def _serve(self, port: int) -> None:
        call_command("runserver", f"127.0.0.1:{port}", use_reloader=False, verbosity=0)

    def _admin(self) -> str:
        User = get_user_model()  # noqa: N806
        if User.objects.filter(username="admin").exists():
            return "Log in as admin (the password was admin at first)."
        if not settings.DEBUG:
            return "Make an account to log in with: manage.py createsuperuser"
        User.objects.create_superuser("admin", password="admin")  # noqa: S106
        return "Log in as admin with the password admin."

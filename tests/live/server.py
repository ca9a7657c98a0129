"""django-oauth-toolkit in a process of its own, and what it holds, read from its own tables."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.live import oauth_toolkit

ROOT = Path(__file__).parents[2]
DJANGO = [sys.executable, "-m", "django"]
MISSING = (
    "django-oauth-toolkit is not installed, so NOTHING WAS TESTED AGAINST A REAL SERVER; "
    'install it with: pip install --editable ".[test]"'
)

#: What has the server take Client ID Metadata Documents, also from this machine.
DOCUMENTS = {
    "CIMD_ENABLED": True,
    "CIMD_METADATA_FETCHER": "example_project.example.loopback.LoopbackFetcher",
}

ADMIT = """
from django.contrib.auth.models import User
from django.utils import timezone
from oauth2_provider.models import AccessToken
user = User.objects.create(username="registrar")
AccessToken.objects.create(user=user, token="{}", expires=timezone.now().replace(year=9999))
"""


def require() -> None:
    """Skip the test, or on a CI server fail it, where there is no authorization server to run."""
    if importlib.util.find_spec("oauth2_provider") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)


class Server:
    """A running server: its issuer identifier, its process's environment, its database's file."""

    def __init__(self, issuer: str, environment: dict[str, str]) -> None:
        self.issuer = issuer
        self.environment = environment
        self.database = Path(environment["LIVE_DATABASE"])

    def clients(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM oauth2_provider_application ORDER BY id")

    def tokens(self) -> list[str]:
        """The SHA-256 of each registration access token."""
        rows = self.sql(
            "SELECT token_checksum FROM oauth2_provider_accesstoken"
            " WHERE scope = 'oauth2_provider:registration' ORDER BY id"
        )
        return [row["token_checksum"] for row in rows]

    def rename(self, name: str) -> None:
        """Change every client, as the server's operator might."""
        self.sql("UPDATE oauth2_provider_application SET name = ?", name)

    def forget(self) -> None:
        """Delete every client, as the server's operator might."""
        self.sql("DELETE FROM oauth2_provider_accesstoken WHERE application_id IS NOT NULL")
        self.sql("DELETE FROM oauth2_provider_application")

    def admit(self, token: str) -> None:
        """Make ``token`` good for registering."""
        self.run(ADMIT.format(token))

    def run(self, program: str) -> None:
        """Run a program in the server's own shell, as its operator might."""
        _django(self.environment, "shell", "--verbosity", "0", "--command", program)

    def empty(self) -> None:
        """Forget everything, of a client that shares the database, too."""
        tables = self.sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        for name in (row["name"] for row in tables):
            if re.match("oauth2_provider_|django_dcr_|auth_user|django_(session|admin_log)", name):
                self.sql(f"DELETE FROM {name}")  # noqa: S608

    def sql(self, statement: str, *parameters: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement, parameters)]


def make_tables(database: Path) -> None:
    """Make the server's tables in a new file."""
    _django(_environment(database, ""), "migrate", "--verbosity", "0")


@contextmanager
def serve(
    database: Path,
    *,
    permission: str,
    options: Mapping[str, Any] = MappingProxyType({}),
    certificate: Path | None = None,
) -> Iterator[Server]:
    """Serve from a database that has the tables, on a free port of this machine.

    ``permission`` is the class of django-oauth-toolkit that says who may register, ``options``
    are other settings of it. It fetches documents from who has the ``certificate``.
    """
    environment = _environment(database, permission, options)
    if certificate:
        environment["SSL_CERT_FILE"] = str(certificate)
    log = database.with_suffix(".log")
    command = [*DJANGO, "runserver", "--noreload", "--skip-checks", "127.0.0.1:0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout
            banner = "".join(process.stdout.readline() for _ in range(3))
            place = re.search(r" at (http://[^/]+)/", banner)
            assert place, f"The server did not start: {log.read_text()}"
            yield Server(place[1], environment)
        finally:
            process.terminate()


def _environment(
    database: Path, permission: str, options: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": oauth_toolkit.__name__,
        "LIVE_DATABASE": str(database),
        "LIVE_PERMISSION": permission,
        "LIVE_OPTIONS": json.dumps(dict(options)),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def _django(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([*DJANGO, *arguments], env=environment, check=True, timeout=600)

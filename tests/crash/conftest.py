"""Crash tests run on the database in DATABASE_URL, else on a file of SQLite in WAL mode.

``CRASH=full`` in the environment makes them as large as they are meant to be; else they are short.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections

from django_dcr.models import AuthorizationServer, ClientRegistration
from tests.crash.processes import Site
from tests.crash.worker import use_database

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker


@pytest.fixture
def site(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[Site]:
    """An empty site, whose tables this process may look into."""
    given = os.environ.get("DATABASE_URL")
    url = given or _copy(*map(request.getfixturevalue, ("migrated", "tmp_path")))
    with connected(url, django_db_blocker), ExitStack() as stack:
        if given:
            call_command("migrate", verbosity=0)
        ClientRegistration.objects.all().delete()
        AuthorizationServer.objects.all().delete()
        yield Site(url, stack, full=os.environ.get("CRASH") == "full")


def _copy(migrated: Path, folder: Path) -> str:
    """Copy the file with the tables; return the URL of the copy."""
    file = shutil.copy(migrated, folder / "site.sqlite3")
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"
    return f"sqlite:///{file}?timeout=300&init_command={pragmas}"


@contextmanager
def connected(url: str, blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let this process see the database that the workers have, and not one of its own."""
    connection, elsewhere = connections["default"], connections.settings["default"]
    use_database(url)
    ContentType.objects.clear_cache()
    try:
        with blocker.unblock():
            yield
            connections["default"].close()
    finally:
        connections.settings["default"] = elsewhere
        connections["default"] = connection
        ContentType.objects.clear_cache()

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import responses
from coverage import Coverage
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.dispatch import Signal
from hypothesis import settings as hypothesis
from xdist.scheduler import LoadScopeScheduling

from django_dcr import signals
from django_dcr.models import ClientRegistration
from example_project.https_site import HttpsSite, serve
from tests.authorization_server import AuthorizationServer

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

# A busy machine is slow without being wrong, so no deadline.
hypothesis.register_profile("local", max_examples=60, deadline=None)
hypothesis.register_profile("ci", max_examples=5_000, deadline=None)
hypothesis.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "local"))


DATABASE_URL = os.environ.get("DATABASE_URL", "")
#: Parts of the names of tests that need the same servers or tables, or all processors.
TOGETHER = (
    "tests/crash/",
    "tests/test_example.py",
    "tests/test_life.py",
    "tests/test_scale.py",
    "at_a_real_server",
)


class Scheduler(LoadScopeScheduling):
    """Sends the cases of a test to the next free worker, and what belongs together to one.

    So each server is started once. (``--dist loadgroup`` does not group with pytest 9.)
    """

    def _split_scope(self, nodeid: str) -> str:  # pragma: no cover - see below
        return next((part for part in TOGETHER if part in nodeid), nodeid.partition("[")[0])


@pytest.hookimpl(optionalhook=True)  # without xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    if measured := Coverage.current():  # pragma: no branch - without --cov nothing is measured
        measured.stop()  # this process only distributes the tests
    return Scheduler(config, log)  # pragma: no cover


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One worker more than there are processors: a third of the time they wait for each other."""
    return (yield) + 1


# What collecting makes lives until the end: there is nothing to free, and much to look at.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not concern this database, or would have to share it.

    Tests in files that coverage omits run without its tracer, which takes as long as the tests:
    they look once more, from another side, at lines that other tests cover.
    """
    left_out = [item for item in items if not _concerns(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    measured = Coverage.current()
    omitted = measured.get_option("run:omit") if measured else []
    for item in items:
        if any(fnmatch(item.location[0], pattern) for pattern in omitted):
            item.add_marker("no_cover")


def _concerns(item: pytest.Item) -> bool:
    names = {*getattr(item, "fixturenames", ())}
    if DATABASE_URL:  # pragma: no cover - coverage is measured on SQLite
        # The others have a database of their own, or none: SQLite has had them.
        stores = item.get_closest_marker("django_db") or names & {"db", "transactional_db", "site"}
        # Crash tests have a database to themselves: run tests/crash without -n.
        is_crowded = "PYTEST_XDIST_WORKER" in os.environ and "site" in names
        if is_crowded or not stores or "database_file" in names:
            return False
    kind = DATABASE_URL.partition(":")[0] or "sqlite"
    return all(kind in mark.args for mark in item.iter_markers("only_on"))


@pytest.fixture(autouse=True)
def mocked_responses(request: pytest.FixtureRequest) -> Iterator[responses.RequestsMock | None]:
    """Answer every request from stubs, none of which may go unused; ``network`` turns it off."""
    if request.node.get_closest_marker("network"):
        yield None
        return
    with responses.RequestsMock(assert_all_requests_are_fired=True) as stubs:
        yield stubs


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest) -> None:
    """Where sockets or locks are waited for, let no time run out because the machine is busy."""
    waits = request.node.get_closest_marker("network")
    if waits or "database_file" in request.fixturenames:
        settings = request.getfixturevalue("settings")
        settings.DCR_TIMEOUT, settings.DCR_LEASE = 300.0, 1000.0


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """A list of the signals that were sent: name, row, and the status that was then committed."""
    names = {signal: name for name, signal in vars(signals).items() if isinstance(signal, Signal)}
    received: list[Any] = []

    def receive(signal: Signal, registration: ClientRegistration, **extra: Any) -> None:
        committed = ClientRegistration.objects.get(pk=registration.pk).status
        received.append((names[signal], registration, committed))

    for signal in names:
        signal.connect(receive, sender=ClientRegistration)
    yield received
    for signal in names:
        signal.disconnect(receive, sender=ClientRegistration)


@pytest.fixture
def authorization_server(settings: Any) -> Iterator[AuthorizationServer]:
    """A server on a loopback socket, for tests with the marker ``network``."""
    with AuthorizationServer() as server:
        settings.DCR_INTERNAL_ORIGINS = [server.issuer]
        yield server


@pytest.fixture(scope="session")
def https_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsSite]:
    """This site, as servers reach it that fetch its documents and keys."""
    with serve(get_wsgi_application(), tmp_path_factory.mktemp("https")) as site:
        yield site


@contextmanager
def stored_in(file: Path, blocker: DjangoDbBlocker) -> Iterator[None]:
    """Keep this process's tables in ``file``, in SQLite, whatever DATABASE_URL says."""
    connection, elsewhere = connections["default"], connections.settings["default"]
    connections.settings["default"] = {
        **elsewhere,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(file),
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "timeout": 300,
        },
    }
    del connections["default"]
    ContentType.objects.clear_cache()
    try:
        with blocker.unblock():
            yield
            connections["default"].close()
    finally:
        connections.settings["default"] = elsewhere
        connections["default"] = connection
        ContentType.objects.clear_cache()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Path:
    """A database file with tables, to copy."""
    file = tmp_path_factory.mktemp("migrated") / "empty.sqlite3"
    # Not a copy of the tests' own tables: pytest-django makes none for the crash tests alone.
    with stored_in(file, django_db_blocker):
        call_command("migrate", verbosity=0)
        return file


@pytest.fixture
def database_file(
    migrated: Path, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Path]:
    """A database in a file, where threads have connections of their own and meet real locks."""
    file = Path(shutil.copy(migrated, tmp_path / "site.sqlite3"))
    with stored_in(file, django_db_blocker):
        yield file

"""Real workers of each task queue; the database is SQLite, or the one in DATABASE_URL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.conftest import site  # noqa: F401
from tests.crash.processes import Site
from tests.queue.processes import Engine, redis_server


@pytest.fixture(params=["celery", "django.tasks"])
def engine(request: pytest.FixtureRequest, site: Site) -> Iterator[Engine]:  # noqa: F811
    """Each task queue, before its workers are started."""
    broker = request.getfixturevalue("broker") if request.param == "celery" else ""
    running = Engine(request.param, site, broker=broker)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with redis_server() as url:
        yield url

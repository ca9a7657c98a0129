"""The outcomes of each server, and the tables of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from example_project.https_site import HttpsSite

pytest.register_assert_rewrite("tests.interop.life", "tests.interop.server")

from tests.interop import keycloak  # noqa: E402
from tests.interop.keycloak import Keycloak  # noqa: E402
from tests.interop.report import Table  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", type=Path, help="the document whose tables are replaced")


@pytest.fixture(scope="session")
def running_keycloak(
    tmp_path_factory: pytest.TempPathFactory, https_site: HttpsSite
) -> Iterator[Keycloak]:
    folder = tmp_path_factory.mktemp("keycloak")
    with keycloak.run(folder, https_site.certificate) as running:
        yield running


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    table = Table()
    yield table
    document = request.config.getoption("--write-table")
    if document and not request.session.testsfailed:
        table.write_into(document)

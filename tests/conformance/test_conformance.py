"""The example's MCP client in MCP's own conformance suite: every scenario in scope."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.report import write
from tests.conformance.suite import Suite

pytestmark = pytest.mark.network

#: What this app does not do, and why the scenario is left out.
OUT_OF_SCOPE = {
    "auth/cross-app-access-complete-flow": (
        "an identity provider issues what another server exchanges for a token (SEP-990), and "
        "nobody registers"
    ),
}


def test_every_scenario_in_scope_passes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    suite = Suite(tmp_path)
    found = [each for each in suite.scenarios() if each.name.startswith("auth/")]
    assert OUT_OF_SCOPE.keys() <= {each.name for each in found}
    scenarios = [each for each in found if each.name not in OUT_OF_SCOPE]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(suite.run, scenarios))
    assert len(results) > 20
    assert [
        (each.scenario.name, each.failures, each.output) for each in results if not each.ok
    ] == []
    document = request.config.getoption("--write-figure")
    if document:
        write(document, suite.version, results, OUT_OF_SCOPE)

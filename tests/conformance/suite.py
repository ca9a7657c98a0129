"""``@modelcontextprotocol/conformance``, from npm, on a Node.js of its own where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.interop.processes import ROOT, installed, require

HERE = Path(__file__).parent
MANAGE = ROOT / "example_project/manage.py"
LOCK = HERE / "package-lock.json"

#: What the suite takes for known: the one metadata document that is a client of its server.
OPTIONS = {
    "auth/basic-cimd": ["--document", "https://conformance-test.local/client-metadata.json"],
}

# In seconds, for one scenario on a busy machine.
_PATIENCE = 120


@dataclass(frozen=True)
class Scenario:
    name: str
    #: The revisions of MCP that it belongs to, as the suite writes them.
    revisions: str


@dataclass(frozen=True)
class Result:
    scenario: Scenario
    passed: int
    #: What the suite says of each check that did not pass; a warning is one, too.
    failures: list[str]
    output: str

    @property
    def ok(self) -> bool:
        return bool(self.passed) and not self.failures


class Suite:
    """The suite, installed once, with a new site and database for each scenario."""

    def __init__(self, folder: Path) -> None:
        require("npm")
        self.home = installed("conformance", LOCK.read_text(), _install)
        self.folder = folder
        self.empty = folder / "empty.sqlite3"
        migrate = [sys.executable, str(MANAGE), "migrate", "--verbosity", "0"]
        subprocess.run(migrate, env=self._environment(self.empty), check=True)

    @property
    def version(self) -> str:
        packages = json.loads(LOCK.read_text())["packages"]
        return str(packages["node_modules/@modelcontextprotocol/conformance"]["version"])

    def scenarios(self) -> list[Scenario]:
        listed = self._run("list", "--client").stdout
        return [Scenario(*each) for each in re.findall(r"- (\S+) \[(.+)\]", listed)]

    def run(self, scenario: Scenario) -> Result:
        name = scenario.name.replace("/", "-")
        database = shutil.copy(self.empty, self.folder / f"{name}.sqlite3")
        results = self.folder / name
        done = self._run(
            "client",
            "--command",
            " ".join(
                [sys.executable, str(MANAGE), "mcp_conformance", *OPTIONS.get(scenario.name, [])]
            ),
            "--scenario",
            scenario.name,
            "--timeout",
            str(_PATIENCE * 1000),
            "--output-dir",
            str(results),
            environment=self._environment(database),
        )
        found = list(results.rglob("checks.json"))
        checks = json.loads(found[0].read_text()) if found else []
        failures = [
            f"{check['id']}: {check['description']}"
            for check in checks
            if check["status"] in ("FAILURE", "WARNING")
        ]
        if done.returncode and not failures:
            failures = [f"the suite exited with {done.returncode}"]
        passed = sum(check["status"] == "SUCCESS" for check in checks)
        return Result(scenario, passed, failures, done.stdout + done.stderr)

    def _run(
        self, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        own = next(self.home.glob("node_modules/node-*/bin/node"), None)
        script = self.home / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
        return subprocess.run(
            [str(own or "node"), str(script), *arguments],
            env=environment or dict(os.environ),
            capture_output=True,
            text=True,
            timeout=2 * _PATIENCE,
            check=False,
        )

    def _environment(self, database: Path) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example.settings",
            "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]).strip(":"),
            "DATABASE_URL": f"sqlite:///{database}",
            "DEBUG": "True",
        }


def _install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    # npm checks each package against the lock file's hash.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, cwd=folder, check=True, timeout=600)

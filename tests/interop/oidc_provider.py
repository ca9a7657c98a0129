"""oidc-provider, from npm, around which ``oidc_provider.mjs`` is the server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.interop.processes import announced, installed, require, running
from tests.interop.server import ControlledServer

HERE = Path(__file__).parent

_KEEPS_SECRETS = "keeps the secret, which never expires"
_OPEN = "anyone may register"
_NEVER = "never"
_SAME: Mapping[str, str] = {"renew": _KEEPS_SECRETS, "token expires": _NEVER}
_USUAL = {**_SAME, "secret expires": _NEVER, "initial token": _OPEN}
_NO_MANAGEMENT = "no updates and no deletions"

#: The limits of each variant.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "plain": _USUAL,
    "initial access token": {**_SAME, "secret expires": _NEVER},
    "secret lifetime": {"token expires": _NEVER},
    "management off": {
        **_USUAL,
        "update": "offers no updates",
        "revoke": "offers no deletions",
    },
    "issuer with a path": _USUAL,
}


@contextmanager
def serve(variant: str, folder: Path, certificate: Path) -> Iterator[ControlledServer]:
    require("node", "npm")
    home = installed("oidc-provider", (HERE / "package-lock.json").read_text(), _install)
    script = shutil.copy(HERE / "oidc_provider.mjs", home)
    log = folder / "oidc-provider.log"
    command = ["node", script, variant]
    trust = {"NODE_EXTRA_CA_CERTS": str(certificate)}
    with running(command, log=log, cwd=home, environment=trust) as process:
        said = announced(process, log)
        program = f"oidc-provider {said['version']}"
        yield ControlledServer(program, variant, said["issuer"], VARIANTS[variant])


def _install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    # npm checks each package against the lock file's hash.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)

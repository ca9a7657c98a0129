"""Keycloak, from Maven Central, with a realm for each variant."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.databases import free_port
from tests.interop.processes import CACHE, installed, running, wait
from tests.interop.server import CALLBACK, NAME, NotOfferedError, Server, browse

#: The newest that runs on Java 17.
VERSION = "26.7.3"
SHA256 = "77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47"
ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz"
FILE = CACHE / f"keycloak-quarkus-dist-{VERSION}.tar.gz"

BUILD = ["build", "--db=dev-mem"]

_ADMIN = {"username": "admin", "password": "wonderland"}
_USER = {"username": "jane", "password": "wonderland"}
_TIMEOUT = 60

_USUAL: Mapping[str, str] = {
    "renew": "keeps the secret, which never expires",
    "secret expires": "never",
    "token expires": "never",
    "document": "takes none",
}

#: The limits of each variant.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "anonymous": {**_USUAL, "initial token": "trusted hosts may register"},
    "initial access token": _USUAL,
}


class Keycloak:
    """A running Keycloak, without realms."""

    def __init__(self, place: str) -> None:
        self.place = place

    def realm(self, variant: str, name: str = "") -> Realm:
        """Make the realm of a variant, as an operator does: with the defaults, then changed."""
        name = (name or variant).replace(" ", "-")
        user = {"enabled": True, "emailVerified": True, "email": "jane@shop.example"}
        names = {"username": _USER["username"], "firstName": "Jane", "lastName": "Doe"}
        password = {"type": "password", "value": _USER["password"]}
        users = [{**user, **names, "credentials": [password]}]
        self.ask("POST", "realms", {"realm": name, "enabled": True, "users": users})
        realm = Realm(self, variant, name)
        if variant == "anonymous":
            realm.trust("127.0.0.1", "shop.example")
        return realm

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Speak to the interface for administrators."""
        form = {"grant_type": "password", "client_id": "admin-cli", **_ADMIN}
        token = f"{self.place}/realms/master/protocol/openid-connect/token"
        issued = requests.post(token, data=form, timeout=_TIMEOUT).json()
        headers = {"Authorization": f"Bearer {issued['access_token']}"}
        answer = requests.request(
            method, f"{self.place}/admin/{path}", json=body, headers=headers, timeout=_TIMEOUT
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


class Realm(Server):
    program = f"Keycloak {VERSION}"

    def __init__(self, keycloak: Keycloak, variant: str, name: str) -> None:
        self.variant, self.limits = variant, VARIANTS[variant]
        self.issuer = f"{keycloak.place}/realms/{name}"
        self._keycloak, self._path = keycloak, f"realms/{name}"

    def trust(self, *hosts: str) -> None:
        """Let anybody on these hosts register, with redirects to these hosts."""
        kind = "org.keycloak.services.clientregistration.policy.ClientRegistrationPolicy"
        components = self._keycloak.ask("GET", f"{self._path}/components?type={kind}")
        [policy] = [one for one in components if one["providerId"] == "trusted-hosts"]
        policy["config"]["trusted-hosts"] = hosts
        self._keycloak.ask("PUT", f"{self._path}/components/{policy['id']}", policy)

    def client_name(self, client_id: str) -> str | None:
        return next((client["name"] for client in self._clients(client_id)), None)

    def register_by_hand(self) -> Mapping[str, str]:
        """As in the console: its page of a client has the secret, and makes the other token."""
        made = {"clientId": "by-hand", "name": NAME, "redirectUris": [CALLBACK]}
        self._keycloak.ask("POST", f"{self._path}/clients", made)
        [client] = self._clients("by-hand")
        path = f"{self._path}/clients/{client['id']}/registration-access-token"
        token = self._keycloak.ask("POST", path)["registrationAccessToken"]
        return {
            "client_id": "by-hand",
            "client_secret": client["secret"],
            "registration_client_uri": (
                f"{self.issuer}/clients-registrations/openid-connect/by-hand"
            ),
            "registration_access_token": token,
        }

    def forget(self, client_id: str) -> None:
        for client in self._clients(client_id):
            self._keycloak.ask("DELETE", f"{self._path}/clients/{client['id']}")

    def initial_access_token(self) -> str:
        if self.variant != "initial access token":
            raise NotOfferedError
        path = f"{self._path}/clients-initial-access"
        made = self._keycloak.ask("POST", path, {"count": 20, "expiration": 3600})
        return str(made["token"])

    def pass_time(self, client_id: str, by: timedelta) -> None:
        """It asks for keys once more where it does not know one, after ten seconds."""
        time.sleep(11)

    def log_in(self, url: str) -> str:
        return browse(url, _USER)

    def _clients(self, client_id: str) -> Any:
        return self._keycloak.ask("GET", f"{self._path}/clients?clientId={client_id}")


@contextmanager
def run(folder: Path, certificate: Path) -> Iterator[Keycloak]:
    """Run it with an empty database in memory; it fetches keys from who has the certificate."""
    _fetch()
    home = installed("keycloak", f"{SHA256} {BUILD}", _install)
    home = home / f"keycloak-{VERSION}"
    port = free_port()
    place, log = f"http://127.0.0.1:{port}", folder / "keycloak.log"
    options = ["--optimized", "--http-enabled=true", "--hostname-strict=false", "--cache=local"]
    options.append(f"--truststore-paths={certificate}")
    command = [str(home / "bin/kc.sh"), "start", *options, "--http-host=127.0.0.1"]
    environment = {
        "KC_BOOTSTRAP_ADMIN_USERNAME": _ADMIN["username"],
        "KC_BOOTSTRAP_ADMIN_PASSWORD": _ADMIN["password"],
        "JAVA_OPTS_KC_HEAP": "-Xms256m -Xmx768m",
    }
    command.append(f"--http-port={port}")
    with running(command, log=log, cwd=folder, environment=environment) as process:
        wait(lambda: _answers(place), process, log)
        yield Keycloak(place)


def _fetch() -> None:
    """Have the archive in the cache, or skip the test, loudly: it is large and needs Java."""
    if not FILE.exists():
        missing = [name for name in ("mvn", "java") if shutil.which(name) is None]
        if missing:
            _skip(f"{', '.join(missing)} missing")
        FILE.parent.mkdir(parents=True, exist_ok=True)
        command = ["mvn", "--batch-mode", "--quiet", "dependency:get", "dependency:copy"]
        command += [f"-Dartifact={ARTIFACT}", "-Dtransitive=false", f"-DoutputDirectory={CACHE}"]
        maven = subprocess.run(command, check=False)
        if maven.returncode or not FILE.exists():
            _skip("it cannot be had from Maven Central")
    found = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert found == SHA256, f"{FILE} is not the pinned one: {found}"


def _skip(why: str) -> None:
    pytest.skip(f"!!! NOTHING WAS TESTED AGAINST KEYCLOAK: {why} !!!")


def _install(folder: Path) -> None:
    with tarfile.open(FILE) as archive:
        archive.extractall(folder, filter="data")
    program = folder / f"keycloak-{VERSION}" / "bin/kc.sh"
    subprocess.run([program, *BUILD], check=True, timeout=600, stdout=subprocess.DEVNULL)


def _answers(place: str) -> bool:
    try:
        return requests.get(f"{place}/realms/master", timeout=_TIMEOUT).ok
    except requests.ConnectionError:
        return False

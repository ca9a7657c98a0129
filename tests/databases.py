"""Run a command against a real database server of its own, made for it and thrown away.

::

    python -m tests.databases postgresql pytest
    python -m tests.databases mariadb pytest

The servers are Debian's packages (``postgresql``, ``mariadb-server``). The command finds the
database in ``DATABASE_URL``, and this exits with the command's status. Without the package it
says so and exits with 0, or with 1 where ``CI`` is set.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def main() -> int:
    kind, *command = sys.argv[1:]
    if not _is_installed(kind):
        print(f"!!! NOT TESTED: no {kind} server on this machine !!!", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    with SERVERS[kind]() as url:
        return subprocess.run(
            command, env={**os.environ, "DATABASE_URL": url}, check=False
        ).returncode


@contextlib.contextmanager
def sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/db.sqlite3"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))
    with _folder("postgres") as folder:
        user = _as_user("postgres")
        data, port = f"{folder}/data", free_port()
        made = [f"{programs}/initdb", "-D", data, "-U", "dcr", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*user, *made], check=True, stdout=subprocess.DEVNULL)
        server = [f"{programs}/postgres", "-D", data, "-p", str(port), "-k", folder]
        options = [
            "-c",
            "fsync=off",
            "-c",
            "max_connections=300",
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        with _running([*user, *server, *options], port, folder):
            yield f"postgres://dcr@127.0.0.1:{port}/postgres"


@contextlib.contextmanager
def mariadb() -> Iterator[str]:
    with _folder("mysql") as folder:
        data, port = f"{folder}/data", free_port()
        as_user = ["--user=mysql"] if os.geteuid() == 0 else []
        made = [
            "mariadb-install-db",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
        ]
        subprocess.run([*made, *as_user, "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)
        server = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--port={port}", *as_user]
        options = [f"--socket={folder}/sock", "--bind-address=127.0.0.1", "--max-connections=300"]
        # Django's test databases take the server's character set, which is latin1 by default.
        options += ["--character-set-server=utf8mb4"]
        with _running([*server, *options], port, folder):
            client = ["mariadb", f"--socket={folder}/sock", "-uroot", "-e"]
            account = (
                "CREATE DATABASE dcr CHARACTER SET utf8mb4;"
                "CREATE USER dcr@'%' IDENTIFIED BY 'dcr'; GRANT ALL ON *.* TO dcr@'%'"
            )
            subprocess.run([*client, account], check=True)
            yield f"mysql://dcr:dcr@127.0.0.1:{port}/dcr"


SERVERS = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mariadb}


def _is_installed(kind: str) -> bool:
    if kind == "postgresql":
        return any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or bool(shutil.which("initdb"))
    return kind != "mariadb" or bool(shutil.which("mariadbd"))


@contextlib.contextmanager
def _folder(owner: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="dcr-") as folder:
        if os.geteuid() == 0:  # neither server runs as root
            shutil.chown(folder, owner)
        yield folder


def _as_user(name: str) -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]


@contextlib.contextmanager
def _running(command: list[str], port: int, folder: str) -> Iterator[None]:
    with open(f"{folder}/log", "w+") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            _await(server, port, log.name)
            yield
        finally:
            server.terminate()
            server.wait(60)


def _await(server: subprocess.Popen[bytes], port: int, log: str) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"The database server did not start:\n{Path(log).read_text()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())

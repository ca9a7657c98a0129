"""The task queues and their workers, in processes of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.crash.processes import ROOT, Site, wait_until
from tests.databases import free_port

MISSING = (
    "redis-server is not installed, so NOTHING WAS TESTED ON CELERY; install it with: "
    "apt-get install redis-server"
)


@contextmanager
def redis_server() -> Iterator[str]:
    """Run Debian's Redis on a free port, in memory; yield its URL."""
    if not shutil.which("redis-server"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        with open(f"{folder}/log", "w") as log:
            server = subprocess.Popen([*command, "--save", ""], stdout=log)
        try:
            client = redis.Redis(port=port)
            wait_until(lambda: _answers(client))
            client.close()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(30)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Engine:
    """A task queue of a site: its workers, and commands that enqueue jobs."""

    def __init__(self, name: str, site: Site, *, broker: str = "") -> None:
        self.name = name
        self.broker = broker
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.queue.settings",
            "DATABASE_URL": site.database,
            "QUEUE_ENGINE": name,
            "QUEUE_ISSUER": site.server.issuer,
            "QUEUE_BROKER": broker,
            "PYTHONPATH": str(ROOT),
        }
        self._folder = Path(tempfile.mkdtemp())
        self._workers: list[subprocess.Popen[bytes]] = []
        self.run("migrate", "--verbosity=0")

    def run(self, *arguments: str) -> str:
        """Run a command of the site; return its standard error."""
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def start_worker(self) -> None:
        number = len(self._workers)
        celery = ["celery", "--quiet", "-A", "tests.queue.settings", "worker", "--loglevel=WARNING"]
        celery += ["--concurrency=1", f"--hostname=worker{number}", "--without-mingle"]
        database = ["django", "db_worker", "--interval=0.2", "--no-startup-delay", "--no-reload"]
        database += ["--verbosity=0"]
        command = celery if self.name == "celery" else database
        with (self._folder / f"{number}.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *command],  # of running as root
                env=self._environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._workers.append(worker)

    def kill_working_process(self) -> None:
        """Kill a worker's child process, as the kernel does when memory runs out."""
        parent = self._workers[-1].pid
        (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)

    def kill_worker(self) -> None:
        """Kill a worker and all its children at once, as a power failure does."""
        _end(self._workers.pop())

    @property
    def is_idle(self) -> bool:
        """Whether no job is queued, running or scheduled in Celery."""
        client = redis.Redis.from_url(self.broker)
        try:
            return not (client.llen("celery") or client.hlen("unacked"))
        finally:
            client.close()

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self._folder.iterdir()))

    def stop(self) -> None:
        for worker in self._workers:
            _end(worker)
        print(self.logs(), end="")  # shown if a test fails
        shutil.rmtree(self._folder)


def _end(worker: subprocess.Popen[bytes]) -> None:
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(30)

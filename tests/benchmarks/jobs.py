"""``dcr_renew --queue`` at ten servers that allow few requests, done by workers of Celery.

::

    python -m tests.benchmarks.jobs JOBS

renews so many secrets, as many at each server, and prints three numbers: the seconds until the
server that was served last had its last request, those that the rate allows for so many
requests, and the most requests that any server has got within a minute. Needs ``redis-server``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()

from django_dcr.models import ClientRegistration  # noqa: E402
from tests.benchmarks.stored import BASE, RENEWING, copy_server, let_expire  # noqa: E402
from tests.crash.processes import busiest  # noqa: E402
from tests.many import DAY  # noqa: E402
from tests.queue.processes import redis_server  # noqa: E402

WORKERS, SERVERS, RATE = 4, 10, 60
#: A renewal reads the client's metadata and writes it again (RFC 7592 sections 2.1 and 2.2).
REQUESTS = 2
# Starved jobs are not waited for: so many times what the rate allows, and the workers' start.
_PATIENCE, _START = 3, 30


def main() -> None:
    jobs = max(1, int(sys.argv[1]) // SERVERS)
    issuers = [f"{RENEWING}/paced{os.getpid()}-{number}" for number in range(SERVERS)]
    for issuer in issuers:
        copy_server(issuer, requests_per_minute=RATE)
    let_expire(issuers, jobs)
    minimum = jobs * REQUESTS * 60 / RATE
    with ExitStack() as stack:
        # For the processes of the block: tests.crash has set its own.
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
        os.environ["BENCHMARK_BROKER"] = stack.enter_context(redis_server())
        for number in range(WORKERS):
            stack.enter_context(worker(number))
        queue = [sys.executable, "-m", "django", "dcr_renew", "--queue"]
        subprocess.run(queue, check=True, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _PATIENCE * minimum + _START
        while waiting(issuers) and time.monotonic() < deadline:
            time.sleep(0.5)
    with urllib.request.urlopen(f"{BASE}/moments") as answer:  # noqa: S310
        moments = json.load(answer)
    first = min(moments[issuer][0] for issuer in issuers)
    # Where some are still waiting, no server has had its last request.
    last = time.time() if waiting(issuers) else max(moments[issuer][-1] for issuer in issuers)
    print(last - first, minimum, max(busiest(moments[issuer], 60) for issuer in issuers))


def waiting(issuers: list[str]) -> int:
    rows = ClientRegistration.objects.filter(server__issuer__in=issuers)
    return rows.filter(client_secret_expires_at__lt=time.time() + 30 * DAY).count()


@contextmanager
def worker(number: int) -> Iterator[None]:
    command = [sys.executable, "-W", "ignore", "-m", "celery", "--quiet"]
    command += ["-A", "tests.benchmarks.settings", "worker", "--loglevel=WARNING"]
    command += ["--concurrency=1", f"--hostname=worker{number}", "--without-mingle"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-2000:])


if __name__ == "__main__":
    main()

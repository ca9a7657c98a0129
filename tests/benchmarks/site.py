"""A Django site that is measured: with this app, and the same done by Django and requests alone.

::

    python -m tests.benchmarks.site ROWS

makes the tables with so many registrations, and then does what it is asked for.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()

import requests  # noqa: E402
from cryptography.fernet import Fernet  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402

from django_dcr import services  # noqa: E402
from django_dcr.fields import digest  # noqa: E402
from django_dcr.models import AuthorizationServer, ClientRegistration  # noqa: E402
from tests.benchmarks.models import Bare  # noqa: E402
from tests.benchmarks.peers.answering import IN_FLIGHT, WISHES, Workload, answer  # noqa: E402
from tests.benchmarks.server import SECRET, TOKEN  # noqa: E402

BASE = os.environ["BENCHMARK_SERVER"]
SLOW, RENEWING = f"{BASE}/slow", f"{BASE}/renewing"
CALLBACK = WISHES["redirect_uris"][0]
DAY = 86_400
_PROCESSES = 2
_CHUNK = 5000

_fernet = Fernet(settings.DCR_ENCRYPTION_KEYS[0])
_numbers = itertools.count(1)
_thread = threading.local()


def fill(rows: int) -> None:
    """Make the tables, the rows of the servers, and so many registrations."""
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("admin")
    for issuer in (BASE, SLOW, RENEWING):
        services.discover(AuthorizationServer.objects.for_issuer(issuer))
    for start in range(0, rows, _CHUNK):
        _store(RENEWING, range(start, min(start + _CHUNK, rows)))


def _store(issuer: str, numbers: Iterable[int]) -> list[int]:
    """Store registrations as they are after registering; return their primary keys."""
    server = AuthorizationServer.objects.for_issuer(issuer)
    # Sealed once, and then moved into each row.
    sample = ClientRegistration(client_secret=SECRET, registration_access_token=TOKEN)
    rows = [
        Bare(
            server=server,
            owner=f"owner {number}",
            key_digest=digest(issuer, f"owner {number}"),
            status="active",
            requested_metadata=WISHES,
            metadata=WISHES,
            client_id=f"f{number}",
            client_digest=digest(issuer, f"f{number}"),
            client_secret=sample.client_secret.ciphertext,
            client_secret_expires_at=0,
            client_id_issued_at=1_700_000_000,
            registration_client_uri=f"{issuer}/register/f{number}",
            registration_access_token=sample.registration_access_token.ciphertext,
        )
        for number in numbers
    ]
    return [row.pk for row in Bare.objects.bulk_create(rows)]


def _repeated(act: Callable[[], object], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            act()

    return run


# -- with this app ---------------------------------------------------------------------------------


def hit(count: int) -> Callable[[], None]:
    def act() -> None:
        services.get_or_register(RENEWING, "owner 500").client_secret.reveal()

    return _repeated(act, count)


def discover(count: int) -> Callable[[], None]:
    server = AuthorizationServer.objects.for_issuer(BASE)
    return _repeated(partial(services.discover, server), count)


def sign(algorithm: str, count: int) -> Callable[[], None]:
    services.rotate_client_key(algorithm=algorithm)
    metadata = {
        **WISHES,
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": algorithm,
    }
    server = AuthorizationServer.objects.for_issuer(BASE)
    registration = ClientRegistration(server=server, client_id="c1", metadata=metadata)
    return _repeated(registration.client_authentication, count)


def check(count: int) -> Callable[[], None]:
    # Not at the top: hypothesis is large, and the others are measured without it.
    from tests.test_any_answer import check_answer, wide

    return _repeated(partial(check_answer, wide(300)), count)


def _register(server: AuthorizationServer) -> None:
    registration = ClientRegistration(server=server, owner=_owner(), requested_metadata=WISHES)
    services.register(registration)


def _owner() -> str:
    return f"process {os.getpid()} {next(_numbers)}"


def _managed(service: Callable[[ClientRegistration], object], count: int) -> Callable[[], None]:
    rows = ClientRegistration.objects.select_related("server")
    chosen = list(rows.filter(pk__in=_store(BASE, _fresh(count))))

    def run() -> None:
        for row in chosen:
            service(row)

    return run


def _fresh(count: int) -> list[int]:
    return [1_000_000 + next(_numbers) for _ in range(count)]


def renew(count: int) -> Callable[[], int]:
    """The command in a process, with so many rows about to expire; it says what they took."""
    few = _peak("dcr_renew")
    rows = ClientRegistration.objects.filter(server__issuer_digest=digest(RENEWING))
    keys = list(rows.order_by("pk").values_list("pk", flat=True)[:count])
    soon = int(time.time()) + DAY
    rows.filter(pk__range=(keys[0], keys[-1])).update(client_secret_expires_at=soon)
    return lambda: _peak("dcr_renew") - few


def _peak(command: str) -> int:
    """Run a command in a process; return the most memory that it had, in KiB."""
    process = [sys.executable, "-m", "tests.benchmarks.peak", command]
    return int(subprocess.run(process, check=True, stdout=subprocess.PIPE).stdout)


# -- without it ------------------------------------------------------------------------------------


def ceiling(count: int) -> Callable[[], None]:
    """What the server can do at most: requests through a bare socket, 16 on their way at once."""
    place = urlsplit(BASE)
    request = f"GET /register/c1 HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    connections = [socket.create_connection((place.hostname, place.port)) for _ in range(IN_FLIGHT)]

    def act() -> None:
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            connection.recv(4096)

    return _repeated(act, count // IN_FLIGHT)


def bare_hit(count: int) -> Callable[[], None]:
    key = digest(RENEWING, "f500")

    def act() -> None:
        _fernet.decrypt(Bare.objects.get(client_digest=key).client_secret)

    return _repeated(act, count)


def _bare_register(server: AuthorizationServer) -> None:
    owner = _owner()
    row = Bare.objects.create(
        server=server,
        owner=owner,
        key_digest=digest(server.issuer, owner),
        status="registering",
        requested_metadata=WISHES,
    )
    _save(row, _asked("POST", server.metadata["registration_endpoint"], WISHES))


def _asked(method: str, url: str, body: Any = None, token: str = "") -> Any:
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
        _thread.session.trust_env = False
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = _thread.session.request(method, url, json=body, headers=headers, timeout=10)
    response.raise_for_status()
    return response.json() if response.content else None


def _save(row: Bare, issued: dict[str, Any]) -> None:
    Bare.objects.filter(pk=row.pk).update(
        status="active",
        metadata=issued,
        client_id=issued["client_id"],
        client_digest=digest(BASE, issued["client_id"]),
        client_secret=_sealed(issued["client_secret"]),
        client_secret_expires_at=issued["client_secret_expires_at"],
        registration_client_uri=issued["registration_client_uri"],
        registration_access_token=_sealed(issued["registration_access_token"]),
    )


def _sealed(value: str) -> str:
    return _fernet.encrypt(value.encode()).decode()


def _bare_managed(methods: str, count: int) -> Callable[[], None]:
    rows = list(Bare.objects.filter(pk__in=_store(BASE, _fresh(count))))

    def run() -> None:
        for row in rows:
            _manage(row, methods.split())

    return run


def _manage(row: Bare, methods: list[str]) -> None:
    token = _fernet.decrypt(row.registration_access_token or "").decode().partition("\0")[2]
    for method in methods:
        body = {**WISHES, "client_id": row.client_id} if method == "PUT" else None
        issued = _asked(method, row.registration_client_uri, body, token)
    if issued:
        _save(row, issued)
    else:
        closed = Bare.objects.filter(pk=row.pk)
        closed.update(status="revoked", live=None, client_secret=None, client_digest=None)


# -- with either -----------------------------------------------------------------------------------


def _registered(
    act: Callable[[AuthorizationServer], None], count: int, issuer: str = BASE
) -> Callable[[], None]:
    return _repeated(partial(act, AuthorizationServer.objects.for_issuer(issuer)), count)


def _at_once(act: Callable[[AuthorizationServer], None], count: int) -> Callable[[], None]:
    return partial(_in_threads, act, count, IN_FLIGHT)


def _in_threads(act: Callable[[AuthorizationServer], None], count: int, threads: int) -> None:
    server = AuthorizationServer.objects.for_issuer(SLOW)
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(act, server) for _ in range(count)]
        for _ in range(threads):
            pool.submit(connections.close_all)
    for future in futures:
        future.result()


def _in_processes(count: int) -> Callable[[], None]:
    """The same in a few processes, which are there already."""
    connections.close_all()
    pool = ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("fork"))
    share, threads = count // _PROCESSES, IN_FLIGHT // _PROCESSES
    list(pool.map(time.sleep, [0.05] * _PROCESSES))

    def run() -> None:
        work = partial(_in_threads, _register)
        list(pool.map(work, [share] * _PROCESSES, [threads] * _PROCESSES))
        pool.shutdown()

    return run


def _cold(arguments: Callable[[], list[str]], count: int) -> Callable[[], None]:
    def act() -> None:
        command = [sys.executable, *arguments()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return _repeated(act, count)


def _command() -> list[str]:
    wishes = ["--set", "client_name=Benchmark", "--set", f"redirect_uris={CALLBACK}"]
    return ["-m", "django", "dcr_register", BASE, "--owner", _owner(), *wishes]


def _list(path: str, count: int) -> Callable[[], None]:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get())

    def act() -> None:
        assert client.get(f"/admin/{path}/").status_code == 200

    return _repeated(act, count)


WORKLOADS: dict[str, Workload] = {
    "ceiling": ceiling,
    "hit": hit,
    "raw hit": bare_hit,
    "discover": discover,
    "sign ES256": partial(sign, "ES256"),
    "sign RS256": partial(sign, "RS256"),
    "check": check,
    "register": partial(_registered, _register),
    "raw register": partial(_registered, _bare_register),
    "register at once": partial(_at_once, _register),
    "raw register at once": partial(_at_once, _bare_register),
    "register in processes": _in_processes,
    "read": partial(_managed, services.read),
    "raw read": partial(_bare_managed, "GET"),
    "update": partial(_managed, services.update),
    "raw update": partial(_bare_managed, "GET PUT"),
    "revoke": partial(_managed, services.revoke),
    "raw revoke": partial(_bare_managed, "DELETE"),
    "renew": renew,
    "cold": partial(_cold, _command),
    "raw cold": partial(_cold, lambda: ["-m", "tests.benchmarks.cold"]),
    "admin": partial(_list, "django_dcr/clientregistration"),
    "raw admin": partial(_list, "benchmarks/bare"),
}

if __name__ == "__main__":
    fill(int(sys.argv[1]))
    answer(WORKLOADS)

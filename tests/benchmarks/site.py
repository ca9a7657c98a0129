"""A Django site that is measured: with this app, and the same done by Django and requests alone.

::

    python -m tests.benchmarks.site ROWS [WORKLOADS]

makes the tables with so many registrations, none for 0, and then does what it is asked for. Or
it does these workloads, a list of pairs in JSON, each in a fork, and prints the forks' ids.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
django.setup()

from asgiref.sync import async_to_sync  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client, RequestFactory  # noqa: E402
from health_check.exceptions import ServiceUnavailable  # noqa: E402

from django_dcr import services, views  # noqa: E402
from django_dcr.contrib import health_check  # noqa: E402
from django_dcr.contrib.prometheus.metrics import Registrations  # noqa: E402
from django_dcr.exceptions import DCRError, NetworkError  # noqa: E402
from django_dcr.models import AuthorizationServer, ClientRegistration  # noqa: E402
from tests.benchmarks import raw  # noqa: E402
from tests.benchmarks.peers.answering import (  # noqa: E402
    IN_FLIGHT,
    PROCESSES,
    WISHES,
    Workload,
    answer,
)
from tests.benchmarks.stored import (  # noqa: E402
    BASE,
    OWNERS,
    REFUSING,
    RENEWING,
    SLOW,
    copy_server,
    issuer_of,
    let_expire,
    make,
    repeated,
    store,
)

FLEET, SILENT = 100, 5
_LIST = "/admin/django_dcr/clientregistration/"


def hit(mechanism: str, count: int) -> Callable[[], None]:
    owner = OWNERS[mechanism]
    issuer = issuer_of(owner)

    def act() -> None:
        secret = services.get_or_register(issuer, f"owner {owner}").client_secret
        if secret is not None:
            secret.reveal()

    return repeated(act, count)


def for_login(count: int) -> Callable[[], None]:
    owner = OWNERS["dynamic"]
    issuer = issuer_of(owner)
    return repeated(lambda: services.for_login(issuer, f"owner {owner}").client_secret, count)


def refused(count: int) -> Callable[[], None]:
    return _failing(partial(services.get_or_register, REFUSING, "o", metadata=WISHES), count)


def silent(count: int) -> Callable[[], None]:
    server = AuthorizationServer.objects.for_issuer(issuer_of(0))
    server.record_outage(NetworkError("It did not answer."), "register")
    return _failing(partial(services.get_or_register, server.issuer, "nobody"), count)


def _failing(act: Callable[[], object], count: int) -> Callable[[], None]:
    def fail() -> None:
        try:
            act()
        except DCRError:
            return
        raise AssertionError("It did not fail.")

    fail()  # once at the server, which is then remembered
    return repeated(fail, count)


def register(count: int) -> Callable[[], None]:
    return repeated(partial(_register, AuthorizationServer.objects.for_issuer(BASE)), count)


def _register(server: AuthorizationServer) -> None:
    owner = os.urandom(8).hex()
    registration = ClientRegistration(server=server, owner=owner, requested_metadata=WISHES)
    services.register(registration)


def managed(service: Callable[[ClientRegistration], object], count: int) -> Callable[[], None]:
    rows = ClientRegistration.objects.select_related("server")
    chosen = list(rows.filter(pk__in=store(BASE, count)))

    def run() -> None:
        for row in chosen:
            service(row)

    return run


def _in_threads(count: int, threads: int) -> None:
    server = AuthorizationServer.objects.for_issuer(SLOW)
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(_register, server) for _ in range(count)]
        for _ in range(threads):
            pool.submit(connections.close_all)
    for future in futures:
        future.result()


def in_processes(count: int) -> Callable[[], None]:
    """16 at once, in a few processes, which are there already."""
    connections.close_all()
    pool = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("fork"))
    share, threads = count // PROCESSES, IN_FLIGHT // PROCESSES
    list(pool.map(time.sleep, [0.05] * PROCESSES))

    def run() -> None:
        list(pool.map(_in_threads, [share] * PROCESSES, [threads] * PROCESSES))
        pool.shutdown()

    return run


def sign(count: int) -> Callable[[], None]:
    metadata = {
        **WISHES,
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "ES256",
    }
    server = AuthorizationServer.objects.for_issuer(BASE)
    registration = ClientRegistration(server=server, client_id="c1", metadata=metadata)
    return repeated(registration.client_authentication, count)


def document(count: int, etag: str = "") -> Callable[[], None]:
    slug = f"{OWNERS['metadata_document']:016d}"
    return _viewed(lambda request: views.client_document(request, slug), count, etag)


def unchanged_document(count: int) -> Callable[[], None]:
    slug = f"{OWNERS['metadata_document']:016d}"
    etag = views.client_document(RequestFactory().get("/"), slug)["ETag"]
    return document(count, etag)


def key_set(count: int) -> Callable[[], None]:
    return _viewed(views.jwks, count)


def _viewed(view: Callable[[Any], Any], count: int, etag: str = "") -> Callable[[], None]:
    request = RequestFactory().get("/", headers={"if-none-match": etag} if etag else {})
    assert view(request).status_code == (304 if etag else 200)
    return repeated(partial(view, request), count)


# -- many rows -------------------------------------------------------------------------------------


def page(query: str, count: int) -> Callable[[], None]:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get())

    def act() -> None:
        assert client.get(f"{_LIST}?{query}").status_code == 200

    return repeated(act, count)


def command(line: str, count: int) -> Callable[[], None]:
    def act() -> None:
        with Path(os.devnull).open("w") as nowhere, suppress(CommandError):
            call_command(*line.split(), stdout=nowhere, stderr=nowhere)

    return repeated(act, count)


def listing(count: int) -> Callable[[], None]:
    let_expire([RENEWING], 100)
    return command("dcr_list --expiring 7", count)


def renewing(count: int) -> Callable[[], None]:
    let_expire([RENEWING], count)
    return command("dcr_renew", 1)


def fleet(silent: int, count: int) -> Callable[[], None]:
    issuers = [f"{BASE}/silent{n}" for n in range(silent)]
    issuers += [f"{RENEWING}/s{n}" for n in range(FLEET - len(issuers))]
    for issuer in issuers:
        copy_server(issuer)
    let_expire(issuers, max(1, count // FLEET))
    return command("dcr_renew --workers 16", 1)


def scrape(count: int) -> Callable[[], None]:
    collector = Registrations()
    return repeated(lambda: list(collector.collect()), count)


def health(count: int) -> Callable[[], None]:
    def act() -> None:
        with suppress(ServiceUnavailable):
            async_to_sync(health_check.Registrations().run)()

    return repeated(act, count)


def reconcile(count: int) -> Callable[[], None]:
    services.reconcile()
    return repeated(services.reconcile, count)


def start(count: int, **environment: str) -> Callable[[], None]:
    process = [sys.executable, "-m", "django", "check"]
    env = {**os.environ, **environment}
    run = partial(subprocess.run, process, env=env, check=True, stdout=subprocess.DEVNULL)
    return repeated(run, count)


WORKLOADS: dict[str, Workload] = {
    **{f"hit {mechanism}": partial(hit, mechanism) for mechanism in OWNERS},
    **{f"raw hit {mechanism}": partial(raw.hit, mechanism) for mechanism in OWNERS},
    "for_login": for_login,
    "refused": refused,
    "silent": silent,
    "register": register,
    "raw register": raw.register,
    "register in processes": in_processes,
    "read": partial(managed, services.read),
    "raw read": partial(raw.managed, "read", "GET"),
    "update": partial(managed, services.update),
    "raw update": partial(raw.managed, "update", "GET PUT"),
    "revoke": partial(managed, services.revoke),
    "raw revoke": partial(raw.managed, "revoke", "DELETE"),
    "sign ES256": sign,
    "raw sign ES256": raw.sign,
    "document": document,
    "raw document": raw.document,
    "unchanged document": unchanged_document,
    "key set": key_set,
    "raw key set": raw.keys,
    "page": partial(page, ""),
    "status filter": partial(page, "status__exact=gone"),
    "mechanism filter": partial(page, "mechanism__exact=metadata_document"),
    "drift filter": partial(page, "has_drift__exact=1"),
    "expiry filter": partial(page, "expires=soon"),
    "server filter": partial(page, "server=7"),
    "owner search": partial(page, "q=owner+414"),
    "client search": partial(page, "q=client-414"),
    "list": listing,
    "renew": renewing,
    "fleet": partial(fleet, SILENT),
    "healthy fleet": partial(fleet, 0),
    "health": health,
    "scrape": scrape,
    "reconcile": reconcile,
    "check": start,
    "bare check": partial(start, WITHOUT_DCR="1"),
}


def forked(name: str, count: int) -> int:
    """Do one workload in a process of its own; return that one's id, or 0 where it failed."""
    connections.close_all()
    pid = os.fork()
    if pid:
        _pid, status = os.waitpid(pid, 0)
        return 0 if status else pid
    try:
        WORKLOADS[name](count)()
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    rows, *forks = sys.argv[1:]
    if int(rows):
        make(int(rows))
    if forks:
        for name, count in json.loads(forks[0]):
            print(forked(name, count), flush=True)
    else:
        answer(WORKLOADS)

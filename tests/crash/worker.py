"""A process of a site: it receives jobs and sends back what came of each.

An error that is neither this app's nor the database's is a crash.
"""

# ruff: noqa: S311
from __future__ import annotations

import io
import json
import os
import random
import secrets
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import django
import environ
import requests
from django.conf import settings

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import (  # noqa: E402
    DatabaseError,
    IntegrityError,
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)
from django.test import Client  # noqa: E402

from django_dcr import services  # noqa: E402
from django_dcr.exceptions import DCRError  # noqa: E402
from django_dcr.models import AuthorizationServer, ClientRegistration, Status  # noqa: E402
from django_dcr.models.clientkey import forget_keys  # noqa: E402
from django_dcr.services import operation  # noqa: E402

#: When, by the monotonic clock, this process looked again at what it waits for.
LOOKS: list[float] = []
#: How many seconds to wait for what somebody else is going to do.
PATIENCE = 600
# Set by main().
ISSUER = ""
PIPE: Connection = None  # type: ignore[assignment]


def get_or_register(owner: str) -> str:
    return services.get_or_register(ISSUER, owner).client_id


def get_or_register_many(owners: list[str]) -> Counter[str]:
    """Register a bulk; returns how many rows failed of what."""
    failed: Counter[str] = Counter()
    for owner in owners:
        try:
            services.get_or_register(ISSUER, owner)
        except DCRError as exc:
            failed[type(exc).__name__] += 1
    return failed


def register_inside_atomic(owner: str) -> None:
    with transaction.atomic():
        services.get_or_register(ISSUER, owner)


def discover(times: int) -> None:
    """Ask for the metadata so many times, as often as the server's rate allows."""
    server = AuthorizationServer.objects.get(issuer=ISSUER)
    for _ in range(times):
        services.discover(server, refresh=True)


def reconcile() -> list[int]:
    return [row.pk for row in services.reconcile()]


def decide() -> int:
    """Try again what is unknown or gone, as a person may; returns how many rows that were."""
    lost = ClientRegistration.objects.filter(status__in=[Status.UNKNOWN, Status.GONE])
    waiting = [row for row in lost.select_related("server") if not _has_newer(row)]
    for row in waiting:
        services.retry(row)
    return len(waiting)


def _has_newer(row: ClientRegistration) -> bool:
    return ClientRegistration.objects.filter(key_digest=row.key_digest, pk__gt=row.pk).exists()


def update_many(owner: str, times: int) -> Counter[str]:
    """Update one registration again and again; returns how that ended, each time."""
    ended: Counter[str] = Counter()
    rows = ClientRegistration.objects.select_related("server").filter(owner=owner)
    deadline = time.monotonic() + PATIENCE
    while times:
        row = rows.live().active().first()
        if row is None:
            if time.monotonic() > deadline:
                return ended + Counter({"no active row": 1})
            time.sleep(0.1)  # until a person has decided
            continue
        deadline = time.monotonic() + PATIENCE
        times -= 1
        row.requested_metadata = {"software_version": f"{os.getpid()}-{times}"}
        try:
            services.update(row)
            ended["done"] += 1
        except DCRError as exc:
            ended[type(exc).__name__] += 1
    return ended


def read_all() -> Counter[str]:
    """Read every active registration; returns how that ended."""
    ended: Counter[str] = Counter()
    for row in ClientRegistration.objects.active().select_related("server"):
        try:
            services.read(row)
            ended["done"] += 1
        except DCRError as exc:
            ended[type(exc).__name__] += 1
    return ended


def act(kind: str, owner: str) -> str:
    """Do one thing to the live registration of ``owner``."""
    row = ClientRegistration.objects.for_key(ISSUER, owner).live().first()
    if row is None:
        row = services.get_or_register(ISSUER, owner)
    if kind != "register":
        getattr(services, kind)(row)
    return str(row.status)


def act_through_outage(kind: str, owner: str, statement: int, seconds: float) -> dict[str, Any]:
    """The same, with no database from the given statement on, for so many seconds."""
    left, down_until = statement, 0.0

    def cut(execute: Any, *arguments: Any) -> Any:
        nonlocal left, down_until
        left -= 1
        if not left:
            down_until = time.monotonic() + seconds
        if time.monotonic() < down_until:
            raise OperationalError("unable to open database file")
        return execute(*arguments)

    with connections["default"].execute_wrapper(cut):
        try:
            ended = act(kind, owner)
        except (DCRError, DatabaseError) as exc:
            ended = type(exc).__name__
    return {"ended": ended, "reached": left <= 0}


def churn(acts: int, keys: int) -> dict[str, Any]:
    """Do anything to any of the keys; returns how that ended, and bytes of memory grown by."""
    ended: Counter[str] = Counter()
    before = 0
    for number in range(acts):
        if number == acts // 5:  # all modules and caches are there
            before = _memory()
        act = random.choice(list(ACTS))
        try:
            ACTS[act](f"key {random.randrange(keys)}")
            ended[f"{act}: done"] += 1
        except DCRError as exc:
            ended[f"{act}: {type(exc).__name__}"] += 1
    return {"ended": ended, "grown": _memory() - before}


def _live(owner: str) -> ClientRegistration:
    return services.get_or_register(ISSUER, owner)


def _update(owner: str) -> None:
    row = _live(owner)
    row.requested_metadata = {"software_version": str(random.random())}
    services.update(row)


def _decide(owner: str) -> None:
    """What a person does with a registration in doubt: mostly try again, sometimes forget."""
    lost = ClientRegistration.objects.for_key(ISSUER, owner).filter(
        status__in=[Status.UNKNOWN, Status.GONE]
    )
    row = lost.select_related("server").last()
    if row is not None and not _has_newer(row):
        if random.random() < 0.2:
            services.revoke(row, forget=True)
        else:
            services.retry(row)


ACTS = {
    "get": _live,
    "read": lambda owner: services.read(_live(owner)),
    "update": _update,
    "renew": lambda owner: services.renew(_live(owner)),
    "revoke": lambda owner: services.revoke(_live(owner)),
    "decide": _decide,
    "reconcile": lambda owner: random.random() < 0.1 and services.reconcile(),
}


def jostle(acts: int, keys: int) -> Counter[str]:
    """Insert, close and replace rows of a few keys; returns how that ended."""
    ended: Counter[str] = Counter()
    server = AuthorizationServer.objects.for_issuer(ISSUER)
    for _ in range(acts):
        act = random.choice([_insert, _clear, _succeed, _replace])
        try:
            ended[f"{act.__name__}: {act(server, f'key {random.randrange(keys)}')}"] += 1
        except IntegrityError:  # another was faster
            ended[f"{act.__name__}: IntegrityError"] += 1
    return ended


def _insert(server: AuthorizationServer, owner: str) -> None:
    ClientRegistration(server=server, owner=owner).insert(task="register")


def _clear(server: AuthorizationServer, owner: str) -> bool | None:
    row = ClientRegistration.objects.for_key(ISSUER, owner).live().first()
    return row and row.claim(*Status) and row.clear()


def _succeed(server: AuthorizationServer, owner: str) -> bool:
    row = ClientRegistration.objects.for_key(ISSUER, owner).live().first()
    return row is not None and bool(row.successor())


def _replace(server: AuthorizationServer, owner: str) -> bool | None:
    row = ClientRegistration.objects.for_key(ISSUER, owner).live().first()
    successor = ClientRegistration(server=server, owner=owner, live=None)
    successor.client_id = secrets.token_hex(8)
    successor.insert(task="register")
    return row and row.claim(*Status) and successor.replace(row)


def rotate_keys(check: bool = False) -> dict[str, Any]:
    """Run the command; returns its report, but for the unreadable values."""
    out = io.StringIO()
    call_command("dcr_rotate_keys", check=check, format="json", stdout=out, stderr=io.StringIO())
    report: dict[str, Any] = json.loads(out.getvalue())
    return {name: value for name, value in report.items() if name != "unreadable"}


def rotate_client_keys() -> None:
    call_command("dcr_client_keys", rotate=True, stdout=io.StringIO())


def ask_for_tokens(issuer: str, times: int) -> Counter[str]:
    """Authenticate at the token endpoint so many times; returns how that ended."""
    ended: Counter[str] = Counter()
    for _ in range(times):
        forget_keys()  # as if the minute had passed for which a process remembers them
        row = services.for_login(issuer)
        headers, form = row.client_authentication()
        answer = requests.post(
            row.server.metadata["token_endpoint"],
            headers=headers,
            data={**form, "grant_type": "client_credentials"},
            timeout=PATIENCE,
        )
        ended[answer.text if answer.status_code != 200 else "issued"] += 1
    return ended


def reveal_until_told(rows: int) -> dict[str, int]:
    """Read secrets of rows at random until the pipe brings a word."""
    read = failed = 0
    while not PIPE.poll():
        row = ClientRegistration.objects.get(owner=f"key {random.randrange(rows)}")
        try:
            row.client_secret.reveal()
            row.registration_access_token.reveal()
            read += 1
        except DCRError:
            failed += 1
    PIPE.recv()
    return {"read": read, "failed": failed}


def change_secrets(rows: int, changes: int, within: float) -> dict[str, str]:
    """Store new secrets, spread over so many seconds; returns the newest of each owner."""
    newest = {}
    for number in range(changes):
        row = ClientRegistration.objects.get(owner=f"key {random.randrange(rows)}")
        row.client_secret = newest[row.owner] = f"changed {number}"
        row.save(update_fields=["client_secret"])
        time.sleep(within / changes)
    return newest


def reveal_all(rows: int, newest: dict[str, str]) -> int:
    """Compare every secret with what was stored last; returns how many were right."""
    right = 0
    for row in ClientRegistration.objects.all():
        number = row.owner.split()[1]
        right += row.client_secret.reveal() == newest.get(row.owner, f"secret {number}")
        right += row.registration_access_token.reveal() == f"token {number}"
    return right


def save_all() -> int:
    """Save every row as it is; returns how many."""
    rows = list(ClientRegistration.objects.select_related("server"))
    for row in rows:
        row.last_error = "seen"
        row.save()
    return len(rows)


def open_list_page() -> int:
    """Open the list of registrations in the admin; returns the status."""
    person, _created = User.objects.get_or_create(
        username="admin", is_staff=True, is_superuser=True
    )
    browser = Client()
    browser.force_login(person)
    return browser.get("/admin/django_dcr/clientregistration/").status_code


def _memory() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


JOBS = {
    job.__name__: job
    for job in (
        act,
        act_through_outage,
        get_or_register,
        get_or_register_many,
        register_inside_atomic,
        discover,
        reconcile,
        decide,
        update_many,
        read_all,
        churn,
        jostle,
        rotate_keys,
        rotate_client_keys,
        ask_for_tokens,
        reveal_until_told,
        change_secrets,
        reveal_all,
        save_all,
        open_list_page,
    )
}


class NotedPauses:
    """Stands in for the module ``time`` where this app waits, and notes when a pause is over."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        LOOKS.append(time.monotonic())


def main(pipe: Connection, database: str, issuer: str, changes: dict[str, Any]) -> None:
    """Do jobs until the pipe is closed."""
    globals().update(ISSUER=issuer, PIPE=pipe)
    operation.time = NotedPauses  # type: ignore[attr-defined]
    use_database(database)
    for name, value in changes.items():
        setattr(settings, name, value)
    try:
        while True:
            pipe.send(_done(**pipe.recv()))
    except EOFError:
        pass
    except Exception:  # noqa: BLE001
        pipe.send({"crash": traceback.format_exc()})


def use_database(url: str) -> None:
    """Forget the present connection, and make the next one there."""
    elsewhere = connections["default"].settings_dict
    del connections["default"]
    connections.settings["default"] = {**elsewhere, **environ.Env.db_url_config(url)}


def _done(job: str, at: float, **arguments: Any) -> dict[str, Any]:
    close_old_connections()  # as before each request
    time.sleep(max(0, at - time.monotonic()))
    LOOKS.clear()
    started = time.monotonic()
    try:
        outcome = {"value": JOBS[job](**arguments)}
    except (DCRError, DatabaseError, CommandError) as exc:
        outcome = {"error": type(exc).__name__, "text": str(exc)}
    ended = time.monotonic()
    return {**outcome, "took": ended - started, "ended": ended, "looks": LOOKS[-2:]}

"""What is measured, beside what, and what of it is aimed at."""

from __future__ import annotations

from dataclasses import dataclass

#: Where our rows are; the peers have SQLite of their own.
DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Workload:
    """One line of the table: ours may take so many times what something else takes.

    The names are those by which the processes know what to do. ``many`` has as many rows as the
    run has, ``thousand`` a thousand, ``few`` as many at first. ``plus`` are seconds that ours may
    take besides, in all.
    """

    name: str
    title: str
    ours: str
    other: str
    beside: str
    at_most: float
    count: int
    costs: str = ""
    process: str = "few"
    other_process: str = "few"
    plus: float = 0
    #: At most; the workload is measured otherwise where it has none.
    rounds: int = 1000
    #: Operations under cachegrind, fewer and more; none where a slope says nothing.
    instructions: tuple[int, ...] = ()


_GET = '`select_related("server").get()` and the same decryption'
_ROWS = "`requests` and the same ORM writes"
_SMALL = "the same with 1,000 rows"

_HIT_COSTS = "nothing: its SQL is written once, where Django compiles it each time"


def _hit(mechanism: str, title: str) -> Workload:
    name = f"hit {mechanism}"
    raw = f"raw {name}"
    return Workload(name, title, name, raw, _GET, 0.5, 300, _HIT_COSTS, instructions=(10, 40))


def _managed(name: str, costs: str) -> Workload:
    raw = f"raw {name}"
    return Workload(name, f"{name}()", name, raw, _ROWS, 1.5, 200, costs, instructions=(10, 40))


def _grown(name: str, title: str, count: int, costs: str = "") -> Workload:
    """Among very many rows, beside the same work among a thousand."""
    return Workload(
        f"grown {name}", title, name, name, _SMALL, 1.3, count, costs, "many", "thousand"
    )


JOBS = Workload(
    "jobs",
    "dcr_renew --queue at 10 servers of 60 requests a minute, 4 workers of Celery",
    "",
    "",
    "what the rate allows, until the last server is done",
    1.2,
    500,
    "all workers together keep to the rate of each server; its requests a minute are below",
    rounds=0,
)

WORKLOADS = (
    _hit("dynamic", "a hit, the secret revealed"),
    _hit("pre_registered", "a hit of an adopted client, the secret revealed"),
    _hit("metadata_document", "a hit of a document, which has no secret"),
    Workload(
        "for_login",
        "for_login() with fresh metadata",
        "for_login",
        "hit dynamic",
        "a hit",
        1.3,
        300,
        "the addresses that a login uses are checked (promise 4)",
        instructions=(10, 40),
    ),
    Workload(
        "refused",
        "a remembered refusal",
        "refused",
        "hit dynamic",
        "a hit",
        1.5,
        300,
        "a digest tells whether the refused request has changed since",
        instructions=(10, 40),
    ),
    Workload(
        "silent",
        "a server that is known to be silent",
        "silent",
        "hit dynamic",
        "a hit",
        1.5,
        300,
        "a second query, for the server: there is no registration",
        instructions=(10, 40),
    ),
    _managed(
        "register",
        "metadata and answer are checked, new credentials have a transaction of their own "
        "(promises 1, 2)",
    ),
    _managed("read", "one process at a time (promise 3), the answer is checked"),
    _managed("update", "one process at a time (promise 3), both answers are checked"),
    _managed("revoke", "one process at a time (promise 3), credentials are wiped"),
    Workload(
        "in flight",
        "16 registrations in flight in 2 processes, of a server that takes 20 ms",
        "register in processes",
        "MCP Python SDK: register at once",
        "the MCP Python SDK and an insert into SQLite, in 2 processes",
        1.2,
        1000,
        "three writes for its one: an intent before each request (promise 1), client, event",
        other_process="MCP Python SDK",
    ),
    Workload(
        "assertion",
        "client_authentication() with a key, ES256",
        "sign ES256",
        "raw sign ES256",
        "the bare signature",
        1.5,
        300,
        "header and claims are made, and the key that signs now is looked up",
        instructions=(10, 40),
    ),
    Workload(
        "document",
        "the client's document",
        "document",
        "raw document",
        "a bare view of the same JSON",
        1.5,
        200,
        "an ETag, `Cache-Control` and CORS",
        instructions=(10, 40),
    ),
    Workload(
        "key set",
        "the key set",
        "key set",
        "raw key set",
        "a bare view of the same JSON",
        1.5,
        200,
        "an ETag, `Cache-Control` and CORS",
        instructions=(10, 40),
    ),
    Workload(
        "unchanged document",
        "the client's document, unchanged: 304",
        "unchanged document",
        "document",
        "the whole document",
        1.1,
        200,
    ),
    Workload(
        "fleet",
        "dcr_renew at 100 servers, 5 of them silent, 16 workers",
        "fleet",
        "healthy fleet",
        "the same without those 5",
        1.3,
        10_000,
        "two time-outs of 2 s for each silent server",
        plus=4,
        rounds=1,
    ),
    JOBS,
    _grown("hit dynamic", "a hit", 300),
    _grown("page", "the admin's first page", 10),
    _grown("status filter", "its filter by state", 10),
    _grown("mechanism filter", "its filter by mechanism", 10),
    _grown("drift filter", "its filter by drift", 10),
    _grown("expiry filter", "its filter by expiry", 10),
    _grown("server filter", "its filter by server", 10),
    _grown("owner search", "its search for an owner", 10),
    _grown("client search", "its search for a client ID", 10),
    _grown("list", "dcr_list --expiring 7, of the 100 that are due", 3),
    _grown("renew", "dcr_renew, of the 1,000 that are due", 1000),
    _grown("reconcile", "dcr_reconcile, with nothing to do", 3),
    _grown("health", "the health check", 20),
    _grown("scrape", "the metrics' scrape", 5, "every row is counted, though in the index alone"),
    Workload(
        "start",
        "manage.py check",
        "check",
        "bare check",
        "the same project without the app",
        1.0,
        1,
        "models, checks and admin are imported; requests is not",
        plus=0.06,
    ),
)


@dataclass(frozen=True)
class Peer:
    """Another client, beside ours: a matter of orientation, without an aim."""

    name: str
    title: str
    process: str
    does: str
    ours: str
    count: int


_FORGE, _FAST = "ContextForge", "ContextForge without Argon2"
_REGISTER, _AT_ONCE = "register", "register in processes"

PEERS = (
    Peer("hit", _FAST, _FORGE, "hit without Argon2", "hit dynamic", 200),
    Peer("hit", _FORGE, _FORGE, "hit", "hit dynamic", 2),
    Peer("register", "oauth4webapi", "oauth4webapi", _REGISTER, _REGISTER, 200),
    Peer("register", "MCP Python SDK", "MCP Python SDK", _REGISTER, _REGISTER, 200),
    Peer("register", "idpyoidc", "idpyoidc", _REGISTER, _REGISTER, 50),
    Peer("register", _FAST, _FORGE, "register without Argon2", _REGISTER, 10),
    Peer("register", _FORGE, _FORGE, _REGISTER, _REGISTER, 1),
    Peer("in flight", "oauth4webapi", "oauth4webapi", "register at once", _AT_ONCE, 1000),
)

#: Commands whose peak of memory is measured among the many rows, in MiB; beside them Django's own.
MEMORY = 70
COMMANDS = (
    "check",
    "dcr_list",
    "dcr_list --format json",
    "dcr_list --expiring 7",
    "dcr_renew --dry-run",
    "dcr_reconcile",
    "dcr_rotate_keys --check",
    "dcr_read --all --dry-run",
    "dcr_update --all --dry-run",
    "dcr_replace --all --dry-run",
    "dcr_revoke --all --dry-run",
)
#: A command that works row by row is stopped after so many seconds.
MAX_SECONDS = 75

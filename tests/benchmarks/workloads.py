"""What is measured, of whom, and what of it is aimed at."""

from __future__ import annotations

from dataclasses import dataclass

#: Where our rows are; the peers have SQLite of their own.
DATABASES = ("sqlite", "postgresql")
OURS = "django-dcr"


@dataclass(frozen=True)
class Contestant:
    """Who does a workload: the process, the name it knows the workload by, operations a round."""

    title: str
    process: str
    name: str
    count: int
    databases: tuple[str, ...] = DATABASES


@dataclass(frozen=True)
class Target:
    """Ours may take at most so many times what another takes."""

    other: str
    at_most: float
    who: str = OURS


@dataclass(frozen=True)
class Workload:
    title: str
    contestants: tuple[Contestant, ...]
    targets: tuple[Target, ...] = ()
    microseconds: float = 0  # how long ours may take, where that counts
    memory: float = 0  # how much ours may grow by, in MiB, where that counts


def _peer(title: str, name: str, count: int) -> Contestant:
    process = title.removesuffix(" without Argon2")
    return Contestant(title, process, name, count, ("",))


def _pair(
    title: str,
    name: str,
    count: int,
    at_most: float,
    *peers: Contestant,
    ahead: tuple[Target, ...] = (),
) -> Workload:
    """Ours beside the same done by hand, which it may take so many times as long as."""
    ours = Contestant(OURS, "few", name, count)
    limit = Contestant(_RAW, "few", f"raw {name}", count)
    return Workload(title, (ours, limit, *peers), (Target(_RAW, at_most), *ahead))


_FORGE, _FAST_FORGE = "ContextForge", "ContextForge without Argon2"
_MCP, _NODE, _IDPYOIDC = "MCP Python SDK", "oauth4webapi", "idpyoidc"
_RAW = "requests and ORM"
_PROCESSES = f"{OURS}, 2 processes"

#: What the server can do at most, asked through a bare socket.
CEILING = Workload(
    "The server's ceiling", (Contestant("bare socket", "few", "ceiling", 2000, ("sqlite",)),)
)

WORKLOADS = (
    Workload(
        "hit: get_or_register, and the secret in clear",
        (
            Contestant(OURS, "few", "hit", 500),
            Contestant("bare get() and decrypt", "few", "raw hit", 500),
            _peer(_FAST_FORGE, "hit without Argon2", 200),
            _peer(_FORGE, "hit", 2),
        ),
        (
            Target("bare get() and decrypt", 1.2),
            Target(_FAST_FORGE, 0.5),
            Target(_FORGE, 0.001),
        ),
    ),
    Workload(
        "hit among many rows",
        (Contestant(OURS, "many", "hit", 500), Contestant("among 1,000 rows", "few", "hit", 500)),
        (Target("among 1,000 rows", 1.2),),
    ),
    Workload(
        "discover, the row being fresh",
        (Contestant(OURS, "few", "discover", 2000),),
        microseconds=20,
    ),
    _pair(
        "register, one after the other",
        "register",
        300,
        1.4,
        _peer(_NODE, "register", 300),
        _peer(_MCP, "register", 300),
        _peer(_IDPYOIDC, "register", 300),
        _peer(_FAST_FORGE, "register without Argon2", 10),
        _peer(_FORGE, "register", 1),
        ahead=(Target(_IDPYOIDC, 1), Target(_FAST_FORGE, 1)),
    ),
    _pair(
        "register, 16 at once, of a server that takes 20 ms",
        "register at once",
        2000,
        1 / 0.75,
        Contestant(_PROCESSES, "few", "register in processes", 2000),
        _peer(_NODE, "register at once", 2000),
        _peer(_MCP, "register at once", 2000),
        _peer(_FAST_FORGE, "register at once without Argon2", 48),
        ahead=(Target(_MCP, 1, _PROCESSES),),
    ),
    _pair("read", "read", 300, 1.4),
    _pair("update", "update", 300, 1.4),
    _pair("revoke", "revoke", 300, 1.4),
    Workload(
        "dcr_renew, 1,000 rows about to expire",
        (
            Contestant(OURS, "many", "renew", 1000),
            Contestant("of 1,000 rows", "few", "renew", 1000),
        ),
        (Target("of 1,000 rows", 1.2),),
        memory=20,
    ),
    Workload(
        "dcr_register, a new process",
        (
            Contestant(OURS, "few", "cold", 3),
            Contestant("django.setup(), requests", "few", "raw cold", 3),
        ),
        (Target("django.setup(), requests", 1.25),),
    ),
    Workload(
        "client_authentication() with a key, ES256",
        (
            Contestant(OURS, "few", "sign ES256", 500),
            Contestant("RS256", "few", "sign RS256", 200),
        ),
        microseconds=500,
    ),
    Workload(
        "check an answer of 300 odd members",
        (Contestant(OURS, "few", "check", 50),),
        microseconds=50_000,
    ),
    Workload(
        "the admin's list",
        (
            Contestant(OURS, "many", "admin", 5),
            Contestant("a bare ModelAdmin", "many", "raw admin", 5),
        ),
        (Target("a bare ModelAdmin", 1.5),),
    ),
)

"""How large a site can get: what its database, its workers and its servers see in a day.

::

    python -m tests.benchmarks.simulation [--tenants N] [--servers N] [--logins N] [--workers N]
        [--rate N] [--timeout S] [--lifetime DAYS] [--measured docs/benchmarks.json]
        [--write docs/scale.md]

On paper, from what one operation takes; see docs/scale.md. With ``--measured``, what one takes is
what ``make bench`` has found, and a run that it has measured is predicted as well.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEGIN = "<!-- The text up to the next mark is written by `make scale`. -->\n"
END = "<!-- From here on by hand. -->\n"
HOUR, DAY = 3600, 86_400
MAX_SILENCES = 2  # of runs.py
BACKOFF, LONGEST = 30.0, 3600.0


@dataclass
class Site:
    """A site, and what one of its operations takes: seconds, but for counts."""

    tenants: int = 10_000
    servers: int = 500
    #: Logins of each tenant between nine and ten.
    logins: int = 20
    workers: int = 16
    #: ``requests_per_minute`` of each server, 0 for no limit.
    rate: int = 0
    timeout: float = 10.0
    #: Of a secret, in days, and how many of them before its end it is renewed.
    lifetime: float = 90.0
    renew_before: float = 7.0
    metadata_ttl: float = 3600.0
    #: How long a server takes for one request.
    latency: float = 0.1
    #: What a renewal keeps the interpreter, and a hit the database, busy for.
    renewal: float = 0.006
    hit: float = 0.0006

    def logins_a_second(self) -> float:
        """In the busiest minute, for people come in a bell curve around a quarter past."""
        times = random.Random(9)  # noqa: S311
        seconds = (times.gauss(HOUR / 4, HOUR / 8) for _ in range(self.tenants * self.logins))
        minutes: dict[int, int] = {}
        for second in seconds:
            minutes[int(second // 60)] = minutes.get(int(second // 60), 0) + 1
        return max(minutes.values()) / 60

    def renewals_a_day(self) -> float:
        return self.tenants / (self.lifetime - self.renew_before)

    def run(self, rows: int, *, silent: int = 0) -> float:
        """How long ``dcr_renew`` takes for so many rows, evenly at all servers."""
        healthy = rows * (1 - silent / self.servers)
        # Threads wait for servers together, and for the interpreter one after the other.
        work = max(
            healthy * self.renewal, healthy * (self.renewal + 2 * self.latency) / self.workers
        )
        if self.rate:  # three requests may follow each other at once
            work = max(work, (2 * rows / self.servers - 3) * 60 / max(self.rate - 2, 1))
        return work + math.ceil(MAX_SILENCES * silent / self.workers) * self.timeout

    def attempts_while_down(self, seconds: float) -> int:
        """How many requests a server gets that answers none, however many people log in."""
        count, at = 0, 0.0
        while at < seconds:
            count, at = count + 1, at + self.timeout + min(BACKOFF * 2**count, LONGEST)
        return count

    def lines(self) -> Iterator[tuple[str, str, str]]:
        logins, renewals = self.logins_a_second(), self.renewals_a_day()
        queries = 2 * logins  # one where a login begins, and one where it comes back
        all_at_once = self.run(self.tenants)
        down = self.attempts_while_down(HOUR)
        yield "logins in the busiest minute", f"{logins:,.0f} a second", ""
        yield "queries for them", f"{queries:,.0f} a second", "for_login() once a request"
        yield "processors busy with them", f"{queries * self.hit:.2f}", "of the site's"
        refreshes = self.servers / self.metadata_ttl
        yield "metadata fetched", f"{refreshes:.2f} a second", "DCR_METADATA_TTL"
        yield "renewals", f"{renewals:,.0f} a day", "DCR_RENEW_BEFORE"
        yield "the daily dcr_renew", _duration(self.run(math.ceil(renewals))), "--workers"
        yield "all secrets at once", _duration(all_at_once), "--workers, requests_per_minute"
        yield "requests to one server then", f"{2 * self.tenants / self.servers:,.0f}", ""
        yield "requests to a server that is down for an hour", f"{down}", "DCR_BACKOFF"
        waiting = down * self.timeout
        yield "people who wait for it", f"{down}, {waiting:.0f} s in all", "DCR_TIMEOUT"
        late = self.run(math.ceil(renewals), silent=1) - self.run(math.ceil(renewals))
        yield "the daily dcr_renew meanwhile", f"{late:.0f} s more", "DCR_TIMEOUT"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def measured_costs(figures: dict[str, Any]) -> dict[str, float]:
    """What a hit and a renewal take, in seconds, on the slower of the databases."""
    hits = [
        pairs for key, pairs in figures["microseconds"].items() if key.startswith("hit dynamic")
    ]
    hit = max(statistics.median(ours for ours, _ in pairs) for pairs in hits)
    renewals = [pairs for key, pairs in figures["microseconds"].items() if key.startswith("fleet")]
    renewal = max(statistics.median(healthy for _, healthy in pairs) for pairs in renewals)
    return {"hit": hit / 1_000_000, "renewal": renewal / 1_000_000}


def predicted(figures: dict[str, Any]) -> tuple[float, float]:
    """Seconds predicted and measured, of renewals at 100 servers of which 5 are silent.

    From the same renewals where none is silent.
    """
    rows = figures["counts"]["fleet"]
    [(with_silent, healthy), *_] = figures["microseconds"]["fleet / sqlite"]
    site = Site(servers=100, timeout=2.0, latency=0.0005, renewal=healthy / 1_000_000)
    return site.run(rows, silent=5), with_silent * rows / 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulation")
    for name in ("tenants", "servers", "logins", "workers", "rate"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Site, name))
    for name in ("timeout", "lifetime"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Site, name))
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--write", type=Path, help="the document whose table this is")
    options = vars(parser.parse_args())
    measured, document = options.pop("measured"), options.pop("write")
    figures = json.loads(measured.read_text()) if measured else None
    site = Site(**options, **(measured_costs(figures) if figures else {}))
    text = "| what is seen | how much | what changes it |\n|---|---|---|\n"
    text += "".join(f"| {' | '.join(line)} |\n" for line in site.lines())
    if figures:
        guess, seen = predicted(figures)
        text += (
            f"\nA hit takes {site.hit * 1000:.1f} ms here, a renewal {site.renewal * 1000:.1f} ms. "
            f"From the latter, {figures['counts']['fleet']:,} renewals at 100 servers, 5 of them "
            f"silent, were predicted to take {guess:.0f} s; they took {seen:.0f} s.\n"
        )
    print(text)
    if document:
        before, rest = document.read_text().split(BEGIN)
        after = rest.split(END)[1]
        document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()

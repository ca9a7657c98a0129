"""What is counted: the registrations in the database, and the exchanges of this process.

No label has a secret or an owner, and the number of labels is limited: issuers beyond the
``MAX_ISSUERS`` with most registrations are counted together, as "other".
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.db import Error, connections, router
from django.db.models import BigIntegerField, Case, Count, F, Min, OuterRef, Subquery, When
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from django_dcr.logs import log
from django_dcr.models import AuthorizationServer, ClientRegistration, Status
from django_dcr.signals import exchanged
from django_dcr.text import clean

#: How many issuers have labels of their own.
MAX_ISSUERS = 100
OTHER = "other"

_MAX_LABEL = 200  # characters
# In seconds: a fast server answers within the first, and the last but one is DCR_TIMEOUT's default.
_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Registrations(Collector):
    """The registrations in the database, counted at each scrape by one query.

    Every process of a site sees the same, so take them from one, or as ``max``.
    """

    def describe(self) -> list[Metric]:
        """Return the metrics without samples, and without a query."""
        return list(_families())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without samples where the database does not answer."""
        count, expiry, expired = families = _families()
        try:
            _close_old_connection()
            rows = list(counts())
            _close_old_connection()
        except Error as exc:
            log("not_counted", "The registrations were not counted: %s", clean(exc, 200))
            rows = []
        issuers = _labels(rows)
        now = time.time()
        for (issuer, status, mechanism), number in _summed(rows, issuers).items():
            count.add_metric([issuer, status, mechanism], number)
        for issuer in sorted(set(issuers.values())):
            own = [row for row in rows if issuers[row["server_id"]] == issuer]
            expired.add_metric([issuer], sum(row["expired"] for row in own))
            ends = [row["ends"] for row in own if row["ends"] is not None]
            if ends:
                expiry.add_metric([issuer], min(ends) - now)
        yield from families


def counts() -> Any:
    """Return a row per server, status and mechanism, from an index alone."""
    secrets_end = {"live": True, "status": Status.ACTIVE, "client_secret_expires_at__gt": 0}
    end = F("client_secret_expires_at") + F("clock_offset")
    has_expired = {"client_secret_expires_at__lte": int(time.time()) - F("clock_offset")}
    issuer = AuthorizationServer.objects.filter(pk=OuterRef("server_id")).values("issuer")
    groups = ClientRegistration.objects.order_by().values("server_id", "status", "mechanism")
    return groups.annotate(
        number=Count("*"),
        ends=Min(Case(When(**secrets_end, then=end), output_field=BigIntegerField())),
        expired=Count(Case(When(**secrets_end, **has_expired, then=1))),
    ).annotate(issuer=Subquery(issuer[:1]))


def _close_old_connection() -> None:
    """Do what Django does around a request, since a scrape may not be one."""
    connection = connections[router.db_for_read(ClientRegistration)]
    if not connection.in_atomic_block:  # which Django does not check
        connection.close_if_unusable_or_obsolete()


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "dcr_registrations",
            "Client registrations, past ones included.",
            labels=["issuer", "status", "mechanism"],
        ),
        GaugeMetricFamily(
            "dcr_secret_expiry_seconds",
            "Seconds until the next client secret in use expires; negative since it has.",
            labels=["issuer"],
        ),
        GaugeMetricFamily(
            "dcr_secrets_expired", "Client secrets in use that have expired.", labels=["issuer"]
        ),
    )


def _labels(rows: list[dict[str, Any]]) -> dict[int, str]:
    """The label of each server, by its primary key."""
    totals: Counter[int] = Counter()
    for row in rows:
        totals[row["server_id"]] += row["number"]
    shown = {pk for pk, _total in totals.most_common(MAX_ISSUERS)}
    return {
        row["server_id"]: clean(row["issuer"], _MAX_LABEL) if row["server_id"] in shown else OTHER
        for row in rows
    }


def _summed(rows: list[dict[str, Any]], issuers: dict[int, str]) -> Counter[tuple[str, str, str]]:
    sums: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        sums[issuers[row["server_id"]], row["status"], row["mechanism"]] += row["number"]
    return sums


def register(registry: CollectorRegistry) -> None:
    """Add the registrations, and this process's exchanges from now on, to ``registry``."""
    registry.register(Registrations())
    seconds = Histogram(
        "dcr_exchange_seconds",
        "Requests to authorization servers, by step and outcome.",
        labelnames=["step", "outcome"],
        buckets=_BUCKETS,
        registry=registry,
    )

    def observe(*, step: str, outcome: str, duration: float, **_others: Any) -> None:
        seconds.labels(step or OTHER, outcome).observe(duration)

    exchanged.connect(observe, weak=False, dispatch_uid=id(registry))

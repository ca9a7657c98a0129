"""Metrics: what they say, what they cost, and that page and dashboard name no others."""

from __future__ import annotations

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import AppConfig
from django.db import OperationalError, connection
from django.test import Client

from django_dcr.exceptions import DCRError
from django_dcr.mechanisms import Mechanism
from django_dcr.models import AuthorizationServer, ClientRegistration, Status
from django_dcr.services import get_or_register, read
from django_dcr.signals import OUTCOMES, exchanged
from django_dcr.testing import AuthorizationServer as FakeServer
from tests.contrib.documentation import documented
from tests.factories import ISSUER, WISHES, make_draft, make_registration, make_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import DjangoAssertNumQueries, Settings

pytest.importorskip("prometheus_client")

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from django_dcr.contrib.prometheus import metrics

pytestmark = pytest.mark.django_db

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    metrics.register(registry)
    yield registry
    exchanged.disconnect(dispatch_uid=id(registry))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_registrations_are_counted_by_issuer_state_and_mechanism(
    registry: CollectorRegistry,
) -> None:
    row = make_registration()
    make_draft(server=row.server, owner="a")
    make_draft(server=row.server, owner="b", status="unknown")
    make_draft(server=row.server, owner="c", status="unknown")
    make_draft(server=make_server(issuer="https://other.example"))

    def count(status: str, issuer: str = ISSUER) -> float | None:
        labels = {"issuer": issuer, "status": status, "mechanism": "dynamic"}
        return value(registry, "dcr_registrations", **labels)

    assert [count("active"), count("draft"), count("unknown")] == [1, 1, 2]
    assert count("draft", "https://other.example") == 1
    assert count("gone") is None


def test_the_next_expiry_is_that_of_a_secret_in_use_by_this_sites_clock(
    registry: CollectorRegistry,
) -> None:
    now = int(time.time())
    row = make_registration(client_secret_expires_at=now + 5000, clock_offset=-1000)
    values = {"server": row.server, "client_id": "c2"}
    make_registration(owner="a", client_secret_expires_at=now + 9000, **values)
    past = {"live": None, "client_digest": None, "status": "gone"}
    make_registration(owner="b", client_secret_expires_at=now - 9000, **values, **past)
    left = value(registry, "dcr_secret_expiry_seconds", issuer=ISSUER)
    assert left is not None
    assert 3900 < left <= 4000
    assert value(registry, "dcr_secrets_expired", issuer=ISSUER) == 0
    ClientRegistration.objects.filter(pk=row.pk).update(client_secret_expires_at=now + 900)
    left = value(registry, "dcr_secret_expiry_seconds", issuer=ISSUER)
    assert left is not None
    assert left <= -100
    assert value(registry, "dcr_secrets_expired", issuer=ISSUER) == 1


def test_without_secrets_that_expire_there_is_no_next_expiry(registry: CollectorRegistry) -> None:
    make_registration()
    assert value(registry, "dcr_secret_expiry_seconds", issuer=ISSUER) is None
    assert value(registry, "dcr_secrets_expired", issuer=ISSUER) == 0


def test_issuers_beyond_those_with_most_registrations_are_counted_together(
    registry: CollectorRegistry,
) -> None:
    for number in range(metrics.MAX_ISSUERS + 2):
        server = AuthorizationServer.objects.create(issuer=f"https://as{number}.example")
        make_draft(server=server)
    make_draft(server=server, owner="second")
    text = generate_latest(registry).decode()
    assert len(set(re.findall('issuer="(.*?)"', text))) == metrics.MAX_ISSUERS + 1
    labels = {"issuer": "other", "status": "draft", "mechanism": "dynamic"}
    assert value(registry, "dcr_registrations", **labels) == 2
    assert f'issuer="{server.issuer}"' in text


def test_a_scrape_is_one_query_and_registering_none(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    registry = CollectorRegistry()
    make_registration()
    with django_assert_num_queries(0):
        registry.register(metrics.Registrations())
    with django_assert_num_queries(1):
        generate_latest(registry)


@pytest.mark.only_on("sqlite", "mysql")  # PostgreSQL does so for large tables, after VACUUM
def test_the_query_reads_the_index_alone() -> None:
    make_registration()
    plan = metrics.counts().explain()
    assert "dcr_metrics" in plan
    assert "TEMP B-TREE" not in plan


def test_a_database_out_of_reach_leaves_the_other_metrics(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: Any) -> Any:
        raise OperationalError("no connection")

    with connection.execute_wrapper(refuse):
        text = generate_latest(registry).decode()
    assert "# TYPE dcr_registrations gauge" in text
    assert "dcr_registrations{" not in text
    assert "not counted: no connection" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_scrape_outside_of_a_transaction_counts_as_well(registry: CollectorRegistry) -> None:
    make_registration()
    assert "dcr_registrations{" in generate_latest(registry).decode()


@pytest.mark.only_on("postgres", "mysql")  # SQLite keeps the connection to a database in memory
@pytest.mark.django_db(transaction=True)
def test_a_scrape_outside_of_a_request_leaves_no_connection_open_beyond_its_age(
    registry: CollectorRegistry,
) -> None:
    def scrape() -> bool:  # pragma: no cover - coverage is measured on SQLite
        generate_latest(registry)
        return connection.connection is None

    with ThreadPoolExecutor(1) as pool:  # pragma: no cover - of a thread without a connection
        assert pool.submit(scrape).result()


def test_exchanges_are_counted_by_step_and_outcome(
    registry: CollectorRegistry, settings: Settings
) -> None:
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with FakeServer() as server:
        row = get_or_register(server.issuer, "acme")
        server.switch_on("hangs", at="configuration")
        with pytest.raises(DCRError):
            read(row)

    def count(step: str, outcome: str) -> float | None:
        return value(registry, "dcr_exchange_seconds_count", step=step, outcome=outcome)

    assert count("discover", "success") == count("register", "success") == 1
    assert count("read", "timeout") == 1
    assert count("read", "success") is None
    assert value(registry, "dcr_exchange_seconds_bucket", step="read", outcome="timeout", le="30.0")


def test_an_exchange_of_no_step_has_a_label_still(registry: CollectorRegistry) -> None:
    exchanged.send(None, step="", outcome="success", duration=0.5)
    assert value(registry, "dcr_exchange_seconds_sum", step="other", outcome="success") == 0.5


def test_no_label_has_a_secret_or_an_owner(registry: CollectorRegistry, settings: Settings) -> None:
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with FakeServer() as server:
        read(get_or_register(server.issuer, "customer-42"))
    text = generate_latest(registry).decode()
    labels = dict(re.findall(r'(\w+)="(.*?)"', text))
    assert {*labels} == {"issuer", "status", "mechanism", "step", "outcome", "le"}
    hidden = ["customer-42", "client-1", "secret-", "registration-access-token"]
    assert [word for word in hidden if word in text] == []
    assert set(re.findall('outcome="(.*?)"', text)) <= {*OUTCOMES}
    assert set(re.findall('status="(.*?)"', text)) <= {*Status.values}
    assert set(re.findall('mechanism="(.*?)"', text)) <= {*Mechanism.values}


def exported() -> dict[str, tuple[set[str], str]]:
    """Each metric, with its labels and what it says of itself."""
    registry = CollectorRegistry()
    metrics.register(registry)
    exchanged.disconnect(dispatch_uid=id(registry))
    families = {family.name: family for family in registry.collect()}
    gauges = {family.name: set(family._labelnames) for family in metrics._families()}
    labels = {"dcr_exchange_seconds": {"step", "outcome"}, **gauges}
    return {name: (labels[name], family.documentation) for name, family in families.items()}


def test_every_metric_is_documented_with_its_labels() -> None:
    rows = re.findall(r"(?m)^\| `(dcr_\w+)` \| (.*?) \| (.*?) \|$", PAGE)
    table = {name: (set(re.findall(r"`(\w+)`", labels)), what) for name, labels, what in rows}
    assert table == exported()


def queries() -> list[str]:
    """The expressions of the dashboard, and those of the alerts."""
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    chosen = [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    return [*shown, *chosen, *re.findall(r"expr: (?:\|\n)?((?:.|\n)+?)\n +(?:for|annot)", PAGE)]


@pytest.mark.parametrize("query", queries())
def test_dashboard_and_alerts_ask_for_what_is_exported(query: str) -> None:
    known = exported()
    names = re.findall(r"\bdcr_\w+", query)
    assert names
    labels = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", query))
    for by in re.findall(r"by \(([\w, ]+)\)", query):
        labels |= {*by.split(", ")}
    for name in names:
        base = re.sub("_(count|sum|bucket)$", "", name)
        has = known[base][0] | ({"le"} if name.endswith("_bucket") else set())
        assert labels <= has, name
    assert query.count("(") == query.count(")")
    outcomes = re.findall(r'outcome!~"(.*?)"', query)
    assert {word for words in outcomes for word in words.split("|")} <= {*OUTCOMES}
    assert {*re.findall(r'status="(.*?)"', query)} <= {*Status.values}


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    panels = json.loads((DOCS / "grafana-dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_app_exports_by_the_documented_view(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    AppConfig.create("django_dcr.contrib.prometheus").ready()
    module = documented("metrics.md", "view")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.ROOT_URLCONF = module.__name__
    make_registration()
    page = Client().get("/metrics")
    assert f'dcr_registrations{{issuer="{ISSUER}",mechanism="dynamic"'.encode() in page.content
    exchanged.disconnect(dispatch_uid=id(REGISTRY))


def test_the_documented_registry_for_many_processes_counts_registrations(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    make_registration()
    text = generate_latest(documented("metrics.md", "multiprocess").registry()).decode()
    assert "dcr_registrations{" in text


def test_the_documented_receiver_measures_with_opentelemetry(settings: Settings) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import metrics as telemetry
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    telemetry.set_meter_provider(MeterProvider([reader]))
    module = documented("metrics.md", "opentelemetry")
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with FakeServer() as server:
        get_or_register(server.issuer)
    assert exchanged.disconnect(module.measure)
    data = json.loads(reader.get_metrics_data().to_json())
    [metric] = data["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    assert (metric["name"], metric["unit"]) == ("dcr.exchange.duration", "s")
    points = {point["attributes"]["dcr.step"]: point for point in metric["data"]["data_points"]}
    assert {step: point["count"] for step, point in points.items()} == {
        "discover": 1,
        "register": 1,
    }
    assert {point["attributes"]["dcr.outcome"] for point in points.values()} == {"success"}

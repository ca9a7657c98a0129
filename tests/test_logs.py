"""The lines of the log: their loggers, levels and attributes; and the signals beside them."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.db import OperationalError, connection
from django.dispatch import Signal

import django_dcr
from django_dcr import transport
from django_dcr.exceptions import DCRError, current_context, errors_at
from django_dcr.logs import EVENTS
from django_dcr.models import ClientRegistration, RegistrationEvent, actor
from django_dcr.services import discover, get_or_register, read, update
from django_dcr.signals import OUTCOMES, exchanged, recorded
from django_dcr.testing import AuthorizationServer
from tests.contrib.documentation import documented
from tests.factories import WISHES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

pytestmark = pytest.mark.django_db

ATTRIBUTES = ("event", "issuer", "step", "registration", "status", "duration")
PAGE = (Path(__file__).parent.parent / "docs/logging.md").read_text()


@pytest.fixture
def server(settings: Settings) -> Iterator[AuthorizationServer]:
    settings.DCR_CLIENT_METADATA = dict(WISHES)
    with AuthorizationServer() as server:
        yield server


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What is logged below the one logger."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger("django_dcr")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def told(records: list[logging.LogRecord], event: str) -> list[Any]:
    return [record for record in records if getattr(record, "event", None) == event]


def heard_by(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the signal says from here to the end of the test."""
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(signal, "receivers", [])
    signal.sender_receivers_cache.clear()

    def hear(signal: Signal, **said: Any) -> None:
        heard.append(said)

    signal.connect(hear, weak=False)
    return heard


def test_every_event_is_documented() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| `(django_dcr\.\w+)` \| (\w+) \| (.*) \|$", PAGE)
    assert rows == [
        (name, f"django_dcr.{kind.logger}", logging.getLevelName(kind.level), kind.meaning)
        for name, kind in EVENTS.items()
    ]


def test_every_attribute_is_documented() -> None:
    assert set(ATTRIBUTES) <= set(re.findall(r"(?m)^\| `(\w+)` \| [^|]* \|$", PAGE))


def test_every_line_is_one_of_the_table() -> None:
    """No module logs past it."""
    package = Path(django_dcr.__file__).parent
    sources = {path.name: path.read_text() for path in package.rglob("*.py")}
    assert [name for name, text in sources.items() if "getLogger" in text] == ["logs.py"]
    named = set(re.findall(r"\blog(?:_registration)?\(\s*\"(\w+)\"", "".join(sources.values())))
    announced = {"registered", "updated", "renewed", "revoked"}
    assert named | announced == {*EVENTS}


def test_a_registration_is_told_with_all_attributes(
    server: AuthorizationServer, records: list[Any]
) -> None:
    row = get_or_register(server.issuer, "acme")
    [line] = told(records, "registered")
    assert [getattr(line, name) for name in ATTRIBUTES] == [
        *("registered", server.issuer, "register", row.pk, None, None)
    ]
    assert (line.name, line.levelname) == ("django_dcr.registrations", "INFO")
    exchanges = told(records, "exchange")
    assert [(line.step, line.status, line.registration) for line in exchanges] == [
        ("discover", 200, None),
        ("register", 201, row.pk),
    ]
    assert all(line.duration >= 0 and line.outcome == "success" for line in exchanges)
    assert {line.levelname for line in exchanges} == {"DEBUG"}
    assert all(hasattr(line, name) for line in records for name in ATTRIBUTES)


def test_a_hit_logs_nothing(server: AuthorizationServer, records: list[Any]) -> None:
    get_or_register(server.issuer, "acme")
    records.clear()
    get_or_register(server.issuer, "acme")
    assert records == []


def test_a_failure_is_a_warning_that_is_not_repeated_during_the_pause(
    server: AuthorizationServer, records: list[Any]
) -> None:
    server.switch_on("refuses")
    for _ in range(3):
        with pytest.raises(DCRError):
            get_or_register(server.issuer, "acme")
    [line] = told(records, "failed")
    assert (line.levelname, line.step, line.issuer) == ("WARNING", "register", server.issuer)
    assert line.getMessage().startswith("Failed: registration ")
    assert "now rejected" in line.getMessage()
    assert [line.outcome for line in told(records, "exchange")] == ["success", "rejected"]


def test_a_lost_client_is_a_warning(server: AuthorizationServer, records: list[Any]) -> None:
    row = get_or_register(server.issuer)
    server.switch_on("forgets")
    with pytest.raises(DCRError):
        read(row)
    [line] = told(records, "lost")
    assert (line.levelname, line.step, line.registration) == ("WARNING", "read", row.pk)
    assert told(records, "failed") == []


def test_metadata_that_is_served_stale_is_a_warning_about_the_server(
    server: AuthorizationServer, records: list[Any]
) -> None:
    row = get_or_register(server.issuer).server
    row.fresh_until = None
    row.save()
    server.switch_on("fails")
    discover(row)
    [line] = told(records, "stale")
    assert (line.name, line.levelname, line.step) == ("django_dcr.servers", "WARNING", "discover")


def test_no_line_has_a_secret(server: AuthorizationServer, records: list[Any]) -> None:
    names = ("client_secret", "registration_access_token")
    row = get_or_register(server.issuer)
    before = [server.clients["client-1"][name] for name in names]
    server.switch_on("rotates_secrets", "rotates_tokens")
    update(read(row))
    after = [server.clients["client-1"][name] for name in names]
    text = "".join(str(vars(record)) for record in records)
    assert [secret for secret in {*before, *after} if secret in text] == []
    assert len({*before, *after}) == 4


def test_what_is_logged_outside_of_any_work_has_empty_attributes(records: list[Any]) -> None:
    with AuthorizationServer() as server:
        transport.send("GET", f"{server.base}/jwks")
    [line] = records
    assert [getattr(line, name) for name in ATTRIBUTES[1:4]] == [None, None, None]


def test_the_context_is_that_of_the_innermost_block() -> None:
    with errors_at("https://as.example", "register", 7):
        with errors_at("", "discover"):
            assert current_context() == ("https://as.example", "discover", 7)
        assert current_context() == ("https://as.example", "register", 7)
    assert current_context() == ("", "", None)


def test_the_documented_formatter_writes_lines_of_json(
    server: AuthorizationServer, records: list[Any]
) -> None:
    module = documented("logging.md", "json")
    get_or_register(server.issuer)
    formatter = module.LOGGING["formatters"]["json"]["()"]()
    lines = [json.loads(formatter.format(record)) for record in records]
    assert [line["event"] for line in lines] == ["exchange", "exchange", "registered"]


@pytest.mark.parametrize(
    ("habit", "outcome"),
    [
        ("breaks_off", "broken"),
        ("fails", "failed"),
        ("hangs", "timeout"),
        ("is_unreachable", "unreachable"),
        ("rate_limits", "rejected"),
        ("shows_a_page", "success"),
    ],
)
def test_each_exchange_is_signalled_with_its_outcome(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, habit: str, outcome: str
) -> None:
    row = get_or_register(server.issuer)
    server.switch_on(habit)
    heard = heard_by(exchanged, monkeypatch)
    with pytest.raises(DCRError):
        read(row)
    [said] = heard
    assert said.pop("duration") >= 0
    assert outcome in OUTCOMES
    expected = {"issuer": server.issuer, "step": "read", "registration": row.pk, "method": "GET"}
    status = {"failed": 503, "rejected": 429, "success": 200}.get(outcome)
    assert said == {**expected, "sender": None, "status": status, "outcome": outcome}


def test_what_an_address_says_in_its_query_is_no_attribute(
    server: AuthorizationServer, records: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a session speaks to a resource, which has no issuer, that may be a key."""
    heard = heard_by(exchanged, monkeypatch)
    address = f"{server.issuer}/mcp?key=k3y"
    session = transport.harden_session(requests.Session(), address)
    session.post(address, json={})
    assert [each["issuer"] for each in heard] == [f"{server.issuer}/mcp?…"]
    assert [line.issuer for line in records] == [f"{server.issuer}/mcp?…"]


def test_a_receiver_that_raises_changes_nothing(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**said: Any) -> None:
        raise ZeroDivisionError

    for signal in (exchanged, recorded):
        heard_by(signal, monkeypatch)
        signal.connect(refuse, weak=False)
    assert get_or_register(server.issuer).status == "active"


def test_the_history_is_signalled_event_by_event(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = heard_by(recorded, monkeypatch)
    with actor("ann"):
        row = get_or_register(server.issuer)
    read(row)
    told = [(said["event"].actor, str(said["event"])) for said in heard]
    assert told == [("ann", "register: active"), ("", "read: active")]
    assert {said["registration"] for said in heard} == {row}
    assert {said["sender"] for said in heard} == {RegistrationEvent}
    assert [said["event"] for said in heard] == [*row.events.order_by("pk")]


def test_an_event_that_was_not_written_is_not_signalled(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = heard_by(recorded, monkeypatch)

    def refuse(execute: Any, sql: str, *arguments: Any) -> Any:
        if "registrationevent" in sql:
            raise OperationalError("no room")
        return execute(sql, *arguments)

    with connection.execute_wrapper(refuse):
        get_or_register(server.issuer)
    assert heard == []


def test_the_documented_receiver_keeps_the_history(
    server: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    module = documented("signals.md", "history")
    get_or_register(server.issuer)
    pk = ClientRegistration.objects.get().pk
    assert f"the site: registration {pk}, register: active" in caplog.text
    assert recorded.disconnect(module.keep)

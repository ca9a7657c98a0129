"""Every kind of failure, with secrets that are known here, and all the places they could turn up.

Each failure is looked at wherever a person or a machine may see it: as an error with its causes,
its pickle and a traceback with the variables of every frame; in logs at DEBUG; in Django's error
page and error mail; in the rows and what is made of them; in the admin and in commands.
"""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import requests
import responses
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils.log import AdminEmailHandler

from django_dcr import protocol, transport
from django_dcr.exceptions import DCRError
from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.services import discover, read, register, renew, revoke, update
from tests.cases import ALL, all_or
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WELL_KNOWN,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    make_server,
)
from tests.urls import urlpatterns as pages

INITIAL = 'iat-S3cr3t/+"&<w'
ACCESS = 'rat-S3cr3t/+"&<x'
SECRET = 'own-S3cr3t/+"&<é y'
#: What an answer issues, of which no row may ever know.
ISSUED_ACCESS = 'new-rat-S3cr3t/+"&<z'
ISSUED_SECRET = 'new-own-S3cr3t/+"&<é z'
KEY = Fernet.generate_key().decode()
SECRETS = [INITIAL, ACCESS, SECRET, ISSUED_ACCESS, ISSUED_SECRET, KEY]


def spellings(secret: str) -> set[str]:
    """How a secret may look in a URL, a page, a log, a document, a header or a pickle."""
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        secret.encode().decode("latin-1"),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        base64.b64encode(f"c1:{secret}".encode()).decode().rstrip("="),
        base64.b64encode(f"c1:{quote_plus(secret)}".encode()).decode().rstrip("="),
    }


FORBIDDEN = sorted(spelling for secret in SECRETS for spelling in spellings(secret))


def leaks(*places: object) -> list[str]:
    text = "\n".join(map(str, places))
    return [spelling for spelling in FORBIDDEN if spelling in text]


# --- failures -----------------------------------------------------------------------------------

#: Stubs the server, makes a row, and returns the call that fails: in whose frames nothing of
#: what the server was told to answer may be, or it would be found in tracebacks.
Scenario = Callable[[responses.RequestsMock], Callable[[], Any]]


def echo(secret: str) -> str:
    """What a server says that repeats what was sent to it."""
    return f"Bearer {secret} {quote(secret, safe='')} {html.escape(secret)}"


def issued(**changes: Any) -> dict[str, Any]:
    return client_information(
        client_secret=ISSUED_SECRET, registration_access_token=ISSUED_ACCESS, **changes
    )


def refusals(secret: str) -> dict[str, dict[str, Any]]:
    said = {"error": f"e {secret}", "error_description": echo(secret)}
    challenge = f'Bearer error="x", error_description="{echo(secret)}"'
    challenge = challenge.replace(secret, secret.replace('"', r"\""))
    return {
        "400": {"status": 400, "json": said},
        "401": {"status": 401, "headers": {"WWW-Authenticate": challenge}},
        "403": {"status": 403, "body": echo(secret)},
        "500": {"status": 500, "body": echo(secret)},
        "redirect": {"status": 302, "headers": {"Location": f"https://b.example/?{quote(secret)}"}},
        "broken off": {"body": requests.ConnectionError(echo(secret))},
    }


UNREADABLE: dict[str, dict[str, Any]] = {
    "cut": {"body": json.dumps(issued())[:-1]},
    "duplicate": {"body": json.dumps(issued())[:-1] + ', "client_id": "c1"}'},
    "list": {"json": [issued()]},
    "not UTF-8": {"body": json.dumps(issued(), ensure_ascii=False).encode("latin-1")},
    "too large": {"body": json.dumps(issued(x="x" * 1_100_000))},
    "wrong coding": {"body": json.dumps(issued()), "headers": {"Content-Encoding": "gzip"}},
    "206": {"status": 206, "json": issued()},
    "no client_id": {"json": issued(client_id=7)},
    "an error": {"json": issued(error="x")},
}


def a_row(**values: Any) -> ClientRegistration:
    credentials = {"client_secret": SECRET, "registration_access_token": ACCESS}
    return make_registration(**{**credentials, **values})


def registering(answer: dict[str, Any]) -> Scenario:
    def scenario(stubs: responses.RequestsMock) -> Callable[[], Any]:
        stubs.post(ENDPOINT, **answer)
        stubs.delete(URI, status=500, body=echo(ISSUED_ACCESS))
        return partial(register, make_draft(server=make_server(initial_access_token=INITIAL)))

    return scenario


def registering_with_a_token_in_hand(stubs: responses.RequestsMock) -> Callable[[], Any]:
    stubs.post(ENDPOINT, **refusals(INITIAL)["400"])
    draft = make_draft()
    return lambda: register(draft, initial_access_token=INITIAL)


def registering_anothers_client(stubs: responses.RequestsMock) -> Callable[[], Any]:
    stubs.post(ENDPOINT, json=issued(), status=201)
    return partial(register, make_draft(server=a_row().server, owner="another"))


def registering_nowhere(stubs: responses.RequestsMock) -> Callable[[], Any]:
    server = make_server(metadata={"issuer": ISSUER}, initial_access_token=INITIAL)
    return partial(register, make_draft(server=server))


def reading(answer: dict[str, Any]) -> Scenario:
    def scenario(stubs: responses.RequestsMock) -> Callable[[], Any]:
        stubs.get(URI, **answer)
        return partial(read, a_row())

    return scenario


def updating(answer: dict[str, Any]) -> Scenario:
    """With the secret in the request, which some servers want."""

    def scenario(stubs: responses.RequestsMock) -> Callable[[], Any]:
        stubs.get(URI, json={"client_id": "c1"})
        stubs.put(URI, **answer)
        return partial(update, a_row(server=make_server(send_client_secret=True)))

    return scenario


def updating_at_a_forbidden_port(stubs: responses.RequestsMock) -> Callable[[], Any]:
    origin = "https://as.example:25"
    server = make_server(send_client_secret=True, trusted_origins=[origin])
    stubs.get(URI, json={"client_id": "c1", "registration_client_uri": f"{origin}/c1"})
    return partial(update, a_row(server=server))


def renewing(stubs: responses.RequestsMock) -> Callable[[], Any]:
    stubs.get(URI, json={"client_id": "c1"})
    stubs.put(URI, json=issued(client_id="c2"))
    return partial(renew, a_row())


def revoking(answer: dict[str, Any]) -> Scenario:
    def scenario(stubs: responses.RequestsMock) -> Callable[[], Any]:
        stubs.delete(URI, **answer)
        return partial(revoke, a_row())

    return scenario


def full(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if "client_secret" in sql and sql.startswith("UPDATE"):
        raise OperationalError("database or disk is full")
    return execute(sql, params, many, context)


def with_a_full_disk(scenario: Scenario) -> Scenario:
    def prepared(stubs: responses.RequestsMock) -> Callable[[], Any]:
        call = scenario(stubs)

        def failing() -> Any:
            with connection.execute_wrapper(full):
                return call()

        return failing

    return prepared


def with_the_key(key: str) -> Scenario:
    def prepared(stubs: responses.RequestsMock) -> Callable[[], Any]:
        row = a_row()

        def failing() -> Any:
            with override_settings(DCR_ENCRYPTION_KEYS=[OTHER_KEYS[key]]):
                return read(row)

        return failing

    return prepared


OTHER_KEYS = {"lost": Fernet.generate_key().decode(), "malformed": KEY[:-4]}


def discovering(stubs: responses.RequestsMock) -> Callable[[], Any]:
    stubs.get(WELL_KNOWN, json={"issuer": "https://other.example"})
    return partial(discover, make_server(initial_access_token=INITIAL), refresh=True)


FAILURES: dict[str, Scenario] = {
    "discover": discovering,
    **{f"register: {k}": registering(v) for k, v in refusals(INITIAL).items()},
    **{f"register: {k}": registering(v) for k, v in UNREADABLE.items()},
    "register: full disk": with_a_full_disk(registering({"json": issued(), "status": 201})),
    "register: another's client": registering_anothers_client,
    "register: nowhere": registering_nowhere,
    **{f"read: {k}": reading(v) for k, v in refusals(ACCESS).items()},
    **{f"read: {k}": reading(v) for k, v in UNREADABLE.items()},
    "read: full disk": with_a_full_disk(reading({"json": issued()})),
    "read: another client": reading({"json": issued(client_id="c2")}),
    "read: lost key": with_the_key("lost"),
    "read: malformed key": with_the_key("malformed"),
    **{f"update: {k}": updating(v) for k, v in refusals(SECRET).items()},
    **{f"update: {k}": updating(v) for k, v in UNREADABLE.items()},
    "update: full disk": with_a_full_disk(updating({"json": issued()})),
    "update: forbidden port": updating_at_a_forbidden_port,
    "renew: another client": renewing,
    **{f"delete: {k}": revoking(v) for k, v in refusals(ACCESS).items()},
    "delete: HTML": revoking({"body": echo(ACCESS)}),
}
#: What is shown on pages: some failures of each kind, from each depth.
SHOWN = [
    "register: 400",
    "register: broken off",
    "register: no client_id",
    "register: full disk",
    "register: another's client",
    "read: 401",
    "read: duplicate",
    "read: another client",
    "read: malformed key",
    "update: 400",
    "update: forbidden port",
    "update: full disk",
    "delete: 500",
]
ERRORS = (DCRError, OperationalError, ImproperlyConfigured)

every_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _a_known_key(settings: Any) -> None:
    settings.DCR_ENCRYPTION_KEYS = [KEY]


@pytest.fixture
def stubs() -> Iterator[responses.RequestsMock]:
    """Not every failure gets as far as to ask for all that is stubbed."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as stubs:
        yield stubs


# --- places -------------------------------------------------------------------------------------


def test_the_looking_finds_every_spelling() -> None:
    """Else the tests below would find nothing."""
    for secret in SECRETS:
        assert all(leaks(f"... {spelling} ...") for spelling in spellings(secret))
    assert leaks("********", "gAAAAA") == []


@every_failure
def test_no_error_and_no_log_has_a_secret(
    failure: Scenario, stubs: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """R-137, faults 128, 132, 138, A12 and A13: nor a traceback with all variables."""
    caplog.set_level(logging.DEBUG)
    call = failure(stubs)
    with pytest.raises(ERRORS) as caught:
        call()
    error: BaseException | None = caught.value
    assert (
        leaks(*traceback.TracebackException.from_exception(error, capture_locals=True).format())
        == []
    )
    while error is not None:
        assert leaks(error, repr(error), error.args, vars(error)) == []
        if isinstance(error, DCRError):
            assert leaks(pickle.dumps(error, 0).decode("latin-1"), pickle.dumps(error)) == []
        error = error.__cause__ or error.__context__
    assert leaks(caplog.text, *(vars(record) for record in caplog.records)) == []


@pytest.mark.parametrize("failure", all_or(FAILURES, *SHOWN).values(), ids=all_or(FAILURES, *SHOWN))
def test_no_row_and_nothing_made_of_it_has_a_secret(
    failure: Scenario, stubs: responses.RequestsMock
) -> None:
    """Faults 132, A7 and A11."""
    call = failure(stubs)
    with pytest.raises(ERRORS):
        call()
    for model in (AuthorizationServer, ClientRegistration):
        for row in model.objects.all():
            assert leaks(row, repr(row), vars(row), model_to_dict(row), row.last_error) == []
            assert leaks(pickle.dumps(row), pickle.dumps(row, 0).decode("latin-1")) == []
        assert leaks(*model.objects.values(), *model.objects.values_list()) == []
        for kind in ("json", "xml"):
            assert leaks(serializers.serialize(kind, model.objects.all())) == []
    out = io.StringIO()
    call_command("dumpdata", "django_dcr", stdout=out)
    call_command("dcr_list", stdout=out)
    call_command("dcr_list", output_format="json", stdout=out)
    assert leaks(out.getvalue()) == []


class Site:
    """A site whose only view calls a service, and whose administrators get mails."""

    call: Callable[[], Any] = str


class Mails(AdminEmailHandler):
    def __init__(self) -> None:
        super().__init__(include_html=True)
        self.sent: list[str] = []

    def send_mail(self, subject: str, message: str, *args: Any, **kwargs: Any) -> None:
        self.sent += [subject, message, kwargs["html_message"]]


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(Site.call()))


urlpatterns = [path("view", view), *pages]


# Without DEBUG, Django hides some more of the same.
@pytest.mark.parametrize(
    ("debug", "failure"),
    [
        pytest.param(True, registering_with_a_token_in_hand, id="DEBUG-register: token in hand"),
        *(pytest.param(True, FAILURES[name], id=f"DEBUG-{name}") for name in SHOWN),
        *(pytest.param(False, FAILURES[name], id=name) for name in (SHOWN if ALL else SHOWN[::4])),
    ],
)
@pytest.mark.urls(__name__)
def test_neither_the_error_page_nor_the_mail_has_a_secret(
    debug: bool,
    failure: Scenario,
    stubs: responses.RequestsMock,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault A12: of a view that calls a service."""
    settings.DEBUG = debug
    monkeypatch.setattr(Site, "call", staticmethod(failure(stubs)))
    logger = logging.getLogger("django.request")
    logger.addHandler(mails := Mails())
    try:
        response = Client(raise_request_exception=False).get("/view")
    finally:
        logger.removeHandler(mails)
    page = response.content.decode()
    assert response.status_code == 500
    assert len(mails.sent) == 3
    assert all("django_dcr" in text for text in [mails.sent[2], *([page] if debug else ())])
    assert leaks(page, *mails.sent) == []


# --- admin and commands -------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["read", "update", "revoke"])
def test_no_page_message_or_history_of_the_admin_has_a_secret(
    action: str, stubs: responses.RequestsMock
) -> None:
    """Faults 138, A5, A7 and A13."""
    for method in ("GET", "PUT", "DELETE"):
        stubs.add(method, URI, **refusals(ACCESS)["400"])
    row = a_row(server=make_server(initial_access_token=INITIAL))
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    listed = "/admin/django_dcr/clientregistration/"
    post = {"action": action, "_selected_action": row.pk, "_confirmed": "1"}
    answers = [
        staff.post(listed, post, follow=True),
        staff.get(f"{listed}{row.pk}/change/"),
        staff.get(f"{listed}{row.pk}/history/"),
        staff.get(f"/admin/django_dcr/authorizationserver/{row.server.pk}/change/"),
    ]
    assert "********" in answers[0].content.decode()
    assert leaks(*(answer.content.decode() for answer in answers)) == []
    assert leaks(*(repr(answer.cookies) for answer in answers)) == []
    assert leaks(*LogEntry.objects.values()) == []
    assert LogEntry.objects.exists()


@pytest.mark.parametrize("kind", ["table", "json"])
@pytest.mark.parametrize("command", ["dcr_read", "dcr_update", "dcr_revoke", "dcr_register"])
def test_no_command_prints_a_secret(
    command: str,
    kind: str,
    stubs: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Faults 138 and A10: neither on standard output nor on standard error."""
    monkeypatch.setenv("DCR_INITIAL_ACCESS_TOKEN", INITIAL)
    stubs.post(ENDPOINT, **refusals(INITIAL)["400"])
    for method in ("GET", "PUT", "DELETE"):
        stubs.add(method, URI, **refusals(ACCESS)["400"])
    if command == "dcr_register":
        make_server()
        arguments = [ISSUER, "--metadata", "-"]
        body = io.TextIOWrapper(io.BytesIO(json.dumps(WISHES).encode()))
        monkeypatch.setattr(sys, "stdin", body)
    else:
        arguments = [str(a_row().pk)]
    with pytest.raises(CommandError, match=r"\*{8}") as caught:
        call_command(command, *arguments, "--format", kind, "--traceback")
    printed = capsys.readouterr()
    assert leaks(caught.value, repr(caught.value), *caught.value.args, *printed) == []


def test_nothing_that_carries_a_secret_shows_it(stubs: responses.RequestsMock) -> None:
    """R-137, fault A12: what debuggers and error trackers print of variables."""
    row = a_row()
    document = protocol.parse_object(json.dumps(issued()).encode())
    information = protocol.client_information(document)
    body = protocol.encode({"client_secret": SECRET})
    stubs.get(URI, json=issued())
    reply = transport.send("GET", URI, token=row.client_secret.reveal()[:3])
    carriers = [row.client_secret, row.client_secret.reveal(), information, body, reply, reply.body]
    assert leaks(carriers, vars(information), vars(reply)["body"]) == []
    assert leaks(pickle.dumps(row.client_secret), pickle.dumps(row.client_secret, 0)) == []
    assert row.client_secret.reveal() == SECRET
    assert json.loads(body) == {"client_secret": SECRET}

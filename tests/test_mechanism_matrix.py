"""Every action on a client of every mechanism: done, or refused in the mechanism's own terms."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import responses
from django.contrib.admin import site
from django.core.management import CommandError, call_command
from django.test import Client

import django_dcr
from django_dcr import services, tasks
from django_dcr.admin import ClientRegistrationAdmin
from django_dcr.admin.pages import prospect
from django_dcr.exceptions import DCRError, UnsupportedError
from django_dcr.lifecycle import ACTIONS, Status
from django_dcr.mechanisms import MECHANISMS, Mechanism, refusal
from django_dcr.models import ClientRegistration
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

pytestmark = pytest.mark.django_db

SLUG = "0123456789abcdef"
PAGES = ClientRegistrationAdmin(ClientRegistration, site)
UNMANAGED: dict[str, Any] = {"registration_client_uri": "", "registration_access_token": None}
#: A row of each mechanism, with and without the credentials of RFC 7592.
ROWS: dict[str, dict[str, Any]] = {
    "pre_registered": {"mechanism": "pre_registered", **UNMANAGED},
    "pre_registered, managed": {"mechanism": "pre_registered"},
    "metadata_document": {
        "mechanism": "metadata_document",
        "document_slug": SLUG,
        "client_id": f"https://shop.example/oauth/clients/{SLUG}",
        "client_secret": None,
        "client_secret_expires_at": None,
        "metadata": {**WISHES, "token_endpoint_auth_method": "none"},
        **UNMANAGED,
    },
    "dynamic": {},
    "dynamic, signs": {
        "client_secret": None,
        "client_secret_expires_at": None,
        "metadata": {**WISHES, "token_endpoint_auth_method": "private_key_jwt"},
    },
}
#: What each action leaves of the row, "refused" where the mechanism has no such thing.
OUTCOMES = {
    #            pre        managed    document    dynamic     signs
    "register": ("refused", "refused", "conflict", "conflict", "conflict"),
    "read": ("refused", "active", "refused", "active", "active"),
    "update": ("refused", "active", "active", "active", "active"),
    "renew": ("refused", "active", "refused", "active", "refused"),
    "replace": ("refused", "refused", "revoked", "revoked", "revoked"),
    "retry": ("refused", "refused", "refused", "gone", "gone"),
    "revoke": ("refused", "revoked", "revoked", "revoked", "revoked"),
    "forget": ("revoked", "revoked", "revoked", "revoked", "revoked"),
}
MATRIX = [
    pytest.param(action, kind, outcome, id=f"{action} {kind}")
    for action, outcomes in OUTCOMES.items()
    for kind, outcome in zip(ROWS, outcomes, strict=True)
]


def site(request: Any) -> tuple[int, dict[str, str], bytes]:
    answer = Client().get(urlsplit(request.url).path)
    return answer.status_code, dict(answer.headers), answer.content


@pytest.fixture(autouse=True)
def _world(mocked_responses: responses.RequestsMock, settings: Any) -> None:
    """A server that does all there is, and the site's own address."""
    settings.DCR_BASE_URL = "https://shop.example"
    mocked_responses.assert_all_requests_are_fired = False
    mocked_responses.add_callback("GET", re.compile("https://shop.example/.+"), callback=site)
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    mocked_responses.delete(URI, status=204)
    new = client_information(client_id="c2", registration_client_uri=f"{ENDPOINT}/c2")
    mocked_responses.post(ENDPOINT, json=new, status=201)


def row_of(kind: str, **values: Any) -> ClientRegistration:
    metadata = server_metadata(client_id_metadata_document_supported=True)
    return make_registration(server=make_server(metadata=metadata), **{**ROWS[kind], **values})


def test_the_matrix_has_every_action_and_every_mechanism() -> None:
    assert OUTCOMES.keys() == ACTIONS.keys()
    assert {values.get("mechanism", "dynamic") for values in ROWS.values()} == {*Mechanism.values}


@pytest.mark.parametrize(("action", "kind", "outcome"), MATRIX)
def test_an_action_is_done_or_refused_in_the_mechanisms_terms(
    action: str, kind: str, outcome: str
) -> None:
    status = {"status": "gone", "live": None} if action == "retry" else {}
    row = row_of(kind, **status)
    assert ACTIONS[action].allows(row) == (outcome not in ("refused", "conflict"))
    if outcome not in ("refused", "conflict"):
        tasks.service(action)(row)
        assert stored(row).status == outcome
        return
    before = ClientRegistration.objects.filter(pk=row.pk).values().get()
    with pytest.raises(DCRError) as caught:
        tasks.service(action)(row)
    text = str(caught.value)
    assert text.startswith(f"Registration {row.pk} ")
    if outcome == "refused":
        assert isinstance(caught.value, UnsupportedError)
        assert text == f"Registration {row.pk} {refusal(row, action)}."
        assert "7592" not in text
        assert prospect(row, action) == f"{row.pk} {refusal(row, action)}"
    after = ClientRegistration.objects.filter(pk=row.pk).values().get()
    assert after == before  # nothing is recorded as an error of the client


@pytest.mark.parametrize(("action", "kind", "outcome"), MATRIX)
def test_a_command_says_the_same(
    action: str, kind: str, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        "forget": ["dcr_revoke", "--forget"],
        "retry": ["dcr_reconcile", "--retry"],
        "register": [],
    }
    command = commands.get(action, [f"dcr_{action}"])
    if not command:
        return
    row = row_of(kind, **({"status": "gone", "live": None} if action == "retry" else {}))
    if outcome != "refused":
        call_command(*command, str(row.pk))
        return
    with pytest.raises(CommandError) as caught:
        call_command(*command, str(row.pk))
    assert f"{row.pk}: Registration {row.pk} {refusal(row, action)}." in str(caught.value)
    capsys.readouterr()


@pytest.mark.parametrize("kind", ROWS)
def test_a_hit_is_the_same_call_for_each(kind: str) -> None:
    row = row_of(kind, requested_metadata=WISHES)
    assert services.get_or_register(ISSUER, metadata=WISHES).pk == row.pk


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", ROWS)
def test_a_page_speaks_in_the_terms_of_the_mechanism(kind: str, status: str) -> None:
    row = row_of(kind)
    row.status = status
    texts = [PAGES.next_step(row), PAGES.how(row)]
    texts += [prospect(row, action) for action in ACTIONS]
    assert all(texts)
    if row.mechanism != Mechanism.DYNAMIC:
        assert not [text for text in texts if "7592" in text]
    assert ("signs with a key" in texts[1]) is ("signs with a key" in prospect(row, "renew"))
    if row.mechanism == Mechanism.METADATA_DOCUMENT and status == Status.ACTIVE:
        assert "is published" in texts[0]
        assert "document" in prospect(row, "revoke")


def test_a_page_says_what_to_do_about_drift_and_expiry() -> None:
    drifting = {
        "pre_registered": "in the server's console.",
        "pre_registered, managed": "update the client at the server",
        "metadata_document": "update it.",
        "dynamic": "update the client at the server",
        "dynamic, signs": "update the client at the server",
    }
    for number, (kind, words) in enumerate(drifting.items()):
        row = make_registration(
            server=make_server(issuer=f"https://as{number}.example"),
            **{**ROWS[kind], "has_drift": True},
        )
        assert words in PAGES.next_step(row)
        if row.client_secret is not None:
            row.client_secret_expires_at = 1
            told = PAGES.next_step(row)
            assert ("get a new secret" in told) is (kind == "pre_registered")


@pytest.mark.parametrize("kind", ROWS)
def test_messages_are_worded_for_the_mechanism(kind: str) -> None:
    row = row_of(kind)
    told = MECHANISMS[row.mechanism].actions["forget"].done or ACTIONS["forget"].done
    expected = {
        "pre_registered": "delete it there",
        "metadata_document": "document is taken down",
        "dynamic": "no longer has this client",
    }
    assert expected[row.mechanism] in str(told)


@pytest.mark.parametrize("kind", ROWS)
def test_reconciling_leaves_a_client_in_use_alone(kind: str) -> None:
    row = row_of(kind, live=True)
    ClientRegistration.objects.filter(pk=row.pk).update(lease="x", lease_until="2020-01-01T00:00Z")
    services.reconcile()
    assert (stored(row).status, stored(row).lease) == ("active", "")


@pytest.mark.parametrize("kind", [kind for kind in ROWS if "signs" not in kind])
def test_a_refused_login_says_what_to_do(kind: str) -> None:
    row = row_of(kind)
    with suppress(DCRError):
        services.client_refused(row)
    advice = MECHANISMS[row.mechanism].when_refused.format(pk=row.pk, issuer=ISSUER)
    assert advice in stored(row).last_error
    assert len(stored(row).last_error) <= 500


def test_the_documented_table_is_the_codes() -> None:
    text = (Path(django_dcr.__file__).parent.parent / "docs/mechanisms.md").read_text()
    section = text.partition("## What can be done there")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    header, _rule, *rows = lines
    assert [name.strip("`") for name in header[1:]] == Mechanism.values
    documented = {action: cells for action, *cells in rows}
    assert documented == {
        action: [MECHANISMS[name].actions[action].how for name in Mechanism.values]
        for action in ACTIONS
    }

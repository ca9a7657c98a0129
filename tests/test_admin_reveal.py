"""The one page that shows a secret."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from django_dcr.models import ClientRegistration, Status
from tests.factories import events_of, make_registration, stored
from tests.test_admin import ALL, OTHER_KEY, REGISTRATIONS, browser, cells, change_page, notices

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

SECRET = "the <secret> & all"


@pytest.fixture
def row() -> ClientRegistration:
    return make_registration(client_secret=SECRET)


def path(row: ClientRegistration) -> str:
    return f"{REGISTRATIONS}{row.pk}/reveal/"


def test_a_secret_is_shown_after_confirmation_and_not_cached(
    row: ClientRegistration, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault A6."""
    caplog.set_level(logging.DEBUG)
    client = browser(["view", "reveal"])
    button = f'formaction="{path(row)}" class="button">Reveal the secret</button>'
    assert button in change_page(client, row)
    question = client.post(path(row))
    assert SECRET not in cells(question.content.decode())
    assert "is shown on the next page" in cells(question.content.decode())
    assert events_of(row) == []
    shown = client.post(path(row), {"_confirmed": "1"})
    assert SECRET in cells(shown.content.decode())
    assert shown["Cache-Control"].startswith("no-store")
    [event] = events_of(row)
    assert (event.actor, event.action, event.outcome) == ("view-reveal", "reveal", "active")
    assert LogEntry.objects.get().change_message == "Reveal the secret: done."
    assert SECRET not in change_page(client, row)
    assert SECRET not in caplog.text


def test_a_secret_is_not_shown_by_get(row: ClientRegistration) -> None:
    """Faults A1 and A6."""
    client = browser()
    back = path(row).replace("reveal", "change")
    for response in (client.get(path(row), {"_confirmed": "1"}), client.head(path(row))):
        assert (response.status_code, response["Location"]) == (302, back)
    assert not events_of(row)


def test_a_secret_needs_a_csrf_token(row: ClientRegistration) -> None:
    """Faults A1, A2 and A6."""
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(User.objects.create_superuser("root"))
    assert forged.post(path(row), {"_confirmed": "1"}).status_code == 403
    other = browser([verb for verb in ALL if verb != "reveal"])
    assert "/reveal/" not in change_page(other, row)
    assert other.post(path(row), {"_confirmed": "1"}).status_code == 403
    blind = browser(["reveal"])
    assert blind.post(path(row), {"_confirmed": "1"}).status_code == 403
    assert Client().post(path(row), {"_confirmed": "1"})["Location"].startswith("/admin/login/")
    assert events_of(row) == []


def test_a_row_that_does_not_exist_has_no_secret(row: ClientRegistration) -> None:
    assert browser().post(f"{REGISTRATIONS}{row.pk + 1}/reveal/").status_code == 404


def test_a_client_without_a_secret_has_none_to_show() -> None:
    row = make_registration(client_secret=None)
    client = browser()
    assert "/reveal/" not in change_page(client, row)
    response = client.post(path(row), {"_confirmed": "1"})
    assert notices(response) == ["There is no client secret to show."]


def test_a_secret_that_is_being_changed_is_not_shown(row: ClientRegistration) -> None:
    assert stored(row).claim(Status.ACTIVE)
    [message] = notices(browser().post(path(row), {"_confirmed": "1"}))
    assert message.startswith("Another process is working on this registration")
    assert not LogEntry.objects.exists()


def test_a_lost_key_is_an_error_in_place_of_the_secret(
    row: ClientRegistration, settings: Settings
) -> None:
    settings.DCR_ENCRYPTION_KEYS = [OTHER_KEY]
    [message] = notices(browser().post(path(row), {"_confirmed": "1"}))
    assert "None of DCR_ENCRYPTION_KEYS opens" in message
    assert LogEntry.objects.get().change_message == "Reveal the secret: failed (DecryptionError)."


def test_what_is_logged_is_committed_before_the_secret_is_shown(
    row: ClientRegistration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    client = browser()
    depth = len(connections["default"].savepoint_ids)
    response = client.post(path(row), {"_confirmed": "1"})
    assert response.status_code == 200
    assert len(connections["default"].savepoint_ids) == depth

"""Migrations keep what the rows of earlier releases hold."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.db import connection

from django_dcr.fields import digest
from django_dcr.models import ClientRegistration, RegistrationEvent
from tests.factories import make_draft, make_registration, stored

TABLE = "django_dcr_clientregistration"
HISTORY = [
    {"at": "2026-05-01T08:00:00+00:00", "who": "", "step": "register", "outcome": "active"},
    {"at": "2026-05-02T08:00:00+00:00", "who": "ann", "step": "read", "outcome": "gone: DCRError"},
    {
        "at": "2026-05-03T08:00:00+00:00",
        "who": "",
        "step": "renew",
        "outcome": "active: new secret",
    },
    {
        "at": "2026-05-04T08:00:00+00:00",
        "who": "cron",
        "step": "renew",
        "outcome": "active: no new secret",
    },
]


@pytest.mark.usefixtures("database_file")
def test_histories_become_events() -> None:
    """In both directions, and rows without a history have no events."""
    row = make_registration()
    bare = make_registration(server=row.server, owner="b", client_id="c2")
    call_command("migrate", "django_dcr", "0002", verbosity=0)
    with connection.cursor() as cursor:
        update = f"UPDATE {TABLE} SET history = %s WHERE id = %s"  # noqa: S608
        cursor.execute(update, [json.dumps(HISTORY), row.pk])
        cursor.execute(update, ["[]", bare.pk])
    call_command("migrate", "django_dcr", verbosity=0)
    events = RegistrationEvent.objects.filter(registration=row).order_by("pk")
    fields = ("at", "actor", "action", "outcome", "error", "new_secret")
    rows = [(at.date().isoformat(), *rest) for at, *rest in events.values_list(*fields)]
    assert rows == [
        ("2026-05-01", "", "register", "active", "", None),
        ("2026-05-02", "ann", "read", "gone", "DCRError", None),
        ("2026-05-03", "", "renew", "active", "", True),
        ("2026-05-04", "cron", "renew", "active", "", False),
    ]
    assert not bare.events.exists()
    assert stored(row).client_id == "c1"


@pytest.mark.usefixtures("database_file")
def test_rows_of_earlier_releases_can_be_searched_for() -> None:
    row = make_registration(owner="acme")
    draft = make_draft(server=row.server, owner="b")
    call_command("migrate", "django_dcr", "0007", verbosity=0)
    call_command("migrate", "django_dcr", verbosity=0)
    found = ClientRegistration.objects.filter(owner_digest=digest("acme"))
    assert found.get().client_id_digest == digest("c1")
    assert (stored(draft).owner_digest, stored(draft).client_id_digest) == (digest("b"), None)

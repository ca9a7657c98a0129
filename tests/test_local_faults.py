"""What may be wrong on this side: replicas, keys, clocks, character sets, many rows."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import Tags, run_checks
from django.db import connection
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    CreateModel,
    RunPython,
    SeparateDatabaseAndState,
)
from django.db.migrations.loader import MigrationLoader

import django_dcr
from django_dcr import services
from django_dcr.checks import is_narrow
from django_dcr.models import ClientRegistration, Status
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WELL_KNOWN,
    WISHES,
    client_information,
    make_registration,
    server_metadata,
)

pytestmark = pytest.mark.django_db

OTHER_KEY = "PSUQzHXJx6cBZFFGn5_bMQlvzTpEWdBgJ0FOYVVN7cE="


class Replica:
    """A router that has a replica for reading, which nothing may be decided on."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:  # pragma: no cover
        if model._meta.app_label == "django_dcr":
            raise AssertionError("a decision was left to a replica")
        return None


def test_no_decision_is_left_to_a_replica(settings: Any, mocked_responses: Any) -> None:
    """L13."""
    settings.DATABASE_ROUTERS = [Replica()]
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    mocked_responses.delete(URI, status=204)
    registration = services.get_or_register(ISSUER, "bob", metadata=WISHES)
    assert services.get_or_register(ISSUER, "bob").pk == registration.pk
    services.read(registration)
    services.update(registration)
    services.renew(registration)
    assert services.reconcile() == []
    services.revoke(registration)
    assert registration.status == Status.REVOKED


def messages() -> list[str | None]:
    found = run_checks(tags=[Tags.database], databases=["default"])
    return [message.id for message in found if str(message.id).startswith("dcr.")]


def test_a_wrong_key_is_told_before_anything_is_written_under_it(settings: Any) -> None:
    """L16: well-formed, and not the one of the stored secrets."""
    assert messages() == []
    make_registration()
    assert messages() == []
    right = settings.DCR_ENCRYPTION_KEYS
    settings.DCR_ENCRYPTION_KEYS = [OTHER_KEY]
    assert messages() == ["dcr.E009"]
    settings.DCR_ENCRYPTION_KEYS = [OTHER_KEY, *right]
    assert messages() == []


def test_one_damaged_secret_is_no_wrong_key() -> None:
    """L18."""
    whole = make_registration(owner="whole")
    damaged = make_registration(owner="damaged", client_id="c2", server=whole.server)
    with connection.cursor() as cursor:
        statement = "UPDATE django_dcr_clientregistration SET client_secret = 'x' WHERE id = %s"
        cursor.execute(statement, [damaged.pk])
    assert messages() == []


def test_a_database_without_our_tables_passes_the_checks(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    make_registration()
    settings.DCR_ENCRYPTION_KEYS = [OTHER_KEY]
    monkeypatch.setattr(ClientRegistration._meta, "db_table", "not_there_yet")
    assert messages() == []


def test_a_site_without_time_zones_registers_and_renews(
    settings: Any, mocked_responses: Any
) -> None:
    """L23: moments are compared with moments of their own kind."""
    settings.USE_TZ = False
    mocked_responses.get(WELL_KNOWN, json=server_metadata())
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information(client_secret="s2"))
    registration = services.get_or_register(ISSUER, metadata=WISHES)
    assert registration.server.is_fresh
    assert services.renew(registration).client_secret.reveal() == "s2"


def test_no_cache_is_needed_or_believed() -> None:
    """L20 and L21: the checked row is the only copy, and nothing is unpickled."""
    for file in Path(django_dcr.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = {alias.name for alias in getattr(node, "names", ())}
            assert not {"pickle", "django.core.cache", "cache"} & names, file
            assert getattr(node, "module", "") != "django.core.cache", file


def test_the_old_version_can_go_on_while_the_new_one_migrates() -> None:
    """L32: after the first migration, nothing is taken away or renamed."""
    migrations = MigrationLoader(connection).disk_migrations
    ours = [m for (app, _name), m in migrations.items() if app == "django_dcr"]
    additive = (AddConstraint, AddField, AddIndex, AlterField, CreateModel, RunPython)
    assert len(ours) >= 1
    later = [step for migration in ours if not migration.initial for step in migration.operations]
    for step in later:
        # What is gone from the models may stay in the table for a release.
        in_state_only = isinstance(step, SeparateDatabaseAndState) and not step.database_operations
        assert in_state_only or isinstance(step, additive)


@pytest.mark.parametrize(
    ("collation", "narrow"),
    [
        ("utf8mb3_general_ci", True),
        ("utf8_unicode_ci", True),
        ("latin1_swedish_ci", True),
        ("utf8mb4_uca1400_ai_ci", False),
        ("utf8mb4_general_ci", False),
        ("", False),
        ("C", False),
    ],
)
def test_a_character_set_that_lacks_characters_is_told(collation: str, narrow: bool) -> None:
    """L26."""
    assert is_narrow(collation) is narrow

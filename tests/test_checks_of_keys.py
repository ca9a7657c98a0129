"""System checks of what signing needs besides its settings."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from django.core.checks import Tags, run_checks

from django_dcr.models import ClientKey
from django_dcr.models.clientkey import LIFETIME
from django_dcr.services import rotate_client_key
from tests.test_client_keys import age

if TYPE_CHECKING:
    from pytest_django import Settings

BASE = "https://shop.example"


def ids(tag: Tags) -> list[str | None]:
    found = run_checks(tags=[tag], databases=["default"])
    return [each.id for each in found if str(each.id).startswith("dcr.")]


@pytest.mark.parametrize(
    ("base", "included", "expected"),
    [(BASE, False, ["dcr.W004"]), (BASE, True, []), ("", False, [])],
    ids=["missing", "included", "not needed"],
)
def test_an_address_without_urls_is_found(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    included: bool,
    expected: list[str],
) -> None:
    bare = ModuleType("urls_without_ours")
    bare.urlpatterns = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, bare.__name__, bare)
    settings.DCR_BASE_URL = base
    if not included:
        settings.ROOT_URLCONF = bare.__name__
    assert ids(Tags.urls) == expected


@pytest.mark.django_db
def test_a_site_that_prefers_keys_and_has_none_is_found(settings: Settings) -> None:
    assert ids(Tags.database) == []
    settings.DCR_PREFER_KEYS = True
    assert ids(Tags.database) == ["dcr.W005"]
    rotate_client_key("an owner")
    assert ids(Tags.database) == ["dcr.W005"]
    key = rotate_client_key()
    assert ids(Tags.database) == []
    age(key, LIFETIME)
    assert ids(Tags.database) == ["dcr.W005"]


@pytest.mark.django_db
def test_a_database_without_the_table_of_keys_passes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier release has left it, before the migration."""
    settings.DCR_PREFER_KEYS = True
    monkeypatch.setattr(ClientKey._meta, "db_table", "not_there_yet")
    assert ids(Tags.database) == []


@pytest.mark.django_db
def test_a_key_that_no_encryption_key_opens_is_found(settings: Settings) -> None:
    rotate_client_key()
    assert ids(Tags.database) == []
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert ids(Tags.database) == ["dcr.E009"]

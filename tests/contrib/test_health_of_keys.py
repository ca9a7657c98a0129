"""The check of client keys for django-health-check."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from health_check.views import HealthCheckView

from django_dcr.models.clientkey import LIFETIME
from django_dcr.services import rotate_client_key
from tests.test_client_keys import age

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

checks = ["django_dcr.contrib.health_check.ClientKeys"]
urlpatterns = [path("health/", HealthCheckView.as_view(checks=checks))]


@pytest.fixture(autouse=True)
def _site(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


def health() -> tuple[int, str]:
    answer = Client().get("/health/", {"format": "json"})
    return answer.status_code, answer.json()["ClientKeys()"]


def test_a_site_whose_clients_need_no_keys_is_well() -> None:
    assert health() == (200, "OK")


def test_keys_that_are_rotated_in_time_are_well() -> None:
    old = rotate_client_key()
    age(old, LIFETIME - timedelta(hours=1))
    rotate_client_key()
    old.refresh_from_db()
    age(old, timedelta(days=2))
    with CaptureQueriesContext(connection) as queries:
        assert health() == (200, "OK")
    assert len(queries) == 1


def test_a_key_that_signs_past_its_date_is_named() -> None:
    key, other = rotate_client_key(), rotate_client_key("o")
    age(key, LIFETIME)
    status, text = health()
    assert status == 500
    assert key.kid in text
    assert other.kid not in text
    assert "dcr_client_keys --rotate" in text


def test_no_more_than_ten_keys_are_named() -> None:
    for number in range(11):
        age(rotate_client_key(str(number)), LIFETIME)
    _status, text = health()
    assert text.count(", ") == 9
    assert " and more" in text


def test_a_site_that_prefers_keys_and_has_none_is_not_well(settings: Settings) -> None:
    settings.DCR_PREFER_KEYS = True
    rotate_client_key("o")
    status, text = health()
    assert status == 500
    assert "there is no client key" in text
    rotate_client_key()
    assert health() == (200, "OK")

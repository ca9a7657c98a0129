from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_dcr import uris
from django_dcr.conf import Settings, conf

DEFAULTS = {
    "DCR_ENCRYPTION_KEYS": (),
    "DCR_ALLOWED_ISSUERS": (),
    "DCR_INTERNAL_ORIGINS": (),
    "DCR_CLIENT_METADATA": {},
    "DCR_PREFER_KEYS": False,
    "DCR_AUTO_REGISTER": True,
    "DCR_METADATA_TTL": 3600.0,
    "DCR_METADATA_MIN_TTL": 300.0,
    "DCR_BACKOFF": 30.0,
    "DCR_TIMEOUT": 10.0,
    "DCR_MAX_RESPONSE_BYTES": 1024 * 1024,
    "DCR_CA_BUNDLE": "",
    "DCR_PROXY": "",
    "DCR_LEASE": 60.0,
    "DCR_RENEW_BEFORE": timedelta(days=7),
    "DCR_TASK_RUNNER": "inline",
    "DCR_BASE_URL": "",
    "DCR_MECHANISMS": ("metadata_document", "dynamic"),
}


def test_these_are_the_settings() -> None:
    assert {name for name in dir(Settings) if name.startswith("DCR_")} == DEFAULTS.keys()


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items(), ids=DEFAULTS)
def test_a_setting_that_is_not_there_has_its_default(
    name: str, default: object, settings: Any
) -> None:
    setattr(settings, name, None)
    delattr(settings, name)
    assert getattr(conf, name) == default


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_is_read_at_each_access(name: str, settings: Any) -> None:
    setattr(settings, name, before := timedelta(days=1))
    assert getattr(conf, name) in (before, str(before))
    setattr(settings, name, after := timedelta(days=2))
    assert getattr(conf, name) in (after, str(after))


def test_the_time_to_renew_may_be_in_seconds(settings: Any) -> None:
    settings.DCR_RENEW_BEFORE = 90
    assert timedelta(seconds=90) == conf.DCR_RENEW_BEFORE


@pytest.mark.parametrize(
    ("entry", "url", "expected"),
    [
        ("https://as.internal", "https://as.internal/register", True),
        ("https://AS.internal", "https://as.INTERNAL/", True),
        ("https://as.internal", "https://as.internal:8443/", True),
        ("https://as.internal:8443", "https://as.internal:8443/", True),
        ("https://as.internal:8443", "https://as.internal/", False),
        ("https://as.internal:443", "https://as.internal/", True),
        ("https://as.internal:443", "https://as.internal:8443/", False),
        ("https://as.internal", "http://as.internal/", False),
        ("http://as.internal", "http://as.internal:8000/", True),
        ("http://as.internal", "https://as.internal/", True),
        ("http://as.internal:8000", "https://as.internal/", False),
        ("https://as.internal", "https://www.as.internal/", False),
        ("https://[::1]", "https://[0::1]/", True),
        ("as.internal", "https://as.internal/", False),
        ("*", "https://as.internal/", False),
    ],
)
def test_an_origin_is_internal_where_it_is_listed(
    entry: str, url: str, expected: bool, settings: Any
) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["https://another.internal", entry]
    assert conf.is_internal(uris.parse(url)) is expected


def test_text_that_is_not_a_url_is_not_internal(settings: Any) -> None:
    settings.DCR_INTERNAL_ORIGINS = ["https://as.internal"]
    assert not conf.is_internal("https://as.internal:port/")


def test_no_origin_is_internal_where_none_is_listed() -> None:
    assert not conf.is_internal(uris.parse("https://127.0.0.1/"))

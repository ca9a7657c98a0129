from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest
from django.core.checks import CheckMessage, registry, run_checks

import django_dcr

if TYPE_CHECKING:
    from pytest_django import Settings

KEY = "A" * 43 + "="
NAN = float("nan")


def found() -> list[CheckMessage]:
    return run_checks(tags=["django_dcr"])


def ids() -> list[str | None]:
    return [message.id for message in found()]


def test_the_settings_of_the_tests_pass() -> None:
    assert ids() == []


def test_an_id_means_one_thing() -> None:
    """And each check function gives one id."""
    source = Path(django_dcr.__file__).with_name("checks.py").read_text()
    functions = re.split(r"(?m)^@register", source)[1:]
    given = [set(re.findall(r'id="(dcr\.[EW]\d{3})"', function)) for function in functions]
    assert sorted(id_ for each in given for id_ in each) == sorted(
        {id_ for each in given for id_ in each}
    )
    assert all(len(each) == 1 for each in given)
    assert len(given) == sum(
        check.__module__ == "django_dcr.checks" for check in registry.registry.get_checks()
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DCR_ENCRYPTION_KEYS", [], ["dcr.E001"]),
        ("DCR_ENCRYPTION_KEYS", None, ["dcr.E001"]),
        ("DCR_ENCRYPTION_KEYS", "", ["dcr.E001"]),
        ("DCR_ENCRYPTION_KEYS", KEY, ["dcr.E002"]),
        ("DCR_ENCRYPTION_KEYS", {KEY: 1}, ["dcr.E002"]),
        ("DCR_ENCRYPTION_KEYS", [KEY[1:], KEY, 7], ["dcr.E002", "dcr.E002"]),
        ("DCR_ENCRYPTION_KEYS", (KEY,), []),
        ("DCR_TIMEOUT", "10", ["dcr.E003"]),
        ("DCR_TIMEOUT", 0, ["dcr.E003"]),
        ("DCR_TIMEOUT", True, ["dcr.E003"]),
        ("DCR_TIMEOUT", NAN, ["dcr.E003"]),
        ("DCR_TIMEOUT", 2.5, []),
        ("DCR_LEASE", -1, ["dcr.E003"]),
        ("DCR_LEASE", float("inf"), ["dcr.E003"]),
        ("DCR_LEASE", timedelta(minutes=1), ["dcr.E003"]),
        ("DCR_LEASE", 10**400, ["dcr.E003"]),
        ("DCR_MAX_RESPONSE_BYTES", 1.5, ["dcr.E003"]),
        ("DCR_MAX_RESPONSE_BYTES", 0, ["dcr.E003"]),
        ("DCR_MAX_RESPONSE_BYTES", 4096, []),
        ("DCR_METADATA_TTL", None, ["dcr.E003"]),
        ("DCR_METADATA_TTL", timedelta(hours=1), ["dcr.E003"]),
        ("DCR_METADATA_TTL", 0, []),
        ("DCR_METADATA_MIN_TTL", -1, ["dcr.E003"]),
        ("DCR_METADATA_MIN_TTL", 0, []),
        ("DCR_BACKOFF", "30", ["dcr.E003"]),
        ("DCR_BACKOFF", 0, []),
        ("DCR_RENEW_BEFORE", "7", ["dcr.E003"]),
        ("DCR_RENEW_BEFORE", timedelta(days=-1), ["dcr.E003"]),
        ("DCR_RENEW_BEFORE", timedelta(days=30), []),
        ("DCR_RENEW_BEFORE", 3600, []),
        ("DCR_BASE_URL", None, ["dcr.E003"]),
        ("DCR_BASE_URL", "shop.example", ["dcr.E011"]),
        ("DCR_BASE_URL", "http://shop.example", ["dcr.E011"]),
        ("DCR_BASE_URL", "https://shop.example/oauth", ["dcr.E011"]),
        ("DCR_BASE_URL", "https://shop.example", []),
        ("DCR_BASE_URL", "https://shop.example/", []),
        ("DCR_BASE_URL", "http://127.0.0.1:8000", []),
        ("DCR_PREFER_KEYS", "yes", ["dcr.E003"]),
        ("DCR_PREFER_KEYS", True, []),
        ("DCR_AUTO_REGISTER", "False", ["dcr.E003"]),
        ("DCR_AUTO_REGISTER", False, []),
        ("DCR_BASE_URL", 7, ["dcr.E003"]),
        ("DCR_BASE_URL", "", []),
        ("DCR_MECHANISMS", "dynamic", ["dcr.E003"]),
        ("DCR_MECHANISMS", ["pre_registered"], ["dcr.E003"]),
        ("DCR_MECHANISMS", ["dynamic"], []),
        ("DCR_ALLOWED_ISSUERS", "https://as.example", ["dcr.E003"]),
        ("DCR_ALLOWED_ISSUERS", [7], ["dcr.E003"]),
        ("DCR_INTERNAL_ORIGINS", "http://as.example", ["dcr.E003"]),
        ("DCR_INTERNAL_ORIGINS", 7, ["dcr.E003"]),
        ("DCR_INTERNAL_ORIGINS", ["as.example"], ["dcr.E004"]),
        ("DCR_INTERNAL_ORIGINS", ["https://as.example/", "https://a.b?c"], ["dcr.E004"] * 2),
        ("DCR_INTERNAL_ORIGINS", ["http://127.0.0.1", "https://as.internal:8443"], []),
        ("DCR_ALLOWED_ISSUERS", ["https://as.example?x=1", "http://as.example"], ["dcr.E005"] * 2),
        ("DCR_ALLOWED_ISSUERS", ("https://as.example/tenant",), []),
        ("DCR_CLIENT_METADATA", [], ["dcr.E006"]),
        ("DCR_CLIENT_METADATA", {"contacts": "a@site.example"}, ["dcr.E006"]),
        ("DCR_CLIENT_METADATA", {"client_secret": "x"}, ["dcr.E006"]),
        ("DCR_CLIENT_METADATA", {"redirect_uris": ["http://site.example/"]}, ["dcr.E006"]),
        ("DCR_CLIENT_METADATA", {"client_name": "{owner}", "tos_uri": None}, []),
        ("DCR_CLIENT_METADATA", {"application_type": "native"}, []),
        ("DCR_CA_BUNDLE", 7, ["dcr.E003"]),
        ("DCR_CA_BUNDLE", "/no/such/file", ["dcr.E007"]),
        ("DCR_CA_BUNDLE", __file__, ["dcr.E007"]),
        ("DCR_CA_BUNDLE", "a\0b", ["dcr.E007"]),
        ("DCR_CA_BUNDLE", Path(certifi.where()), []),
        ("DCR_CA_BUNDLE", "", []),
        ("DCR_PROXY", None, ["dcr.E003"]),
        ("DCR_PROXY", "proxy:3128", ["dcr.E008"]),
        ("DCR_PROXY", "https://proxy:3128", ["dcr.E008"]),
        ("DCR_PROXY", "http://:3128", ["dcr.E008"]),
        ("DCR_PROXY", "http://proxy:99999", ["dcr.E008"]),
        ("DCR_PROXY", "http://[::1", ["dcr.E008"]),
        ("DCR_PROXY", "http://user:password@proxy:3128", []),
        ("DCR_PROXY", "", []),
        ("DCR_TASK_RUNNER", "inline", []),
        ("DCR_TASK_RUNNER", "celery", []),
        ("DCR_TASK_RUNNER", "django.tasks", []),
        ("DCR_TASK_RUNNER", "tests.test_tasks.carry", []),
        ("DCR_TASK_RUNNER", None, ["dcr.E003"]),
        ("DCR_TASK_RUNNER", "", ["dcr.E010"]),
        ("DCR_TASK_RUNNER", "Celery", ["dcr.E010"]),
        ("DCR_TASK_RUNNER", ".enqueue", ["dcr.E010"]),
        ("DCR_TASK_RUNNER", "tests.test_tasks.no_such_function", ["dcr.E010"]),
        ("DCR_TASK_RUNER", "inline", ["dcr.W001"]),
        ("DCR_TIMOUT", 10, ["dcr.W001"]),
        ("DCR_LEASE", 29, ["dcr.W002"]),
        ("DCR_LEASE", 30, []),
        ("DCR_TIMEOUT", 21, ["dcr.W002"]),
    ],
    ids=str,
)
def test_a_wrong_setting_is_found(
    settings: Settings, name: str, value: Any, expected: list[str]
) -> None:
    setattr(settings, name, value)
    assert ids() == expected


def test_missing_keys_are_found_with_the_command_that_makes_one(settings: Settings) -> None:
    """L15."""
    del settings.DCR_ENCRYPTION_KEYS
    (message,) = found()
    assert message.id == "dcr.E001"
    assert "python -c " in (message.hint or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("DCR_ENCRYPTION_KEYS", ["s3cr3t"]), ("DCR_PROXY", "https://user:s3cr3t@proxy")],
    ids=str,
)
def test_no_message_quotes_a_secret(settings: Settings, name: str, value: Any) -> None:
    setattr(settings, name, value)
    (message,) = found()
    assert "s3cr3t" not in f"{message} {message.hint}"


def test_an_issuer_without_tls_may_be_allowed_where_it_is_internal(settings: Settings) -> None:
    settings.DCR_ALLOWED_ISSUERS = ["http://127.0.0.1:8000/o"]
    settings.DCR_INTERNAL_ORIGINS = ["http://127.0.0.1"]
    assert ids() == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DCR_TIMOUT", "Did you mean DCR_TIMEOUT?"),
        ("DCR_MORSE_CODE", "Remove it, or check its spelling."),
    ],
    ids=str,
)
def test_an_unknown_name_comes_with_the_nearest_known_one(
    settings: Settings, name: str, hint: str
) -> None:
    setattr(settings, name, 1)
    (message,) = found()
    assert message.hint == hint
    assert message.msg == f"{name} is not a setting of django-dcr, and does nothing."


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("celery", "celery", "celery"), ("django.tasks", "django_tasks", "django-tasks")],
)
def test_a_missing_engine_comes_with_the_command_that_installs_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
) -> None:
    monkeypatch.delitem(sys.modules, f"django_dcr.contrib.{module}", raising=False)
    for library in (name, module):  # Django 6 has the second within
        monkeypatch.setitem(sys.modules, library, None)
    settings.DCR_TASK_RUNNER = name
    (message,) = found()
    assert message.id == "dcr.E010"
    assert message.hint == f"Install it: pip install {package}"


def test_an_unknown_engine_comes_with_the_known_ones(settings: Settings) -> None:
    settings.DCR_TASK_RUNNER = "rq"
    (message,) = found()
    assert message.msg == "DCR_TASK_RUNNER cannot be used: rq doesn't look like a module path"
    assert '"inline", "django.tasks", "celery"' in (message.hint or "")

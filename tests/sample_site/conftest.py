from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

# An installed package needs no such line: pytest finds the fixture by itself.
from django_dcr.pytest_plugin import authorization_server  # noqa: F401

if TYPE_CHECKING:
    from pytest_django import Settings


@pytest.fixture(autouse=True)
def _site(settings: Settings) -> None:
    """What the site has in its settings."""
    settings.ROOT_URLCONF = "tests.sample_site.urls"
    settings.DCR_CLIENT_METADATA = {
        "client_name": "Shop ({owner})",
        "redirect_uris": ["https://shop.test/callback"],
        "scope": "openid email",
    }

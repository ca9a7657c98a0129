"""The fixture ``authorization_server``, which pytest finds by this package's entry point.

pytest imports this in every run where the package is installed: it must import nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_dcr.testing import AuthorizationServer


@pytest.fixture
def authorization_server() -> Iterator[AuthorizationServer]:
    """An authorization server in this process, under https://login.test."""
    server: AuthorizationServer = import_module("django_dcr.testing").AuthorizationServer()
    with server:
        yield server

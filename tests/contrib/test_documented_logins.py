"""The views that docs/login.md shows, run as they are shown."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from django.urls import path

from django_dcr.models import ClientRegistration
from tests.contrib.conftest import Visitor
from tests.contrib.login_server import LoginServer

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

PAGE = (Path(__file__).parents[2] / "docs/login.md").read_text()
CALLBACK = "https://shop.example/callback"


def documented(name: str, issuer: str) -> ModuleType:
    """The example as a module, with the issuer of a server that is there."""
    found = re.search(rf"(?s)<!-- example: {name} -->\n```python\n(.*?)```", PAGE)
    assert found
    module = ModuleType(f"documented_{name}")
    exec(found[1].replace("https://login.example.com/realms/shop", issuer), vars(module))  # noqa: S102
    return module


@pytest.mark.parametrize("name", ["authlib", "requests-oauthlib"])
def test_the_documented_views_log_a_user_in(
    login_server: LoginServer,
    visitor: Visitor,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    module = documented(name, login_server.issuer)
    module.urlpatterns = [path("login", module.log_in), path("callback", module.callback)]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    settings.ROOT_URLCONF = module.__name__
    settings.DCR_CLIENT_METADATA = {"redirect_uris": [CALLBACK]}
    assert visitor.log_in(login_server).json() == {"sub": "jane"}
    assert ClientRegistration.objects.get().owner == "customer-42"


def test_what_another_library_needs_is_there(login_server: LoginServer) -> None:
    module = documented("other", login_server.issuer)
    assert module.metadata["token_endpoint"] == f"{login_server.issuer}/token"
    assert module.method == "S256"
    module.check_login(module.registration, module.attempt, login_server.issuer)

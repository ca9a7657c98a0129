"""The views that docs/login.md shows, run as they are shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from django.urls import path

from django_dcr.models import ClientRegistration
from tests.contrib.conftest import Visitor
from tests.contrib.documentation import documented
from tests.contrib.login_server import LoginServer
from tests.factories import WISHES

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.network, pytest.mark.django_db]

CALLBACK = "https://shop.example/callback"


@pytest.mark.parametrize("name", ["authlib", "requests-oauthlib"])
def test_the_documented_views_log_a_user_in(
    login_server: LoginServer,
    visitor: Visitor,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    module = documented("login.md", name, login_server.issuer)
    module.urlpatterns = [path("login", module.log_in), path("callback", module.callback)]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    settings.ROOT_URLCONF = module.__name__
    settings.DCR_CLIENT_METADATA = {"redirect_uris": [CALLBACK]}
    assert visitor.log_in(login_server).json() == {"sub": "jane"}
    assert ClientRegistration.objects.get().owner == "customer-42"


def test_what_another_library_needs_is_there(login_server: LoginServer) -> None:
    module = documented("login.md", "other", login_server.issuer)
    assert module.metadata["token_endpoint"] == f"{login_server.issuer}/token"
    assert module.method == "S256"
    assert module.redirect_uri == WISHES["redirect_uris"][0]
    assert module.scope == ""
    module.check_login(module.registration, module.attempt, login_server.issuer)

"""The views and routers shown in the guides of docs/ work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.db import router
from django.http import HttpRequest
from django.test import RequestFactory

from django_dcr.models import AuthorizationServer, ClientRegistration
from django_dcr.testing import AuthorizationServer as LoginServer
from tests.contrib.documentation import documented

if TYPE_CHECKING:
    from pytest_django import Settings

ISSUER = "https://login.example.com/realms/shop"


class Tenant(SimpleNamespace):
    def save(self) -> None:
        self.saved = True


def arriving(request: HttpRequest, tenant: Tenant, session: Any = None) -> HttpRequest:
    """A request as the middleware of a site with tenants leaves it."""
    vars(request).update(tenant=tenant, session=session or SessionStore())
    return request


@pytest.mark.django_db
def test_a_tenant_is_connected_and_its_users_log_in(settings: Settings) -> None:
    settings.DCR_CLIENT_METADATA = {"scope": "openid"}
    rf, tenant = RequestFactory(), Tenant(slug="customer-42", issuer="")
    connect = documented("tenants.md", "tenant-connect").connect
    views = documented("tenants.md", "tenant-login")
    with LoginServer(ISSUER) as server:
        assert connect(arriving(rf.post("/", {"issuer": ISSUER}), tenant)).status_code == 200
        assert (tenant.issuer, tenant.saved) == (ISSUER, True)
        assert ClientRegistration.objects.get().owner == "customer-42"

        request = arriving(rf.get("/login"), tenant)
        address = server.log_in(views.log_in(request).headers["Location"])
        views.callback(arriving(rf.get(address), tenant, request.session))
        assert [request.method for request in server.asked("token")] == ["POST"]
    assert ClientRegistration.objects.count() == 1


@pytest.mark.django_db
def test_a_tenant_sees_why_a_server_cannot_be_used() -> None:
    tenant = Tenant(slug="customer-42", issuer="")
    connect = documented("tenants.md", "tenant-connect").connect
    request = RequestFactory().post("/", {"issuer": "https://127.0.0.1"})
    answer = connect(arriving(request, tenant))
    assert answer.status_code == 400
    assert answer.content.startswith(b"That server cannot be used: ")
    assert tenant.issuer == ""


def test_the_router_puts_this_apps_tables_into_another_database(settings: Settings) -> None:
    shown = documented("databases.md", "credentials-router").CredentialsRouter()
    settings.DATABASE_ROUTERS = [shown]
    for model in (AuthorizationServer, ClientRegistration):
        assert router.db_for_read(model) == router.db_for_write(model) == "credentials"
        assert router.allow_migrate_model("credentials", model)
        assert not router.allow_migrate_model("default", model)
    assert router.allow_migrate("default", "auth")

"""What a site tests of its logins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from django.http import HttpResponse
from django.test import Client

from django_dcr import services
from django_dcr.models import ClientRegistration
from django_dcr.testing import AuthorizationServer

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db


def log_in(client: Client, server: AuthorizationServer, tenant: str = "acme") -> HttpResponse:
    """Go to the login page, log in at the server, and come back."""
    page = client.get(f"/login/{tenant}/")
    assert page.status_code == 302, page.content
    return client.get(server.log_in(page.url))


def test_a_user_logs_in(client: Client, authorization_server: AuthorizationServer) -> None:
    page = log_in(client, authorization_server)
    assert page.content == b"Hello, jane@example.com."
    assert client.session["_auth_user_id"]


def test_the_first_login_registers_the_site(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    log_in(client, authorization_server)
    log_in(client, authorization_server)
    [request] = authorization_server.asked("registration")
    assert request.json["client_name"] == "Shop (acme)"


def test_each_tenant_has_a_server_and_a_client_of_its_own(client: Client) -> None:
    with AuthorizationServer() as acme, AuthorizationServer("https://sso.test/realms/globex") as g:
        log_in(client, acme, "acme")
        log_in(client, g, "globex")
        assert len(acme.clients) == len(g.clients) == 1


def test_two_users_of_a_tenant_are_two_users(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    authorization_server.user["email"] = "info@acme.test"
    first = client.get("/login/acme/").url
    client.get(authorization_server.log_in(first, sub="joe"))
    joe = client.session["_auth_user_id"]
    log_in(client, authorization_server)
    assert client.session["_auth_user_id"] != joe


def test_a_user_who_says_no_is_not_logged_in(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    authorization_server.switch_on("denies")
    assert log_in(client, authorization_server).status_code == 403
    assert authorization_server.asked("token") == []


@pytest.mark.parametrize("habit", ["names_another_issuer", "omits_issuer", "forges_id_tokens"])
def test_an_answer_that_may_be_forged_logs_nobody_in(
    client: Client, authorization_server: AuthorizationServer, habit: str
) -> None:
    page = client.get("/login/acme/")
    authorization_server.switch_on(habit)
    assert client.get(authorization_server.log_in(page.url)).status_code == 403


@pytest.mark.parametrize("habit", ["refuses", "is_unreachable", "fails", "shows_a_page"])
def test_a_user_is_told_that_the_login_is_not_available(
    client: Client, authorization_server: AuthorizationServer, habit: str
) -> None:
    authorization_server.switch_on(habit)
    assert b"not available" in client.get("/login/acme/").content


def test_a_registration_without_an_answer_is_not_sent_twice(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    authorization_server.switch_on("hangs", at="registration")
    for _ in range(2):
        assert client.get("/login/acme/").status_code == 503
    assert ClientRegistration.objects.get().status == "unknown"
    assert len(authorization_server.asked("registration")) == 1


def test_a_server_that_hangs_while_a_user_comes_back_logs_nobody_in(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    authorization_server.switch_on("hangs", at="token")
    assert log_in(client, authorization_server).status_code == 403


def test_an_expired_secret_is_renewed_before_the_login(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    authorization_server.switch_on("expires_secrets", "rotates_secrets")
    log_in(client, authorization_server)
    ClientRegistration.objects.update(client_secret_expires_at=1)  # or let time pass: freezegun
    assert log_in(client, authorization_server).status_code == 200
    assert ClientRegistration.objects.get().client_secret_expires_at > time.time() + 3000


def test_a_client_that_the_server_forgot_is_noticed(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    log_in(client, authorization_server)
    page = client.get("/login/acme/")
    answer = authorization_server.log_in(page.url)
    authorization_server.switch_on("forgets")
    assert client.get(answer).status_code == 403
    assert ClientRegistration.objects.get().status == "gone"


def test_a_server_without_registration_takes_the_client_of_its_console(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    authorization_server.switch_on("offers_no_registration")
    entered = authorization_server.add_client(redirect_uris=["https://shop.test/callback"])
    services.adopt(
        authorization_server.issuer,
        "acme",
        client_id=entered["client_id"],
        client_secret=entered["client_secret"],
    )
    assert log_in(client, authorization_server).status_code == 200


def test_a_server_that_takes_documents_fetches_the_sites(
    client: Client, authorization_server: AuthorizationServer, settings: Settings
) -> None:
    settings.DCR_BASE_URL = "https://shop.test"
    authorization_server.switch_on("takes_documents")
    assert log_in(client, authorization_server).status_code == 200
    assert authorization_server.clients == {}
    assert ClientRegistration.objects.get().mechanism == "metadata_document"


def test_a_site_that_prefers_keys_signs(
    client: Client, authorization_server: AuthorizationServer, settings: Settings
) -> None:
    settings.DCR_BASE_URL, settings.DCR_PREFER_KEYS = "https://shop.test", True
    services.rotate_client_key()
    assert log_in(client, authorization_server).status_code == 200
    assert "client_assertion" in authorization_server.asked("token")[0].form


def test_a_tenant_who_leaves_leaves_no_client_behind(
    client: Client, authorization_server: AuthorizationServer
) -> None:
    log_in(client, authorization_server)
    services.revoke(ClientRegistration.objects.get(owner="acme"))
    assert authorization_server.clients == {}

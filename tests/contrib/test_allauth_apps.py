"""``adopt_social_apps``: from allauth's apps to registrations."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.socialaccount.models import SocialApp
from django.core.management import CommandError, call_command

from django_dcr import services
from django_dcr.models import ClientRegistration
from tests.factories import ISSUER, events_of

pytestmark = pytest.mark.django_db


def make_app(name: str = "acme", **values: Any) -> SocialApp:
    settings = values.pop("settings", {"server_url": ISSUER})
    given = {"provider_id": name, "client_id": f"c-{name}", "secret": "s1 ", **values}
    return SocialApp.objects.create(
        provider="openid_connect", name=name, settings=settings, **given
    )


@pytest.mark.parametrize(
    ("server_url", "issuer"),
    [
        (ISSUER, ISSUER),
        (f"{ISSUER}/.well-known/openid-configuration", ISSUER),
        ("https://as.example/.well-known/openid-configuration/tenant", ISSUER),
        ("https://as.example/.well-known/oauth-authorization-server", "https://as.example"),
    ],
)
def test_an_app_becomes_a_registration(
    server_url: str, issuer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_app(settings={"server_url": server_url, "token_auth_method": "client_secret_post"})
    SocialApp.objects.create(provider="github", name="other", client_id="x")
    call_command("adopt_social_apps")
    row = services.get_or_register(issuer, "acme")
    assert (row.client_id, row.client_secret.reveal()) == ("c-acme", "s1")
    assert row.metadata["token_endpoint_auth_method"] == "client_secret_post"
    assert events_of(row)[0].actor == "manage.py adopt_social_apps"
    assert f"acme: registration {row.pk}" in capsys.readouterr().out
    assert SocialApp.objects.count() == 2


def test_it_can_be_run_again() -> None:
    make_app(secret="")
    for _run in range(2):
        call_command("adopt_social_apps", "--owner", "")
    row = ClientRegistration.objects.get()
    assert (row.owner, row.metadata["token_endpoint_auth_method"]) == ("", "none")


def test_one_that_fails_does_not_stop_the_others() -> None:
    make_app("none", settings={})
    make_app("masked", secret="********")
    make_app("good")
    with pytest.raises(CommandError) as caught:
        call_command("adopt_social_apps")
    assert "none: The app's settings name no server_url" in str(caught.value)
    assert "masked: The client_secret is masked" in str(caught.value)
    assert ClientRegistration.objects.get().client_id == "c-good"

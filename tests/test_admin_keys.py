"""Client keys in the admin."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_dcr.models import ClientKey, ClientRegistration
from django_dcr.models.clientkey import LIFETIME, PUBLISHED_AFTER
from django_dcr.services import rotate_client_key
from tests.factories import GRANTED, make_registration, make_server
from tests.test_client_keys import age

pytestmark = pytest.mark.django_db

LIST = "/admin/django_dcr/clientkey/"
METHOD = {"token_endpoint_auth_method": "private_key_jwt"}


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("staff"))
    return client


def permitted(*codenames: str) -> Client:
    user = User.objects.create_user("limited", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def of(key: ClientKey) -> str:
    return f"{LIST}{key.pk}/change/"


def rotate(client: Client, *keys: ClientKey, **more: str) -> str:
    post = {"action": "rotate", "_selected_action": [key.pk for key in keys], **more}
    response = client.post(LIST, post, follow=True)
    return response.content.decode()


def test_the_list_shows_the_keys_with_their_state_in_the_rotation(staff: Client) -> None:
    old = rotate_client_key()
    age(old, LIFETIME)
    new = rotate_client_key()
    old.refresh_from_db()
    age(old, timedelta(days=2))
    gone = rotate_client_key("customer-42")
    age(gone, LIFETIME + PUBLISHED_AFTER)
    shown = page(staff, LIST)
    for text in (
        old.kid,
        new.kid,
        "customer-42",
        "has signed",
        "signs later",
        "no longer published",
    ):
        assert text in shown


def test_no_page_contains_a_private_key(staff: Client) -> None:
    """R-185."""
    key = rotate_client_key()
    secret = json.loads(key.private_key.reveal())["d"]
    shown = [page(staff, url) for url in (LIST, of(key), f"{LIST}{key.pk}/history/")]
    shown.append(rotate(staff, key))
    assert key.public_key["x"] in shown[1]
    assert not any(secret in text or key.private_key.ciphertext in text for text in shown)


def test_a_lost_encryption_key_breaks_no_page(staff: Client, settings: object) -> None:
    key = rotate_client_key()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]  # type: ignore[attr-defined]
    assert key.kid in page(staff, LIST)
    assert key.kid in page(staff, of(key))


def test_the_page_of_a_key_lists_the_clients_that_sign_with_it(staff: Client) -> None:
    site, own = rotate_client_key(), rotate_client_key("o")
    server = make_server()
    ours = make_registration(server=server, owner="a", metadata={**GRANTED, **METHOD})
    theirs = make_registration(
        server=server, owner="o", client_id="c2", metadata={**GRANTED, **METHOD}
    )
    none = {**GRANTED, **METHOD, "jwks": {"keys": []}}
    make_registration(server=server, owner="c", client_id="c3", metadata=none)
    make_registration(server=server, owner="d", client_id="c4")
    numbers = [
        re.findall(r"/clientregistration/(\d+)/change/", page(staff, of(key)))
        for key in (site, own)
    ]
    assert numbers == [[str(ours.pk)], [str(theirs.pk)]]


def test_the_clients_are_listed_without_links_where_their_admin_is_missing(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rotate_client_key()
    row = make_registration(owner="a", metadata={**GRANTED, **METHOD})
    monkeypatch.delitem(admin.site._registry, ClientRegistration)
    assert str(row) in page(staff, of(key))


def test_a_button_rotates_before_it_is_due(staff: Client) -> None:
    key = rotate_client_key()
    assert 'value="rotate"' in page(staff, of(key))
    shown = rotate(staff, key, _from_page="1")
    new = ClientKey.objects.latest("pk")
    assert (new.number, new.state) == (2, "next")
    assert new.kid in shown
    assert "once servers have had a day to fetch it" in shown
    assert LogEntry.objects.filter(object_id=str(new.pk)).exists()


def test_two_keys_of_one_owner_and_algorithm_are_rotated_once(staff: Client) -> None:
    key = rotate_client_key()
    rotate(staff, key)
    rotate(staff, *ClientKey.objects.all())
    assert ClientKey.objects.count() == 2


def test_the_first_key_for_an_algorithm_is_created_by_the_form(staff: Client) -> None:
    response = staff.post(f"{LIST}add/", {"owner": "customer-42", "algorithm": "RS256"})
    key = ClientKey.objects.get()
    assert (key.owner, key.algorithm, key.state) == ("customer-42", "RS256", "signing")
    assert response.headers["Location"] == of(key)


@pytest.mark.parametrize(
    ("owner", "message"),
    [("", "This owner has keys for this algorithm"), ("a\0b", "Null characters")],
)
def test_a_key_that_cannot_be_created_is_refused(staff: Client, owner: str, message: str) -> None:
    rotate_client_key()
    response = staff.post(f"{LIST}add/", {"owner": owner, "algorithm": "ES256"})
    assert message in response.content.decode()
    assert ClientKey.objects.count() == 1


def test_a_key_is_never_edited(staff: Client) -> None:
    key = rotate_client_key()
    staff.post(of(key), {"owner": "another", "algorithm": "RS256"})
    key.refresh_from_db()
    assert (key.owner, key.algorithm) == ("", "ES256")


def test_a_key_that_signs_is_not_deleted(staff: Client) -> None:
    key = rotate_client_key()
    response = staff.post(f"{LIST}{key.pk}/delete/", {"post": "yes"}, follow=True)
    assert "rotate it, and wait" in response.content.decode()
    assert ClientKey.objects.exists()
    age(key, LIFETIME + timedelta(days=1))
    staff.post(f"{LIST}{key.pk}/delete/", {"post": "yes"})
    assert not ClientKey.objects.exists()


@pytest.mark.parametrize(
    ("codenames", "status", "may"),
    [
        (["view_clientkey", "rotate_clientkey"], 200, True),
        (["view_clientkey"], 200, False),
        (["rotate_clientkey"], 403, False),
    ],
)
def test_rotating_requires_a_permission(codenames: list[str], status: int, may: bool) -> None:
    key = rotate_client_key()
    client = permitted(*codenames)
    response = client.get(of(key))
    assert response.status_code == status
    assert ('value="rotate"' in response.content.decode()) == may
    client.post(LIST, {"action": "rotate", "_selected_action": [key.pk]})
    assert ClientKey.objects.count() == (2 if may else 1)


def test_the_page_of_a_server_has_the_options_of_assertions(staff: Client) -> None:
    server = make_server()
    shown = page(staff, f"/admin/django_dcr/authorizationserver/{server.pk}/change/")
    for name in ("assertion_audience", "assertion_typ", "sends_jwks"):
        assert f'name="{name}"' in shown

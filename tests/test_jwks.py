"""The public keys that servers fetch from this site."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_dcr.fields import digest
from django_dcr.models import ClientKey
from django_dcr.models.clientkey import LIFETIME, PUBLISHED_AFTER
from django_dcr.protocol import KEY_TYPES
from django_dcr.protocol.client_metadata import PRIVATE_KEY_MEMBERS
from django_dcr.services import rotate_client_key
from tests.test_client_keys import age

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

URL = "/oauth/jwks.json"


def kids(url: str = URL) -> list[str]:
    return [key["kid"] for key in Client().get(url).json()["keys"]]


def test_the_keys_are_published_from_before_they_sign_until_after() -> None:
    """R-184."""
    old = rotate_client_key()
    age(old, LIFETIME)
    new = rotate_client_key()
    assert (old.state, new.state) == ("published", "next")
    assert kids() == [old.kid, new.kid]
    age(old, PUBLISHED_AFTER + timedelta(days=2))
    assert kids() == [new.kid]


@pytest.mark.parametrize("algorithm", KEY_TYPES)
def test_only_public_members_are_published(algorithm: str) -> None:
    """R-185, R-191; also where a row has private ones in the wrong column."""
    key = rotate_client_key(algorithm=algorithm)
    document = Client().get(URL).json()
    assert document == {"keys": [key.public_key]}
    private = json.loads(key.private_key.reveal())
    ClientKey.objects.update(public_key={**key.public_key, **private})
    published = Client().get(URL).json()
    assert published == document
    assert not PRIVATE_KEY_MEMBERS & published["keys"][0].keys()
    assert jwt.PyJWKSet.from_dict(published).keys[0].key_id == key.kid


def test_there_is_a_set_where_there_are_no_keys() -> None:
    """R-191."""
    assert Client().get(URL).json() == {"keys": []}


def test_the_answer_may_be_kept_and_is_for_everyone() -> None:
    rotate_client_key()
    response = Client().get(URL)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/jwk-set+json"
    assert response.headers["Cache-Control"] == "public, max-age=3600"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert not {"Vary", "Set-Cookie"} & {*response.headers}
    assert response.cookies == {}


def test_who_knows_the_keys_is_told_that_nothing_has_changed() -> None:
    rotate_client_key()
    etag = Client().get(URL).headers["ETag"]
    again = Client().get(URL, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "public, max-age=3600"
    assert again.headers["Access-Control-Allow-Origin"] == "*"
    rotate_client_key(force=True)
    assert Client().get(URL, headers={"If-None-Match": etag}).status_code == 200


def test_the_head_is_that_of_the_answer() -> None:
    rotate_client_key()
    whole, head = Client().get(URL), Client().head(URL)
    assert head.content == b""
    assert head.headers == whole.headers


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_there_is_nothing_to_do_but_read(method: str) -> None:
    response = getattr(Client(), method)(URL)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


def test_it_costs_one_query_and_no_session(settings: Settings) -> None:
    settings.ATOMIC_REQUESTS = True
    rotate_client_key()
    visitor = Client()
    visitor.cookies["sessionid"] = "x"
    with CaptureQueriesContext(connection) as queries:
        visitor.get(URL)
    assert ["django_dcr_clientkey" in query["sql"] for query in queries] == [True]


def test_a_lost_encryption_key_hides_no_public_one(settings: Settings) -> None:
    key = rotate_client_key()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert kids() == [key.kid]


def test_a_site_that_wants_a_login_everywhere_still_publishes_its_keys(settings: Settings) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert kids() == []


def test_an_owners_keys_are_at_an_address_of_their_own() -> None:
    site, own = rotate_client_key(), rotate_client_key("customer-42")
    address = f"/oauth/jwks/{digest('customer-42')}.json"
    assert "customer-42" not in address
    assert (kids(), kids(address)) == ([site.kid], [own.kid])


@pytest.mark.parametrize("name", ["customer-42", digest("another"), "x"])
def test_an_owner_without_keys_has_no_address(name: str) -> None:
    rotate_client_key()
    assert Client().get(f"/oauth/jwks/{name}.json").status_code == 404


def test_rotating_the_encryption_key_covers_client_keys(settings: Settings) -> None:
    key = rotate_client_key()
    private: Any = key.private_key.reveal()
    settings.DCR_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.DCR_ENCRYPTION_KEYS]
    call_command("dcr_rotate_keys")
    settings.DCR_ENCRYPTION_KEYS = settings.DCR_ENCRYPTION_KEYS[:1]
    key.refresh_from_db()
    assert key.private_key.reveal() == private

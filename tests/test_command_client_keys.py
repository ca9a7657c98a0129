"""``manage.py dcr_client_keys``: what it lists, what it makes, and whom it tells."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import responses
from django.core.management import CommandError, call_command
from requests import ConnectTimeout

from django_dcr.models import ClientKey, ClientRegistration
from django_dcr.models.clientkey import LIFETIME
from django_dcr.services import adopt, rotate_client_key
from django_dcr.services.key_rotation import outdated
from tests.factories import GRANTED, ISSUER, URI, WISHES, make_registration, make_server, stored
from tests.test_client_keys import age

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db
Capture = pytest.CaptureFixture[str]
METHOD = {"token_endpoint_auth_method": "private_key_jwt"}


def listed(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    call_command("dcr_client_keys", *arguments, "--format", "json")
    document: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return document


def with_keys(*keys: ClientKey, **values: Any) -> ClientRegistration:
    """A registration that has these keys in it."""
    jwks = {"keys": [key.public_key for key in keys]}
    return make_registration(
        requested_metadata={**WISHES, **METHOD},
        metadata={**GRANTED, **METHOD, "jwks": jwks},
        client_secret=None,
        **values,
    )


def test_the_keys_are_listed_with_their_moments_and_no_private_part(capsys: Capture) -> None:
    key = rotate_client_key()
    (shown,) = listed(capsys)
    assert shown == {
        "kid": key.kid,
        "owner": "",
        "algorithm": "ES256",
        "state": "signing",
        "created": key.created_at.isoformat(),
        "signs_from": key.signs_from.isoformat(),
        "signs_until": key.signs_until.isoformat(),
        "published_until": key.published_until.isoformat(),
    }


def test_the_table_is_for_people(capsys: Capture) -> None:
    key = rotate_client_key()
    call_command("dcr_client_keys")
    head, line = capsys.readouterr().out.splitlines()
    assert head.split("\t")[:4] == ["kid", "owner", "algorithm", "state"]
    assert line.split("\t")[0] == key.kid
    assert f"{key.signs_from:%Y-%m-%d %H:%M}" in line


def test_a_site_without_time_zones_lists_its_keys(capsys: Capture, settings: Settings) -> None:
    settings.USE_TZ = False
    key = rotate_client_key()
    assert listed(capsys)[0]["signs_from"] == key.signs_from.isoformat()


def test_nothing_is_made_by_looking(capsys: Capture) -> None:
    assert listed(capsys) == []


def test_the_first_rotation_makes_the_sites_key(capsys: Capture) -> None:
    (shown,) = listed(capsys, "--rotate")
    assert (shown["owner"], shown["algorithm"], shown["state"]) == ("", "ES256", "signing")


def test_a_rotation_does_nothing_when_nothing_is_due(capsys: Capture) -> None:
    assert listed(capsys, "--rotate") == listed(capsys, "--rotate")


def test_every_kind_that_is_due_gets_its_next_key(capsys: Capture) -> None:
    for owner, algorithm in [("", "ES256"), ("", "RS256"), ("o", "EdDSA")]:
        key = rotate_client_key(owner, algorithm=algorithm)
        age(key, timedelta() if algorithm == "RS256" else LIFETIME)
    shown = listed(capsys, "--rotate")
    assert [(key["owner"], key["algorithm"]) for key in shown[3:]] == [
        ("", "ES256"),
        ("o", "EdDSA"),
    ]
    assert {key["state"] for key in shown[3:]} == {"next"}


def test_one_kind_alone_is_made_and_listed(capsys: Capture) -> None:
    rotate_client_key()
    shown = listed(capsys, "--rotate", "--owner", "o", "--algorithm", "RS256")
    assert [(key["owner"], key["algorithm"]) for key in shown] == [("o", "RS256")]
    assert len(listed(capsys, "--owner", "")) == 1
    assert len(listed(capsys)) == 2


def test_a_key_can_be_made_before_it_is_due(capsys: Capture) -> None:
    rotate_client_key()
    shown = listed(capsys, "--rotate", "--force")
    assert [key["state"] for key in shown] == ["signing", "next"]


def test_force_without_rotate_is_a_mistake() -> None:
    with pytest.raises(CommandError, match="--force goes with --rotate"):
        call_command("dcr_client_keys", "--force")


def test_a_server_that_holds_the_keys_is_told_before_the_next_one_signs(
    capsys: Capture, mocked_responses: responses.RequestsMock
) -> None:
    """R-184."""
    old = rotate_client_key()
    row = with_keys(old)
    age(old, LIFETIME - timedelta(days=3))
    mocked_responses.get(URI, json={"client_id": "c1", **row.metadata})
    mocked_responses.put(URI, json={"client_id": "c1"})
    call_command("dcr_client_keys", "--rotate")
    assert capsys.readouterr().err == "1 of 1 registrations updated.\n"
    sent = json.loads(mocked_responses.calls[-1].request.body or "")
    new = ClientKey.objects.latest("pk")
    assert new.state == "next"
    assert sent["jwks"] == {"keys": [old.public_key, new.public_key]}
    assert stored(row).metadata["jwks"] == sent["jwks"]
    call_command("dcr_client_keys", "--rotate")
    assert len(mocked_responses.calls) == 2


def test_a_server_that_holds_a_deleted_key_is_told(
    mocked_responses: responses.RequestsMock,
) -> None:
    """After a leak: what it goes on taking would not be ours alone."""
    leaked, new = rotate_client_key(), rotate_client_key(force=True)
    row = with_keys(leaked, new)
    assert outdated() == []
    age(new, timedelta(days=2))
    leaked.delete()
    mocked_responses.get(URI, json={"client_id": "c1"})
    mocked_responses.put(URI, json={"client_id": "c1"})
    call_command("dcr_client_keys", "--rotate")
    assert stored(row).metadata["jwks"] == {"keys": [new.public_key]}


def test_a_server_that_echoes_no_list_of_keys_is_told() -> None:
    row = with_keys()
    row.metadata["jwks"] = {"keys": 5}
    row.save()
    assert outdated() == [row]


def test_a_server_that_fetches_the_keys_is_not_told(settings: Settings, capsys: Capture) -> None:
    settings.DCR_BASE_URL = "https://site.example"
    rotate_client_key()
    metadata = {**GRANTED, **METHOD, "jwks_uri": "https://site.example/oauth/jwks.json"}
    make_registration(requested_metadata={**WISHES, **METHOD}, metadata=metadata)
    call_command("dcr_client_keys", "--rotate", "--force")
    assert capsys.readouterr().err == ""


def test_keys_that_are_not_this_apps_are_left_alone(capsys: Capture) -> None:
    wishes = {**WISHES, **METHOD, "jwks_uri": "https://keys.example/jwks"}
    make_registration(requested_metadata=wishes, metadata={**GRANTED, **wishes})
    call_command("dcr_client_keys", "--rotate")
    assert capsys.readouterr().err == ""


def test_a_server_that_is_disabled_is_not_told(capsys: Capture) -> None:
    with_keys(rotate_client_key(), server=make_server(enabled=False))
    call_command("dcr_client_keys", "--rotate", "--force")
    assert capsys.readouterr().err == ""


def test_a_server_that_cannot_be_told_is_named_and_its_client_keeps_its_key(
    capsys: Capture, mocked_responses: responses.RequestsMock
) -> None:
    old = rotate_client_key()
    server = make_server()
    dead = with_keys(old, server=server, registration_client_uri="")
    live = with_keys(old, server=server, owner="b", client_id="c2")
    mocked_responses.get(URI, json={"client_id": "c2"})
    mocked_responses.put(URI, json={"client_id": "c2"})
    age(old, LIFETIME)
    with pytest.raises(CommandError, match=rf"(?s)sign with the keys .*  {dead.pk}: ") as caught:
        call_command("dcr_client_keys", "--rotate")
    assert f"  {live.pk}: " not in str(caught.value)
    captured = capsys.readouterr()
    assert captured.err == "1 of 2 registrations updated.\n"
    assert len(captured.out.splitlines()) == 3
    dead.client_authentication()


def test_looking_for_whom_to_tell_costs_two_queries(
    settings: Settings, django_assert_num_queries: Any
) -> None:
    settings.DCR_BASE_URL = "https://site.example"
    keys = [rotate_client_key(), rotate_client_key("0")]
    server = make_server()
    rows = [with_keys(keys[0], server=server, owner=str(n), client_id=f"c{n}") for n in range(4)]
    with django_assert_num_queries(2):
        assert outdated() == rows


def test_a_row_whose_wishes_are_no_metadata_keeps_no_other_from_being_told() -> None:
    old = rotate_client_key()
    row = with_keys()
    ClientRegistration.objects.filter(pk=row.pk).update(requested_metadata=["no object"])
    other = with_keys(owner="b", client_id="c2", server=row.server)
    assert old.pk
    assert outdated() == [other]


def test_a_silent_server_is_asked_twice_for_all_of_its_clients(
    mocked_responses: responses.RequestsMock,
) -> None:
    server, key = make_server(), rotate_client_key()
    for n in range(4):
        with_keys(key, server=server, owner=str(n), client_id=f"c{n}")
    age(key, LIFETIME)
    mocked_responses.get(URI, body=ConnectTimeout())
    with pytest.raises(CommandError, match="failed to answer 2 times"):
        call_command("dcr_client_keys", "--rotate")
    assert len(mocked_responses.calls) == 2


def test_a_client_of_the_servers_console_is_a_persons_to_update() -> None:
    key = rotate_client_key()
    row = adopt(ISSUER, client_id="c1", metadata={**WISHES, **METHOD})
    assert outdated() == []
    _headers, form = row.client_authentication()
    header = form["client_assertion"].partition(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["kid"] == key.kid

"""dcr_server: the row of a server from the shell."""

from __future__ import annotations

import pytest

from django_dcr.models import AuthorizationServer
from tests.factories import ISSUER, make_draft, make_registration, make_server
from tests.test_commands import fail, run, run_json

pytestmark = pytest.mark.django_db


def test_a_server_is_shown_without_its_token() -> None:
    make_server(name="Bank", initial_access_token="iat-1", last_error="Gone fishing.")
    make_draft(server=AuthorizationServer.objects.get())
    out, err = run("dcr_server", ISSUER)
    assert f"issuer: {ISSUER}\nname: Bank\nenabled: true\n" in out
    assert "has_initial_access_token: true\nregistrations: 1\n" in out
    assert "last_error: Gone fishing.\nmetadata:\n" in out
    assert ("iat-1" not in out, err) == (True, "")
    document = run_json("dcr_server", ISSUER)
    assert document["metadata"]["issuer"] == ISSUER
    assert document["has_initial_access_token"] is True


def test_its_columns_are_set_by_their_types() -> None:
    make_server()
    changes = [
        "name=Bank",
        "enabled=false",
        'client_metadata={"client_name": "Shop"}',
        "trusted_origins=https://a.example https://b.example",
        "requests_per_minute=60",
        "send_client_secret=true",
    ]
    document = run_json("dcr_server", ISSUER, *[f"--set={change}" for change in changes])
    server = AuthorizationServer.objects.get()
    assert (server.name, server.enabled, server.send_client_secret) == ("Bank", False, True)
    assert server.client_metadata == document["client_metadata"] == {"client_name": "Shop"}
    assert server.trusted_origins == ["https://a.example", "https://b.example"]
    assert server.requests_per_minute == 60
    cleared = ["client_metadata=", "trusted_origins=[]", "requests_per_minute=", "name="]
    run("dcr_server", ISSUER, *[f"--set={change}" for change in cleared])
    server.refresh_from_db()
    assert (server.client_metadata, server.trusted_origins, server.name) == ({}, [], "")
    assert server.requests_per_minute is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "initial_access_token=x"], "initial_access_token is not a column to set"),
        (["--set", "name"], "--set takes NAME=VALUE"),
        (["--set", "enabled=yes"], "--set enabled takes JSON"),
        (["--set", "client_metadata={"], "--set client_metadata takes JSON"),
        (
            ["--set", "trusted_origins=a b"],
            'Nothing was changed.\ntrusted_origins: "a" is not an origin.',
        ),
        (["--set", "issuer=as.example"], "Nothing was changed.\nissuer: The issuer "),
        (["--set", "name=x", "--remove"], "Either change the server or give --remove, not both."),
    ],
    ids=" ".join,
)
def test_a_wrong_change_is_told_and_stores_nothing(arguments: list[str], sentence: str) -> None:
    make_server()
    assert fail("dcr_server", ISSUER, *arguments)[0].startswith(sentence)
    server = AuthorizationServer.objects.get()
    assert (server.name, server.issuer, server.trusted_origins) == ("", ISSUER, [])


def test_a_server_that_is_not_stored_is_not_made() -> None:
    assert "Fetch its metadata with: manage.py dcr_discover" in fail("dcr_server", ISSUER)[0]
    assert not AuthorizationServer.objects.exists()


@pytest.mark.parametrize(
    ("issuer", "token"), [(f"{ISSUER}/", "iat-1"), ("https://other.example", None)]
)
def test_a_wrong_issuer_is_corrected(issuer: str, token: str | None) -> None:
    make_server(initial_access_token="iat-1")
    _out, err = run("dcr_server", ISSUER, "--set", f"issuer={issuer}")
    assert err == "Find out what the server offers with: manage.py dcr_discover ISSUER\n"
    server = AuthorizationServer.objects.for_issuer(issuer)
    kept = server.initial_access_token
    assert (kept.reveal() if kept else None) == token
    assert server.metadata == {}
    assert AuthorizationServer.objects.count() == 1


def test_what_is_no_url_shares_no_origin() -> None:
    assert not AuthorizationServer(issuer="as.example").shares_origin("https://as.example")


def test_an_issuer_with_registrations_stays() -> None:
    make_registration()
    sentence, _out = fail("dcr_server", ISSUER, "--set", "issuer=https://other.example")
    assert sentence.startswith("Nothing was changed.\nissuer: It has registrations")
    sentence, _out = fail("dcr_server", ISSUER, "--remove")
    assert sentence.startswith(
        "It has registrations (1). Revoke them with: manage.py dcr_revoke --i"
    )
    assert AuthorizationServer.objects.get().issuer == ISSUER


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_server_without_registrations_is_removed(output: str) -> None:
    make_server()
    out, err = run("dcr_server", ISSUER, "--remove", "--format", output)
    assert err == "Removed.\n"
    assert bool(out) == (output == "json")
    assert not AuthorizationServer.objects.exists()

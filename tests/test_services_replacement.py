"""Another client in the place of one that is in use."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_dcr import services
from django_dcr.exceptions import (
    ConflictError,
    InvalidResponseError,
    NotAllowedError,
    UnsupportedError,
)
from django_dcr.lifecycle import ACTIONS
from django_dcr.models import ClientRegistration
from tests.authorization_server import AuthorizationServer
from tests.factories import (
    WISHES,
    events_of,
    in_threads,
    make_registration,
    make_registration_at,
    stored,
)

pytestmark = [pytest.mark.network, pytest.mark.django_db(transaction=True)]


# The server's thread has connections of its own, and those to a database in memory never close.
@pytest.mark.usefixtures("database_file")
def test_the_new_client_is_live_before_the_old_one_is_deleted(
    authorization_server: AuthorizationServer, heard: list[Any]
) -> None:
    old = make_registration_at(authorization_server, owner="acme")
    handed_out: list[str] = []

    def look(_document: object) -> None:
        found = services.get_or_register(authorization_server.issuer, "acme")
        handed_out.append(found.client_id)
        connections.close_all()  # they are the server's thread's own

    authorization_server.while_handling = {"POST": look, "DELETE": look}
    new = services.replace(old)
    new_id = [*authorization_server.clients][-1]
    assert handed_out == [old.client_id, new_id]
    assert (new.client_id, new.status, new.live) == (new_id, "active", True)
    assert new.requested_metadata == old.requested_metadata
    assert (stored(old).status, stored(old).live) == ("revoked", None)
    assert [*authorization_server.clients] == [new_id]
    assert [name for name, *_rest in heard] == ["registered", "renewed", "revoked"]
    assert [event.action for event in events_of(old)] == ["replace", "revoke"]


def test_a_secret_without_an_end_can_be_replaced(
    authorization_server: AuthorizationServer,
) -> None:
    """It has leaked, and ``renew`` finds no new one."""
    old = make_registration_at(authorization_server)
    with pytest.raises(UnsupportedError):
        services.renew(old)
    new = services.replace(old)
    assert new.client_secret.reveal() != "s1"
    assert len(authorization_server.clients) == 1


def test_an_old_client_that_cannot_be_deleted_is_closed_here(
    authorization_server: AuthorizationServer,
) -> None:
    none = {"registration_client_uri": "", "registration_access_token": None}
    old = make_registration_at(authorization_server, **none)
    new = services.replace(old)
    assert new.live
    assert stored(old).status == "revoked"
    assert "may still hold the client" in stored(old).last_error


def test_a_client_that_the_server_forgot_is_replaced(
    authorization_server: AuthorizationServer,
) -> None:
    old = make_registration_at(authorization_server, status="gone", live=None)
    new = services.replace(old)
    assert (new.status, new.live) == ("active", True)
    assert stored(old).status == "gone"
    assert events_of(old)[-1].action == "replace"
    with pytest.raises(ConflictError, match="has another registration"):
        services.replace(old)


def test_an_adopted_client_moves_to_a_registration(
    authorization_server: AuthorizationServer,
) -> None:
    old = services.adopt(authorization_server.issuer, client_id="console", metadata=WISHES)
    with pytest.raises(UnsupportedError, match="--mechanism"):
        services.replace(old)
    new = services.replace(old, mechanism="dynamic")
    assert (new.mechanism, new.client_id) == ("dynamic", "c1")
    assert stored(old).status == "revoked"


@pytest.mark.parametrize("mechanism", ["pre_registered", "carrier_pigeon"])
def test_a_site_makes_no_client_by_hand(mechanism: str) -> None:
    with pytest.raises(NotAllowedError, match=r"metadata_document, dynamic.*dcr_adopt"):
        services.replace(make_registration(), mechanism=mechanism)


def test_where_the_server_refuses_the_old_client_stays(
    authorization_server: AuthorizationServer,
) -> None:
    old = make_registration_at(authorization_server)
    authorization_server.while_handling["POST"] = lambda document: document.update(error="no")
    with pytest.raises(InvalidResponseError):
        services.replace(old)
    row = ClientRegistration.objects.get()
    assert (row.pk, row.status, row.live) == (old.pk, "active", True)


def test_the_client_of_an_interrupted_replacement_is_used(
    authorization_server: AuthorizationServer,
) -> None:
    old = make_registration_at(authorization_server)
    left = make_registration_at(authorization_server, live=None)
    assert services.replace(old).pk == left.pk
    assert authorization_server.asked("POST") == 0


def test_of_two_replacements_at_once_one_wins(
    authorization_server: AuthorizationServer, database_file: object
) -> None:
    pk = make_registration_at(authorization_server).pk

    def replace() -> ClientRegistration:
        row = ClientRegistration.objects.select_related("server").get(pk=pk)
        return services.replace(row)

    outcomes = in_threads(replace, replace)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "ClientRegistration",
        "ConflictError",
    ]
    assert len(authorization_server.clients) == 1


def test_the_command_replaces_and_names_both(
    authorization_server: AuthorizationServer, capsys: pytest.CaptureFixture[str]
) -> None:
    old = make_registration_at(authorization_server, owner="a")
    make_registration_at(authorization_server, owner="b")
    call_command("dcr_replace", "--owner", "a")
    new = ClientRegistration.objects.get(owner="a", live=True)
    told = capsys.readouterr().err
    assert f"Registration {old.pk} was replaced by {new.pk}." in told
    assert "1 of 1 replaced." in told


def test_the_command_skips_clients_that_have_the_mechanism_already(
    authorization_server: AuthorizationServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """So it can be run again after it was interrupted."""
    make_registration_at(authorization_server, owner="a")
    services.adopt(authorization_server.issuer, "b", client_id="console", metadata=WISHES)
    for count in ("1 of 1", "0 of 0"):
        call_command("dcr_replace", "--all", "--mechanism", "dynamic")
        assert f"{count} replaced." in capsys.readouterr().err
    assert {row.mechanism for row in ClientRegistration.objects.live()} == {"dynamic"}


def test_a_queued_job_has_no_mechanism(settings: Any) -> None:
    settings.DCR_TASK_RUNNER = "tests.test_services_replacement.remember"
    row = make_registration()
    with pytest.raises(CommandError, match="--workers"):
        call_command("dcr_replace", row.pk, "--mechanism", "dynamic", "--queue")
    call_command("dcr_replace", row.pk, "--queue")
    assert [("replace", row.pk)] == JOBS


JOBS: list[tuple[str, int]] = []


def remember(action: str, pk: int) -> None:
    JOBS.append((action, pk))


def test_the_pages_offer_what_can_be_replaced() -> None:
    row = make_registration()
    assert ACTIONS["replace"].is_offered(row)
    row.live = None  # a spare
    assert not ACTIONS["replace"].is_offered(row)
    row.status = "gone"
    assert ACTIONS["replace"].allows(row)
    assert not ACTIONS["replace"].is_offered(row)
    row.mechanism = "pre_registered"
    assert not ACTIONS["replace"].allows(row)

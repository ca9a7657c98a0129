"""How a row becomes a client: one table, and invariants that the database holds."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from django_dcr import lifecycle, mechanisms
from django_dcr.lifecycle import ACTIONS, STATES, Status
from django_dcr.mechanisms import MECHANISMS, Mechanism
from django_dcr.models import ClientRegistration
from tests.factories import make_draft, make_registration, stored

pytestmark = pytest.mark.django_db

URL = "https://shop.example/oauth/clients/0123456789abcdef"
DOCUMENT: dict[str, Any] = {
    "mechanism": "metadata_document",
    "document_slug": "0123456789abcdef",
    "client_id": URL,
    "client_secret": None,
    "client_secret_expires_at": None,
    "registration_client_uri": "",
    "registration_access_token": None,
}
ADOPTED: dict[str, Any] = {
    "mechanism": "pre_registered",
    "registration_client_uri": "",
    "registration_access_token": None,
}


def test_each_mechanism_lists_every_action() -> None:
    assert [*MECHANISMS] == Mechanism.values
    for kind in MECHANISMS.values():
        assert kind.actions.keys() == ACTIONS.keys()
        assert kind.states.keys() <= {*Status.values}
        assert kind.meaning
        assert all(action.how for action in kind.actions.values())


def test_a_row_is_dynamic_where_nothing_else_is_said() -> None:
    assert make_draft().mechanism == "dynamic"


def test_the_tables_of_valid_rows_are_accepted() -> None:
    assert make_registration(**DOCUMENT).mechanism == "metadata_document"
    adopted = make_registration(
        **ADOPTED, server=ClientRegistration.objects.get().server, owner="a"
    )
    assert adopted.mechanism == "pre_registered"


@pytest.mark.parametrize(
    "values",
    [
        {"mechanism": "carrier_pigeon"},
        {**DOCUMENT, "client_secret": "s1"},
        {**DOCUMENT, "client_secret_expires_at": 0},
        {**DOCUMENT, "registration_access_token": "t1"},
        {**DOCUMENT, "registration_client_uri": "https://as.example/register/c1"},
        {**DOCUMENT, "client_id": "c1"},
        {**DOCUMENT, "client_id": f"{URL}0"},
        {**DOCUMENT, "client_id": URL.replace("https", "http")},
        {**DOCUMENT, "document_slug": ""},
        {"document_slug": "0123456789abcdef"},
        {**ADOPTED, "client_id": ""},
        {**ADOPTED, "status": "draft"},
        {**ADOPTED, "status": "registering"},
        {**ADOPTED, "status": "rejected"},
        {**ADOPTED, "status": "unknown"},
    ],
    ids=[
        "no such mechanism",
        "document with a secret",
        "document whose secret ends",
        "document with a token",
        "document with a management URI",
        "document with an id that is no URL",
        "document with another URL",
        "document over http",
        "document without a slug",
        "slug without a document",
        "adopted without an id",
        "adopted draft",
        "adopted and registering",
        "adopted and rejected",
        "adopted and unknown",
    ],
)
def test_the_database_refuses_what_a_mechanism_cannot_have(values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_registration(**values)


@pytest.mark.parametrize("mechanism", Mechanism.values)
def test_an_owner_has_one_live_row_whatever_its_mechanism(mechanism: str) -> None:
    row = make_registration()
    kinds = {"metadata_document": DOCUMENT, "pre_registered": {**ADOPTED, "client_id": "c2"}}
    values = kinds.get(mechanism, {"client_id": "c2"})
    with pytest.raises(IntegrityError), transaction.atomic():
        make_registration(server=row.server, **values)


@pytest.mark.usefixtures("database_file")
def test_a_row_of_an_earlier_release_is_dynamic() -> None:
    """And the column that the earlier release still writes stays."""
    row = make_registration()
    call_command("migrate", "django_dcr", "0003", verbosity=0)
    call_command("migrate", "django_dcr", verbosity=0)
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(
            cursor, ClientRegistration._meta.db_table
        )
    assert "history" in {column.name for column in columns}
    assert (stored(row).mechanism, stored(row).document_slug) == ("dynamic", "")
    assert stored(row).client_secret.reveal() == "s1"


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("mechanism", Mechanism.values)
def test_the_meaning_of_a_status_is_worded_for_the_mechanism(mechanism: str, status: str) -> None:
    row = ClientRegistration(mechanism=mechanism, status=status)
    words = MECHANISMS[mechanism].states.get(status)
    state = lifecycle.state_of(row)
    assert state.meaning == (words or STATES[Status(status)]).meaning
    assert state.next_step == (words or STATES[Status(status)]).next_step
    assert state.tone == STATES[Status(status)].tone


def test_rfc_7592_credentials_lift_a_refusal() -> None:
    row = make_registration(mechanism="pre_registered")
    assert mechanisms.refusal(row, "read") == ""
    row.registration_access_token = None
    assert "server's console" in mechanisms.refusal(row, "read")
    assert not ACTIONS["read"].allows(row)
    assert mechanisms.refusal(row, "forget") == ""

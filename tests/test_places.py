"""Which registration took the place of which."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from responses import RequestsMock

from django_dcr.lifecycle import ACTIONS
from django_dcr.models import ClientRegistration
from tests.factories import ENDPOINT, ISSUER, make_draft, make_registration, make_server, stored
from tests.test_commands import fail, run_json

pytestmark = pytest.mark.django_db


def places() -> list[tuple[int | None, int | None]]:
    rows = ClientRegistration.objects.order_by("pk")
    one_by_one = [(row.replaced_by, row.replaces) for row in rows]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        at_once = [(row.replaced_by, row.replaces) for row in rows.with_replacements()]
    assert len(queries) == 1
    assert at_once == one_by_one
    return at_once


def test_rows_of_one_key_name_their_neighbours() -> None:
    server = make_server()
    make_registration(server=server, owner="other", status="gone", live=None)
    first = make_registration(server=server, status="gone", live=None)
    second = make_registration(server=server, status="revoked", live=None)
    third = make_registration(server=server)
    assert places() == [
        (None, None),
        (second.pk, None),
        (third.pk, first.pk),
        (None, second.pk),
    ]


def test_a_client_that_came_too_late_took_no_place() -> None:
    live = make_registration()
    make_registration(server=live.server, status="unknown", live=None, client_id="spare")
    assert places() == [(None, None), (None, None)]


def test_what_was_replaced_offers_nothing_unless_it_is_to_be_deleted() -> None:
    old = make_registration(status="gone", live=None)
    assert not old.is_only_a_record
    make_registration(server=old.server)
    old = stored(old)
    assert old.is_only_a_record
    assert not [name for name, action in ACTIONS.items() if action.is_offered(old)]
    assert ACTIONS["forget"].allows(old), "as the page does that deletes it"
    old.status = "revoking"
    assert not old.is_only_a_record
    assert ACTIONS["revoke"].is_offered(old)
    assert ISSUER in str(old)


def test_json_and_messages_name_the_row_that_took_the_place(
    mocked_responses: RequestsMock,
) -> None:
    lost = make_draft(status="unknown")
    mocked_responses.post(ENDPOINT, status=400, json={"error": "invalid_client_metadata"})
    err = io.StringIO()
    with pytest.raises(CommandError, match="0 of 1 decided"):
        call_command("dcr_reconcile", "--retry", str(lost.pk), stdout=io.StringIO(), stderr=err)
    new = ClientRegistration.objects.get(status="rejected")
    assert err.getvalue() == f"Registration {lost.pk} was replaced by {new.pk}.\n"
    old, current = run_json("dcr_list")
    assert (old["replaced_by"], old["replaces"]) == (new.pk, None)
    assert (current["replaced_by"], current["replaces"]) == (None, lost.pk)


def test_a_decision_that_is_refused_replaces_nothing() -> None:
    row = make_registration()
    sentence, _out = fail("dcr_reconcile", "--retry", row.pk)
    assert "is registered already" in sentence

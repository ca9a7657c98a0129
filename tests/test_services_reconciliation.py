from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import requests
import responses
from django.db import transaction
from django.utils.timezone import now

from django_dcr.exceptions import ConflictError, NetworkError, RequestRejectedError
from django_dcr.models import ClientRegistration
from django_dcr.services import get_or_register, reconcile, retry
from tests.factories import (
    ENDPOINT,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    stored,
)

Stubs = responses.RequestsMock

database = pytest.mark.django_db
past, future = now() - timedelta(minutes=1), now() + timedelta(days=1)


# --- reconcile ---------------------------------------------------------------------------------


@database
def test_there_is_nothing_to_settle() -> None:
    make_registration()
    assert reconcile() == []


@database
def test_an_abandoned_intent_is_unknown(mocked_responses: Stubs) -> None:
    """Promise 1, faults L6 and L9: no second POST without a decision."""
    row = make_draft(status="registering", lease="x", lease_until=past)
    assert reconcile() == [row]
    row = stored(row)
    assert (row.status, row.live, row.lease) == ("unknown", True, "")
    assert "the server may hold a client that cannot be named" in row.last_error
    assert len(mocked_responses.calls) == 0


@database
def test_a_row_that_a_process_holds_is_not_settled(mocked_responses: Stubs) -> None:
    """Fault L9: its lease has not run out."""
    row = make_draft(status="registering", lease="x", lease_until=future)
    other = make_registration(
        server=row.server, owner="another", status="revoking", lease="x", lease_until=future
    )
    assert reconcile() == []
    assert [stored(each).status for each in (row, other)] == ["registering", "revoking"]
    assert len(mocked_responses.calls) == 0


@database
def test_rows_that_need_a_person_are_returned(mocked_responses: Stubs) -> None:
    """Code U."""
    row = make_draft(status="unknown", last_error="the answer was lost")
    assert reconcile() == [row]
    assert (stored(row).status, stored(row).last_error) == ("unknown", "the answer was lost")
    assert len(mocked_responses.calls) == 0


@database
def test_a_client_that_could_not_be_adopted_is_deleted(mocked_responses: Stubs) -> None:
    """Code C."""
    row = make_registration(status="unknown")
    mocked_responses.delete(URI, status=204)
    reconcile()
    assert stored(row).status == "revoked"


@database
def test_a_spare_client_is_deleted(mocked_responses: Stubs) -> None:
    """Faults L10 and 143: what came too late, and could not be deleted then."""
    row = make_registration()
    spare = make_registration(
        server=row.server, live=None, status="unknown", registration_client_uri=URI + "2"
    )
    mocked_responses.delete(URI + "2", status=204)
    assert reconcile() == [spare]
    assert [stored(each).status for each in (row, spare)] == ["active", "revoked"]


@database
def test_a_record_of_a_lost_answer_is_not_listed_for_ever() -> None:
    """It was decided: the row stays as a record."""
    make_draft(status="unknown", live=None)
    assert reconcile() == []


@database
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": 204}, "revoked"),
        ({"status": 401}, "revoked"),
        ({"status": 404}, "revoked"),
        ({"status": 405}, "active"),
        ({"status": 500}, "revoking"),
        ({"body": requests.ConnectionError()}, "revoking"),
    ],
    ids=["204", "401", "404", "405", "500", "broken off"],
)
def test_an_unanswered_deletion_is_sent_again(
    answer: Any, status: str, mocked_responses: Stubs
) -> None:
    """Fault 143."""
    row = make_registration(status="revoking", lease="x", lease_until=past)
    mocked_responses.delete(URI, **answer)
    assert reconcile() == [row]
    assert stored(row).status == status
    assert (stored(row).last_error == "") is (answer.get("status") == 204)


@database
def test_a_row_in_trouble_does_not_stop_the_others(mocked_responses: Stubs) -> None:
    first = make_registration(status="revoking")
    second = make_registration(
        server=first.server,
        owner="another",
        client_id="c2",
        status="revoking",
        registration_client_uri=URI + "2",
    )
    mocked_responses.delete(URI, body=requests.ConnectionError())
    mocked_responses.delete(URI + "2", status=204)
    assert reconcile() == [first, second]
    assert [stored(row).status for row in (first, second)] == ["revoking", "revoked"]


@database
def test_a_deletion_that_lost_its_means_is_left_to_a_person(mocked_responses: Stubs) -> None:
    row = make_registration(status="revoking", registration_access_token=None)
    assert reconcile() == [row]
    assert stored(row).status == "revoking"
    assert len(mocked_responses.calls) == 0


@database
def test_a_replaced_client_without_the_means_is_closed() -> None:
    row = make_registration(status="revoking", live=None, registration_access_token=None)
    assert reconcile() == [row]
    assert stored(row).status == "revoked"


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_nothing_is_sent() -> None:
    """Promise 3."""
    row = make_registration(status="revoking")
    with transaction.atomic(), pytest.raises(ConflictError, match="non_atomic_requests"):
        reconcile()
    assert stored(row).lease == ""


# --- retry -------------------------------------------------------------------------------------


@database
@pytest.mark.parametrize("status", ["unknown", "gone"])
def test_a_person_may_register_again(status: str, mocked_responses: Stubs) -> None:
    """Promise 1: by a decision, and the old row stays as its record."""
    row = make_registration(owner="bob")
    row.fail("no more", status)
    answer = client_information(client_id="c2", client_secret="s2")
    mocked_responses.post(ENDPOINT, status=201, json=answer)
    new = retry(row)
    assert (new.status, new.live, new.owner, new.client_id) == ("active", True, "bob", "c2")
    assert new.requested_metadata == WISHES
    assert (stored(row).status, stored(row).live, stored(row).client_id) == (status, None, "c1")
    assert get_or_register(ISSUER, "bob") == new


@database
def test_the_same_client_may_come_again(mocked_responses: Stubs) -> None:
    row = make_registration(status="unknown")
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    assert retry(row).client_id == "c1"


@database
def test_a_retry_may_be_refused_in_turn(mocked_responses: Stubs, settings: Any) -> None:
    settings.DCR_BACKOFF = 0
    row = make_draft(status="unknown")
    mocked_responses.post(ENDPOINT, status=400, json={"error": "x"})
    mocked_responses.post(ENDPOINT, body=requests.ReadTimeout())
    with pytest.raises(RequestRejectedError):
        retry(row)
    with pytest.raises(NetworkError):
        get_or_register(ISSUER)
    assert [each.status for each in ClientRegistration.objects.order_by("pk")] == ["unknown"] * 2
    assert not stored(row).live


@database
@pytest.mark.parametrize("status", ["draft", "registering", "active", "rejected", "revoked"])
def test_only_unknown_and_gone_rows_are_retried(status: str) -> None:
    row = make_registration(status=status)
    with pytest.raises(ConflictError, match=f"Registration {row.pk} "):
        retry(row)
    assert ClientRegistration.objects.count() == 1


@database
def test_a_row_that_was_settled_meanwhile_is_not_retried() -> None:
    """Fault L12: what this process last saw of the row decides nothing."""
    row = make_registration()
    stale = stored(row)
    stale.status = "unknown"
    with pytest.raises(ConflictError, match="is registered already"):
        retry(stale)
    assert stored(row).live


@database
def test_an_owner_who_has_another_registration_needs_no_retry(mocked_responses: Stubs) -> None:
    row = make_registration(status="unknown")
    mocked_responses.post(ENDPOINT, status=201, json=client_information(client_id="c2"))
    new = retry(stored(row))
    with pytest.raises(ConflictError, match="has another registration at this server"):
        retry(stored(row))
    assert ClientRegistration.objects.live().get() == new


@pytest.mark.django_db(transaction=True)
def test_a_retry_inside_a_transaction_changes_nothing() -> None:
    """Promise 3."""
    row = make_draft(status="unknown")
    with transaction.atomic(), pytest.raises(ConflictError, match="non_atomic_requests"):
        retry(row)
    assert stored(row).live

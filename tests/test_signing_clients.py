"""The life of a client that signs: renewals, refusals, and clocks that differ."""

from __future__ import annotations

import time
from datetime import timedelta
from email.utils import formatdate
from typing import Any

import jwt
import pytest
import responses
from django.utils import timezone

from django_dcr import services
from django_dcr.exceptions import UnsupportedError
from django_dcr.models import ClientRegistration
from tests.factories import (
    ENDPOINT,
    GRANTED,
    ISSUER,
    URI,
    WISHES,
    client_information,
    events_of,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
    stored,
)

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock

METHOD = {"token_endpoint_auth_method": "private_key_jwt"}
SIGNED = {**GRANTED, **METHOD}
LOGIN = {
    "authorization_endpoint": "https://as.example/authorize",
    "token_endpoint": "https://as.example/token",
}


def a_client(**values: Any) -> ClientRegistration:
    server = make_server(metadata=server_metadata(**LOGIN))
    wishes = {**WISHES, **METHOD}
    return make_registration(
        **{
            "server": server,
            "requested_metadata": wishes,
            "metadata": SIGNED,
            "client_secret": None,
            **values,
        }
    )


def answer(**changes: Any) -> dict[str, Any]:
    return client_information(client_secret=..., client_secret_expires_at=..., **METHOD, **changes)


def issued_at(registration: ClientRegistration) -> float:
    _headers, form = registration.client_authentication()
    claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
    return float(claims["iat"])


def test_there_is_nothing_to_renew(mocked_responses: Stubs) -> None:
    row = a_client()
    with pytest.raises(UnsupportedError, match=r"nothing to renew\. .* dcr_client_keys"):
        services.renew(row)
    assert len(mocked_responses.calls) == 0


def test_the_end_of_a_secret_that_was_issued_as_well_is_not_waited_for(
    mocked_responses: Stubs,
) -> None:
    services.rotate_client_key()
    soon = int(time.time()) + 30
    document = client_information(client_secret="s1", client_secret_expires_at=soon, **METHOD)
    mocked_responses.post(ENDPOINT, status=201, json=document)
    services.register(make_draft(requested_metadata={**WISHES, **METHOD}))
    row = services.get_or_register(ISSUER)
    assert row.client_secret.reveal() == "s1"
    assert row.secret_expiry is None
    rows = ClientRegistration.objects.all()
    assert not rows.expiring(timezone.now() + timedelta(days=1)).exists()
    assert len(mocked_responses.calls) == 1


def test_a_secret_is_forgotten_with_its_end_where_a_key_takes_its_place(
    mocked_responses: Stubs,
) -> None:
    services.rotate_client_key()
    row = make_registration(client_secret_expires_at=int(time.time()) + 90)
    row.requested_metadata = {**WISHES, **METHOD}
    mocked_responses.get(URI, json={"client_id": "c1"})
    mocked_responses.put(URI, json=answer())
    services.update(row)
    assert stored(row).signs
    assert stored(row).client_secret_expires_at is None


def test_a_refused_client_is_told_to_look_at_its_keys(mocked_responses: Stubs) -> None:
    """R-192: before anything else is done about it."""
    row = a_client()
    mocked_responses.get(URI, json=answer())
    services.client_refused(row)
    row = stored(row)
    assert row.status == "active"
    for hint in ("jwks_uri", f"dcr_update {row.pk}", "clock", "assertion_audience"):
        assert hint in row.last_error
    assert len(row.last_error) < 500
    assert events_of(row)[-1].error == "RequestRejectedError"


@pytest.mark.parametrize("minutes", [5, -5], ids=["behind", "ahead"])
def test_a_clock_that_is_minutes_off_is_found_out_when_the_client_is_refused(
    mocked_responses: Stubs, minutes: int
) -> None:
    """R-181: what is signed next has the server's time in it."""
    services.rotate_client_key()
    row, offset = a_client(), minutes * 60
    server_time = time.time() - offset
    date = formatdate(server_time, usegmt=True)
    mocked_responses.get(URI, json=answer(), headers={"Date": date})
    services.client_refused(row)
    row = stored(row)
    assert (row.clock_offset, row.last_error) == (offset, "")
    assert server_time - 60 < issued_at(row) < server_time + 60
    (deviation,) = row.deviations
    assert "5 minutes" in deviation
    assert "times in what the client signs" in deviation


def test_a_clock_is_compared_when_the_client_is_registered(mocked_responses: Stubs) -> None:
    services.rotate_client_key()
    date = formatdate(time.time() - 600, usegmt=True)
    document = client_information(client_secret=..., client_secret_expires_at=..., **GRANTED)
    del document["token_endpoint_auth_method"]
    mocked_responses.post(ENDPOINT, status=201, json=document, headers={"Date": date})
    row = services.register(make_draft(requested_metadata={**WISHES, **METHOD}))
    assert stored(row).clock_offset == 600


def test_a_clock_that_agrees_changes_nothing(mocked_responses: Stubs) -> None:
    row = a_client()
    date = formatdate(time.time() - 20, usegmt=True)
    mocked_responses.get(URI, json=answer(), headers={"Date": date})
    services.read(row)
    assert (stored(row).clock_offset, stored(row).deviations) == (0, [])


def test_a_missing_key_is_found_out_before_the_user_leaves() -> None:
    row = a_client()
    with pytest.raises(UnsupportedError, match=r"manage\.py dcr_client_keys"):
        services.for_login(ISSUER)
    services.rotate_client_key()
    assert services.for_login(ISSUER) == row


def test_a_site_that_signs_by_itself_logs_in_without_a_key_here() -> None:
    keys = {"jwks_uri": "https://keys.example/jwks"}
    row = a_client(requested_metadata={**WISHES, **METHOD, **keys}, metadata={**SIGNED, **keys})
    assert services.for_login(ISSUER) == row


def test_a_hit_costs_one_query_and_a_signature_one_at_most(
    django_assert_num_queries: Any,
) -> None:
    a_client()
    services.rotate_client_key()
    with django_assert_num_queries(1):
        row = services.get_or_register(ISSUER)
    with django_assert_num_queries(1):
        row.client_authentication()

"""What a row requests, and what follows from a change of it."""

from __future__ import annotations

import pytest

from django_dcr.exceptions import NotAllowedError
from django_dcr.models import ClientRegistration
from tests.factories import ISSUER, WISHES, make_registration, stored

pytestmark = pytest.mark.django_db


def test_a_changed_request_says_whether_it_differs_from_what_was_granted() -> None:
    row = make_registration()
    row.request_metadata({**WISHES, "client_name": "Other"})
    assert row.has_drift
    row.save(update_fields=row.REQUEST_FIELDS)
    assert stored(row).has_drift
    row.request_metadata(WISHES)
    assert not row.has_drift


def test_a_request_that_must_not_be_sent_is_refused() -> None:
    row = make_registration()
    with pytest.raises(NotAllowedError, match="redirect_uris"):
        row.request_metadata({"redirect_uris": ["http://site.example/"]})


def test_a_row_is_new_until_an_owner_has_a_live_one() -> None:
    new = ClientRegistration.objects.live_or_new(ISSUER, "acme")
    assert (new.pk, new.server.pk, str(new)) == (None, None, f"acme at {ISSUER}")
    row = make_registration(owner="acme")
    assert ClientRegistration.objects.live_or_new(ISSUER, "acme") == row
    assert ClientRegistration.objects.live_or_new(ISSUER).server == row.server


@pytest.mark.parametrize(("issuer", "owner"), [("as.example", ""), (ISSUER, "a\0b")])
def test_no_row_is_new_for_what_the_site_does_not_allow(issuer: str, owner: str) -> None:
    with pytest.raises(NotAllowedError):
        ClientRegistration.objects.live_or_new(issuer, owner)

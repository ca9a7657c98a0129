"""Metadata documents whose client signs with the site's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import pytest
import responses
from django.core.management import call_command

from django_dcr import services
from django_dcr.models import ClientKey, ClientRegistration
from django_dcr.models.clientkey import DUE_BEFORE, LIFETIME
from tests.factories import ISSUER, WISHES, events_of, stored
from tests.test_client_keys import age
from tests.test_services_documents import BASE, OTHER, SIGNING, offering, responses_at, served, site

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

METHODS = ["none", "private_key_jwt"]
JWKS = f"{BASE}/oauth/jwks.json"


@pytest.fixture(autouse=True)
def _public(settings: Settings, mocked_responses: responses.RequestsMock) -> None:
    settings.DCR_BASE_URL = BASE
    mocked_responses.assert_all_requests_are_fired = False
    mocked_responses.add_callback("GET", responses_at(BASE), callback=site)


def registered(issuer: str = ISSUER, **wishes: Any) -> ClientRegistration:
    return services.get_or_register(issuer, metadata={**WISHES, **wishes})


@pytest.mark.parametrize(
    ("prefers", "methods", "algorithms", "method"),
    [
        (True, METHODS, None, "private_key_jwt"),
        (True, METHODS, ["ES256"], "private_key_jwt"),
        (True, METHODS, ["RS256"], "none"),
        (True, ["none"], None, "none"),
        (True, None, None, "none"),
        (False, METHODS, None, "none"),
        (False, ["private_key_jwt"], None, "private_key_jwt"),
    ],
)
def test_where_keys_are_preferred_a_document_signs_at_servers_that_offer_it(
    settings: Settings,
    prefers: bool,
    methods: list[str] | None,
    algorithms: list[str] | None,
    method: str,
) -> None:
    settings.DCR_PREFER_KEYS = prefers
    services.rotate_client_key()
    offered = {
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
    }
    offering(**{name: value for name, value in offered.items() if value is not None})
    settings.DCR_MECHANISMS = ["metadata_document"]
    row = registered()
    document = served(row.client_id)
    assert document["token_endpoint_auth_method"] == method
    assert document.get("jwks_uri") == (JWKS if method == "private_key_jwt" else None)
    assert row.drift == {}


def test_a_method_that_is_stated_counts_more_than_what_is_preferred(settings: Settings) -> None:
    settings.DCR_PREFER_KEYS = True
    services.rotate_client_key()
    offering(token_endpoint_auth_methods_supported=METHODS)
    row = registered(token_endpoint_auth_method="none")
    assert row.metadata["token_endpoint_auth_method"] == "none"


def test_what_is_preferred_and_has_no_key_is_not_asked_for(settings: Settings) -> None:
    settings.DCR_PREFER_KEYS = True
    offering(token_endpoint_auth_methods_supported=METHODS)
    assert registered().metadata["token_endpoint_auth_method"] == "none"


def test_preferring_keys_changes_no_document_that_is_in_use(settings: Settings) -> None:
    services.rotate_client_key()
    offering(token_endpoint_auth_methods_supported=METHODS)
    row = registered()
    settings.DCR_PREFER_KEYS = True
    assert registered().pk == row.pk
    assert served(row.client_id)["token_endpoint_auth_method"] == "none"
    services.update(row)
    assert served(row.client_id)["token_endpoint_auth_method"] == "private_key_jwt"


def test_servers_that_do_not_take_signatures_have_a_document_of_their_own(
    settings: Settings,
) -> None:
    settings.DCR_PREFER_KEYS = True
    services.rotate_client_key()
    offering(token_endpoint_auth_methods_supported=METHODS)
    offering(OTHER, token_endpoint_auth_methods_supported=["none"])
    assert registered().client_id != registered(OTHER).client_id


def test_a_document_that_signs_does_so_at_every_request_and_its_keys_overlap_r175() -> None:
    """R-175: no request without an assertion, and no key that a server has not seen before."""
    first = services.rotate_client_key()
    offering(token_endpoint_auth_methods_supported=METHODS)
    row = services.get_or_register(ISSUER, metadata=SIGNING)
    assert signers(row) == {first.kid}
    age(first, LIFETIME - DUE_BEFORE)
    call_command("dcr_client_keys", "--rotate")
    second = ClientKey.objects.get(number=2)
    assert {key["kid"] for key in served(JWKS)["keys"]} == {first.kid, second.kid}
    assert signers(row) == {first.kid}
    for key in ClientKey.objects.all():
        age(key, DUE_BEFORE)
    assert signers(row) == {second.kid}
    assert {key["kid"] for key in served(JWKS)["keys"]} == {first.kid, second.kid}
    assert [event.action for event in events_of(row)] == ["register"]


def test_a_document_with_the_keys_in_it_is_changed_before_the_next_one_signs_r175() -> None:
    """R-175: where the server's row says that keys are sent by value."""
    first = services.rotate_client_key()
    server = offering(token_endpoint_auth_methods_supported=METHODS)
    server.sends_jwks = True
    server.save()
    row = services.get_or_register(ISSUER, metadata=SIGNING)
    age(first, LIFETIME - DUE_BEFORE)
    call_command("dcr_client_keys", "--rotate")
    second = ClientKey.objects.get(number=2)
    kids = [key["kid"] for key in served(row.client_id)["jwks"]["keys"]]
    assert kids == [first.kid, second.kid]
    assert signers(stored(row)) == {first.kid}


def signers(row: ClientRegistration) -> set[str]:
    """The keys that sign, for the token endpoint and for any other."""
    endpoints = (None, f"{ISSUER}/revoke", f"{ISSUER}/introspect")
    forms = [row.client_authentication(audience)[1] for audience in endpoints]
    return {jwt.get_unverified_header(form["client_assertion"])["kid"] for form in forms}

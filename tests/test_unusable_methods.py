"""Ways to authenticate that this app does not have, and members that no specification has."""

from __future__ import annotations

from typing import Any

import pytest

from django_dcr import protocol
from django_dcr.exceptions import UnsupportedError
from django_dcr.models import ClientRegistration
from django_dcr.services import for_login
from tests.factories import (
    GRANTED,
    ISSUER,
    WISHES,
    make_draft,
    make_registration,
    make_server,
    server_metadata,
)
from tests.test_commands import run, run_json

pytestmark = pytest.mark.django_db

LOGINS = server_metadata(
    authorization_endpoint="https://as.example/authorize",
    token_endpoint="https://as.example/token",
)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"metadata": {**GRANTED, "token_endpoint_auth_method": "tls_client_auth"}},
            'cannot authenticate by "tls_client_auth". Request another',
        ),
        ({"client_secret": None}, "needs a client secret"),
    ],
)
def test_a_login_that_cannot_end_does_not_begin(values: dict[str, Any], reason: str) -> None:
    make_registration(server=make_server(metadata=LOGINS), **values)
    with pytest.raises(UnsupportedError, match=reason) as caught:
        for_login(ISSUER)
    assert caught.value.issuer == ISSUER


def test_a_method_that_cannot_be_used_is_a_warning_before_it_is_registered() -> None:
    row = make_draft(requested_metadata={**WISHES, "token_endpoint_auth_method": "tls_client_auth"})
    [warning] = row.warnings
    assert warning.startswith("This app cannot authenticate by tls_client_auth,")
    assert f'warnings: ["{warning}"]\n' in run("dcr_show", row.pk)[0]
    assert run_json("dcr_show", row.pk)["warnings"] == [warning]
    row.requested_metadata = WISHES
    assert row.warnings == []
    for odd in (["no object"], {"grant_types": 5}, {"token_endpoint_auth_method": 7}):
        row.requested_metadata = odd
        assert row.warnings == []
        assert row.chosen == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("clientname", "client_name"),
        ("clientName", "client_name"),
        ("redirect_uri", "redirect_uris"),
        ("scopes", "scope"),
        ("client_name#de", ""),
        ("client_id", ""),
        ("dpop_bound_access_tokens", ""),
        ("x", ""),
    ],
)
def test_a_member_that_looks_misspelt_is_remarked(name: str, meant: str) -> None:
    sentences = protocol.warnings({**WISHES, name: "x", "client_name": "y"}, {})
    assert [f"if {meant} is meant" in sentence for sentence in sentences] == [True] * bool(meant)


def test_what_is_chosen_for_lack_of_a_wish_is_known() -> None:
    row = make_draft()
    assert row.chosen == {"token_endpoint_auth_method": "client_secret_basic"}
    row.requested_metadata = {}
    assert row.chosen == {}
    row.server.metadata = server_metadata(token_endpoint_auth_methods_supported=["tls_client_auth"])
    row.requested_metadata = WISHES
    assert row.chosen == {}


def test_the_methods_of_the_model_are_those_of_the_protocol() -> None:
    for method in ClientRegistration.AUTHENTICATION_METHODS:
        protocol.check_authentication_method(method, has_secret=True)

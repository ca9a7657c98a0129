"""dcr_discover --resource: what a resource says, which server is chosen, and how to choose."""

from __future__ import annotations

from typing import Any

import pytest
import responses
from django.core.exceptions import ValidationError

from django_dcr.models import AuthorizationServer, ProtectedResource
from tests.factories import ISSUER
from tests.test_commands import fail, run, run_json
from tests.test_services_resources import (
    HOST,
    OTHER,
    PLACE,
    RESOURCE,
    ROOT,
    document,
    make_resource,
)

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock


def test_a_resource_is_shown_with_the_server_it_leads_to(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, json=document(scopes_supported=["read"]))
    shown = run_json("dcr_discover", "--resource", RESOURCE)
    row = ProtectedResource.objects.get()
    assert shown == {
        "resource": RESOURCE,
        "metadata_url": ROOT,
        "fetched_at": row.fetched_at.isoformat(timespec="seconds"),
        "fresh_until": row.fresh_until.isoformat(timespec="seconds"),
        "asked_in_vain": [f"{PLACE} answered 404"],
        "alias": "",
        "indicator": RESOURCE,
        "pinned_issuer": "",
        "server": ISSUER,
        "allowed_servers": [ISSUER],
        "refused_servers": {},
        "scopes_supported": ["read"],
        "metadata": document(scopes_supported=["read"]),
    }
    assert not AuthorizationServer.objects.exists()


def test_a_table_has_a_line_for_each_thing_that_was_found(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, json=document())
    out, err = run("dcr_discover", "--resource", RESOURCE)
    assert out.startswith(f"resource: {RESOURCE}\nmetadata_url: {PLACE}\n")
    assert f"server: {ISSUER}\n" in out
    assert err == ""


def test_what_is_refused_is_shown_with_the_reason(mocked_responses: Stubs, settings: Any) -> None:
    settings.DCR_ALLOWED_ISSUERS = [ISSUER]
    mocked_responses.get(PLACE, json=document("http://as.example", OTHER))
    out, err = run("dcr_discover", "--resource", RESOURCE)
    assert "refused_servers:\n  http://as.example: The issuer is not https" in out
    assert f"  {OTHER}: The issuer {OTHER} is not in DCR_ALLOWED_ISSUERS" in out
    assert err.startswith("Warning: This resource names no authorization server that this site")


def test_of_several_servers_one_is_pinned(mocked_responses: Stubs) -> None:
    """R-042."""
    mocked_responses.get(PLACE, json=document(ISSUER, OTHER))
    out, err = run("dcr_discover", "--resource", RESOURCE)
    assert "server: " not in out.replace("allowed_server", "")
    assert err.startswith("Warning: This resource names 2 authorization servers")
    shown = run_json("dcr_discover", "--resource", RESOURCE, "--pin", OTHER)
    assert (shown["server"], shown["pinned_issuer"]) == (OTHER, OTHER)
    assert ProtectedResource.objects.get().pinned_issuer == OTHER
    shown = run_json("dcr_discover", "--resource", RESOURCE, "--pin", "")
    assert (shown["server"], shown["pinned_issuer"]) == (None, "")


@pytest.mark.parametrize(
    ("pin", "sentence"),
    [
        ("https://third.example", "is not among those that the resource names"),
        ("http://as.example", "The issuer is not https"),
    ],
)
def test_only_a_server_that_is_named_and_allowed_is_pinned(
    pin: str, sentence: str, mocked_responses: Stubs
) -> None:
    mocked_responses.get(PLACE, json=document("http://as.example", OTHER))
    assert sentence in fail("dcr_discover", "--resource", RESOURCE, "--pin", pin)[0]
    assert ProtectedResource.objects.get().pinned_issuer == ""


def test_an_alias_is_accepted_by_name(mocked_responses: Stubs) -> None:
    """R-033: it is recorded on the row, and can be taken back."""
    mocked_responses.get(PLACE, json=document(resource=HOST))
    assert "--alias NAME" in fail("dcr_discover", "--resource", RESOURCE)[0]
    shown = run_json("dcr_discover", "--resource", RESOURCE, "--alias", HOST)
    assert (shown["alias"], shown["indicator"]) == (HOST, HOST)
    assert ProtectedResource.objects.get().alias == HOST
    fail("dcr_discover", "--resource", RESOURCE, "--alias", "")
    assert ProtectedResource.objects.get().alias == ""


def test_an_alias_elsewhere_is_refused() -> None:
    make_resource()
    sentence, _out = fail("dcr_discover", "--resource", RESOURCE, "--alias", OTHER)
    assert sentence.startswith("Nothing was changed.\nalias: Write an address on the same origin")
    assert ProtectedResource.objects.get().alias == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give either an issuer or --resource URL."),
        ([ISSUER, "--resource", RESOURCE], "Give either an issuer or --resource URL."),
        ([ISSUER, "--pin", OTHER], "--pin and --alias go with --resource."),
        ([ISSUER, "--alias", OTHER], "--pin and --alias go with --resource."),
        (["--resource", f"{RESOURCE}#a"], "The address of the resource has a fragment"),
        (["--resource", f"{RESOURCE}#a", "--alias", HOST], "The address of the resource has a"),
        (["--resource", "\ud800"], "The address of the resource is not an absolute"),
    ],
    ids=ascii,
)
def test_wrong_arguments_are_told(arguments: list[str], sentence: str) -> None:
    assert fail("dcr_discover", *arguments)[0].startswith(sentence)
    assert not ProtectedResource.objects.exists()


def test_a_failure_names_every_place_that_was_asked(mocked_responses: Stubs) -> None:
    mocked_responses.get(PLACE, status=404)
    mocked_responses.get(ROOT, body="<html>")
    sentence, out = fail("dcr_discover", "--resource", RESOURCE)
    assert f"{PLACE} answered 404; {ROOT} is not a JSON object." in sentence
    assert out == ""


# --- the row's own checks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"resource": f"{RESOURCE}#"}, "resource", "fragment"),
        ({"resource": OTHER}, "resource", "already listed"),
        ({"alias": f"{HOST}/other"}, "alias", "same origin"),
        ({"pinned_issuer": "http://as.example"}, "pinned_issuer", "not https"),
        ({"trusted_origins": ["https://a.example/"]}, "trusted_origins", "not an origin"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_on_its_field(
    values: dict[str, Any], field: str, sentence: str
) -> None:
    make_resource(resource=OTHER)
    row = ProtectedResource(**{"resource": RESOURCE, **values})
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    assert sentence in str(caught.value.message_dict[field])


def test_a_right_value_is_accepted() -> None:
    row = make_resource(alias=HOST, pinned_issuer=ISSUER, trusted_origins=["https://a.example"])
    row.full_clean()
    assert str(row) == RESOURCE

"""``dcr_document``, and ``dcr_register --mechanism``."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import responses
from django.core.management import CommandError, call_command
from django.test import Client

from django_dcr.models import ClientRegistration
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    ISSUER,
    client_information,
    make_registration,
    make_server,
    server_metadata,
)

pytestmark = pytest.mark.django_db

PLACE = re.compile("https://shop.example/oauth/clients/.+")
REGISTER = (
    *("dcr_register", ISSUER, "--set", "client_name=Shop"),
    *("--set", f"redirect_uris={CALLBACK}"),
)


@pytest.fixture(autouse=True)
def _site(settings: Any) -> None:
    settings.DCR_BASE_URL = "https://shop.example"
    make_server(metadata=server_metadata(client_id_metadata_document_supported=True))


def site(request: Any) -> tuple[int, dict[str, str], bytes]:
    answer = Client().get(urlsplit(request.url).path)
    return answer.status_code, dict(answer.headers), answer.content


def test_a_document_is_registered_shown_and_found_good(
    mocked_responses: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    mocked_responses.add_callback("GET", PLACE, callback=site)
    call_command(*REGISTER)
    row = ClientRegistration.objects.get()
    assert row.mechanism == "metadata_document"
    capsys.readouterr()
    call_command("dcr_document", row.pk, "--format", "json")
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert (shown["url"], shown["faults"]) == (row.client_id, [])
    assert shown["document"]["client_id"] == row.client_id
    assert shown["warnings"]
    assert "Servers can use this document." in err


def test_a_document_that_servers_would_refuse_fails_the_command(
    mocked_responses: responses.RequestsMock, capsys: pytest.CaptureFixture[str]
) -> None:
    mocked_responses.add_callback("GET", PLACE, callback=site)
    call_command(*REGISTER)
    mocked_responses.reset()
    mocked_responses.get(PLACE, status=302, headers={"Location": "/login"})
    with pytest.raises(CommandError, match=r"302, a redirect to /login.*APPEND_SLASH"):
        call_command("dcr_document", ClientRegistration.objects.get().pk)
    assert "client_id: https://shop.example/oauth/clients/" in capsys.readouterr().out


def test_another_registration_has_no_document() -> None:
    row = make_registration(server=make_server(issuer="https://b.example"))
    with pytest.raises(CommandError, match="has no published document"):
        call_command("dcr_document", row.pk)


@pytest.mark.parametrize("mechanism", ["dynamic", "metadata_document"])
def test_a_mechanism_that_is_named_is_the_one(
    mechanism: str, mocked_responses: responses.RequestsMock
) -> None:
    if mechanism == "dynamic":
        mocked_responses.post(ENDPOINT, json=client_information(), status=201)
    else:
        mocked_responses.add_callback("GET", PLACE, callback=site)
    call_command(*REGISTER, "--mechanism", mechanism)
    assert ClientRegistration.objects.get().mechanism == mechanism


def test_a_named_mechanism_that_is_not_possible_is_no_other(settings: Any) -> None:
    settings.DCR_BASE_URL = ""
    with pytest.raises(CommandError, match="DCR_BASE_URL is not set"):
        call_command(*REGISTER, "--mechanism", "metadata_document")
    assert not ClientRegistration.objects.exists()

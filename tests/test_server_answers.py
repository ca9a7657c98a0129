"""What named servers truly answered, fed to the protocol.

``tests/data`` has it, recorded from the runs of ``tests/interop``: origins, client ids and
credentials are replaced, all else is as it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from requests.structures import CaseInsensitiveDict

from django_dcr import protocol
from django_dcr.exceptions import RegistrationGoneError, RequestRejectedError
from django_dcr.protocol.errors import rejection

FILES = sorted((Path(__file__).parent / "data").glob("*.json"))


class Answer(NamedTuple):
    """One answer, as ``transport.Reply`` has it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def answers(*steps: str, refused: bool) -> list[Any]:
    """The recorded responses of some steps."""
    return [
        pytest.param(recorded, id=f"{file.stem} {name}")
        for file in FILES
        for name, recorded in json.loads(file.read_text())["answers"].items()
        if recorded["step"] in steps and (recorded["status"] >= 400) == refused
    ]


def reply(recorded: dict[str, Any]) -> Answer:
    body = recorded["body"]
    encoded = body if isinstance(body, str) else json.dumps(body)
    return Answer(recorded["status"], CaseInsensitiveDict(recorded["headers"]), encoded.encode())


@pytest.mark.parametrize("recorded", answers("discover", refused=False))
def test_the_metadata_is_accepted_and_offers_registration(recorded: dict[str, Any]) -> None:
    document = protocol.parse_object(reply(recorded).body)
    issuer = document["issuer"]
    metadata = protocol.check_server_metadata(document, issuer=issuer)
    for name in ("registration_endpoint", "token_endpoint", "authorization_endpoint"):
        assert protocol.endpoint(metadata, name, issuer=issuer) == document[name]
    asked = {"client_name": "Shop", "redirect_uris": ["https://shop.example/callback"]}
    method = protocol.registration_request(asked, metadata)["token_endpoint_auth_method"]
    assert method in document["token_endpoint_auth_methods_supported"]


@pytest.mark.parametrize("recorded", answers("register", refused=False))
def test_a_registration_response_is_usable(recorded: dict[str, Any]) -> None:
    document = protocol.parse_object(reply(recorded).body)
    issued = protocol.client_information(document, requested=recorded["sent"])
    assert issued.faults == ()
    assert issued.deviations == tuple(recorded["deviations"])
    assert (issued.client_id, issued.client_secret) == ("client-1", "not-a-real-secret")
    assert issued.client_secret_expires_at == document.get("client_secret_expires_at")
    assert issued.registration_access_token == document.get("registration_access_token")
    assert issued.metadata["client_name"] == "Shop"
    drift = protocol.differences(recorded["sent"], issued.metadata)
    assert sorted(drift) == recorded["drift"]
    method = issued.metadata["token_endpoint_auth_method"]
    assert protocol.client_authentication("client-1", issued.client_secret, method)


@pytest.mark.parametrize("recorded", answers("read", "update", refused=False))
def test_a_later_response_is_about_the_same_client(recorded: dict[str, Any]) -> None:
    document = protocol.parse_object(reply(recorded).body)
    information = protocol.client_information(document)
    assert information.faults == ()
    assert information.deviations == tuple(recorded["deviations"])
    assert information.client_id == "client-1"
    assert information.client_secret in (None, "not-a-real-secret")
    assert information.registration_access_token == "not-a-real-token"
    body = protocol.update_request(information.metadata, {}, client_id="client-1")
    assert body.keys().isdisjoint(
        {
            "client_secret",
            "client_secret_expires_at",
            "client_id_issued_at",
            "registration_access_token",
            "registration_client_uri",
        }
    )


@pytest.mark.parametrize(
    "recorded", answers("discover", "register", "read", "update", "delete", refused=True)
)
def test_a_rejection_becomes_an_error_with_the_reason(recorded: dict[str, Any]) -> None:
    error = rejection(reply(recorded), step=recorded["step"])
    assert isinstance(error, RequestRejectedError)
    of_the_client = recorded["step"] in ("read", "update", "delete")
    assert isinstance(error, RegistrationGoneError) == of_the_client
    said = recorded["body"] if isinstance(recorded["body"], dict) else {}
    assert error.error == said.get("error", "")
    assert error.error_description == said.get("error_description", "")


def test_each_server_of_the_table_has_recorded_responses() -> None:
    names = {file.stem for file in FILES}
    assert names == {"django-oauth-toolkit", "keycloak", "mcp", "oidc-provider"}

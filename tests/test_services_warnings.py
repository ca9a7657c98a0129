"""What is discouraged, and yet may be sent, is logged before it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import responses

from django_dcr import protocol
from django_dcr.services import register, update
from tests.factories import (
    CALLBACK,
    ENDPOINT,
    ISSUER,
    URI,
    WISHES,
    client_information,
    make_draft,
    make_registration,
    server_metadata,
)
from tests.test_protocol_registration_requests import statement

pytestmark = pytest.mark.django_db
Stubs = responses.RequestsMock
Logged = list[logging.LogRecord]

ODD = {
    **WISHES,
    "grant_types": ["implicit"],
    "jwks_uri": "https://site.example/jwks.json",
    "response_types": ["token"],
    "software_statement": statement({"%s %(x)s": 1, "redirect_uris": [CALLBACK]}),
    "token_endpoint_auth_method": "private_key_jwt",
    "%s %(x)s": 2,
}


def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


def answering(caplog: pytest.LogCaptureFixture, seen: Logged) -> Callable[..., Any]:
    """A server that notes what has been logged by the time it is asked."""

    def answer(request: object) -> tuple[int, dict[str, str], str]:
        seen[:] = logged(caplog)
        return 200, {}, protocol.encode(client_information()).decode()

    return answer


def assert_told(records: Logged) -> None:
    about = ["else about %s %(x)s,", "implicit grant is discouraged", "does not state token_"]
    sentences = protocol.warnings(ODD, server_metadata())
    assert [part in text for part, text in zip(about, sentences, strict=True)] == [True] * 3
    assert [record.args for record in records] == [(ISSUER, text) for text in sentences]
    assert [record.name for record in records] == ["django_dcr.registrations"] * 3
    assert [record.getMessage() for record in records] == [
        f"Before sending to {ISSUER}: {text}" for text in sentences
    ]


def test_discouraged_metadata_is_logged_before_registering(
    mocked_responses: Stubs, caplog: pytest.LogCaptureFixture
) -> None:
    """R-013, R-062, R-140: each sentence once, with the issuer, and never as a format."""
    seen: Logged = []
    mocked_responses.add_callback("POST", ENDPOINT, answering(caplog, seen))
    register(make_draft(requested_metadata=ODD))
    assert_told(seen)
    assert logged(caplog) == seen


def test_discouraged_metadata_is_logged_before_updating(
    mocked_responses: Stubs, caplog: pytest.LogCaptureFixture
) -> None:
    """R-013, R-062, R-140: also before the read that comes ahead of the update."""
    seen: Logged = []
    mocked_responses.add_callback("GET", URI, answering(caplog, seen))
    mocked_responses.put(URI, json=client_information())
    update(make_registration(requested_metadata=ODD))
    assert_told(seen)
    assert logged(caplog) == seen


def test_plain_metadata_is_sent_without_a_word(
    mocked_responses: Stubs, caplog: pytest.LogCaptureFixture
) -> None:
    mocked_responses.post(ENDPOINT, status=201, json=client_information())
    mocked_responses.get(URI, json=client_information())
    mocked_responses.put(URI, json=client_information())
    update(register(make_draft()))
    assert logged(caplog) == []

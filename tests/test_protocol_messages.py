"""What people read: the protocol's errors, warnings and deviations are sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from django_dcr.exceptions import DCRError
from django_dcr.protocol import (
    check_client_metadata,
    check_issuer,
    check_server_metadata,
    check_status,
    check_trusted_origin,
    client_authentication,
    client_information,
    client_metadata,
    endpoint,
    parse_object,
    registration_request,
    warnings,
)
from django_dcr.transport import Reply
from tests.test_protocol_policy import REFUSED
from tests.test_protocol_registration_requests import statement
from tests.test_protocol_server_metadata import BAD_ISSUERS

ISSUER = "https://as.example"
LONG = "x" * 5_000


def use(url: str) -> None:
    check_trusted_origin(url, issuer=ISSUER, trusted_origins=())


def find(name: str) -> None:
    endpoint({}, name, issuer=ISSUER)


def request(members: dict[str, Any], **offered: list[str]) -> None:
    registration_request({"redirect_uris": ["https://app.example/"], **members}, offered)


def refused(status: int, step: str = "read", error: str = "", **headers: str) -> None:
    body = json.dumps({"error": error, "error_description": LONG if error else ""}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    check_status(Reply(status, named, body), {200}, step=step)


ERRORS: dict[str, Callable[[], object]] = {
    **{f"issuer {name}": partial(check_issuer, bad) for name, (bad, _) in BAD_ISSUERS.items()},
    "no issuer": lambda: check_server_metadata({}, issuer=ISSUER),
    "slash": lambda: check_server_metadata({"issuer": ISSUER + "/"}, issuer=ISSUER),
    "another issuer": lambda: check_server_metadata({"issuer": LONG}, issuer=ISSUER),
    "no registration endpoint": partial(find, "registration_endpoint"),
    "no other endpoint": partial(find, LONG),
    "malformed address": partial(use, "as.example"),
    "http address": partial(use, "http://as.example/"),
    "foreign address": partial(use, "https://" + ".".join(["a" * 49] * 5)),
    "html": lambda: parse_object(b"<html>"),
    "list": lambda: parse_object(b"[]"),
    "latin-1": lambda: parse_object(b"\xe9"),
    "twice": lambda: parse_object(b'{"a": 1, "a": 2}'),
    "deep": lambda: parse_object(b"[" * 50 + b"]" * 50),
    "digits": lambda: parse_object(b"1" * 50),
    "NaN": lambda: parse_object(b"NaN"),
    "no metadata": lambda: client_metadata([]),  # type: ignore[arg-type]
    **{
        f"metadata {name}": partial(check_client_metadata, metadata)
        for name, (metadata, _) in REFUSED.items()
    },
    "long name": partial(check_client_metadata, {"client_name#" + LONG: "a"}),
    "long tag": partial(check_client_metadata, {"tos_uri#a" + "-a" * 5_000: "a"}, complete=False),
    "long logout tag": partial(
        check_client_metadata, {"backchannel_logout_uri#a" + "-a" * 5_000: "a"}, complete=False
    ),
    "grant not offered": partial(
        request, {"grant_types": ["authorization_code", LONG]}, grant_types_supported=["x", LONG]
    ),
    "method not offered": partial(
        request,
        {"token_endpoint_auth_method": "none"},
        token_endpoint_auth_methods_supported=["x"],
    ),
    "no method of ours": partial(request, {}, token_endpoint_auth_methods_supported=[LONG]),
    "method": lambda: client_authentication("c", "s", LONG),
    "no secret": lambda: client_authentication("c", None, "client_secret_basic"),
    "redirect": partial(refused, 302),
    "redirect elsewhere": partial(refused, 302, Location="https://b.example/a"),
    "no registration": partial(refused, 404, "register"),
    "no update": partial(refused, 405, "update"),
    "server error": partial(refused, 500),
    "unauthorized": partial(refused, 401, "register"),
    "forbidden": partial(refused, 403, "register"),
    "gone": partial(refused, 401),
    "busy": partial(refused, 503),
    "busy for a time": partial(refused, 429, Retry_After="30"),
    "refused": partial(refused, 400, "register"),
    "long words": partial(refused, 400, "register", "a" * 100),
    **{
        code: partial(refused, 400, "register", code)
        for code in (
            "invalid_redirect_uri",
            "invalid_client_metadata",
            "invalid_software_statement",
            "unapproved_software_statement",
        )
    },
}


def is_sentence(text: str) -> bool:
    return text[0].isupper() and text[-2:-1] not in ("", ".", " ") and text.endswith(".")


def test_error_messages_are_complete_sentences():
    """A message cut at its limit would lose the next step and end in an ellipsis."""
    for name, fail in ERRORS.items():
        with pytest.raises(DCRError) as caught:
            fail()
        assert is_sentence(str(caught.value)), name
        assert len(str(caught.value)) <= 500, name


def test_a_warning_is_a_sentence():
    """R-013, R-060, R-062, R-140."""
    odd = f"x\n{LONG}"
    metadata = {
        "client_name": "ours",
        "grant_types": ["implicit"],
        "software_statement": statement({"client_name": "theirs", odd: 1}),
        "token_endpoint_auth_method": "private_key_jwt",
        "tos_uri#de": "https://app.example/",
        odd: 2,
        f"y{odd}#de": 3,
    }
    sentences = warnings(metadata, {"issuer": ISSUER})
    assert len(sentences) == 6
    assert [text for text in sentences if not (is_sentence(text) and text.isprintable())] == []
    assert max(map(len, sentences)) <= 200


ODD_ANSWERS: dict[str, dict[str, Any]] = {
    "expiry missing": {"client_secret": "s"},
    "masked": {"client_secret": "***", "client_secret_expires_at": 0},
    "public": {
        "client_secret": "s",
        "client_secret_expires_at": "0",
        "token_endpoint_auth_method": "none",
    },
    "address": {"registration_client_uri": "/c1", "registration_access_token": "t"},
    "no token": {"registration_client_uri": "https://as.example/c1"},
    "time": {"client_id_issued_at": -1},
    "statement": {"software_statement": "a"},
    "fewer": {"redirect_uris": ["https://b.example/"]},
    "text": {"contacts": "a"},
    "number": {"contacts": 7, f"client_name#{LONG}": 7},
    "entries": {"contacts": [7]},
    "integer": {"default_max_age": "7"},
    "scopes": {"scopes": ["a"]},
    "scope list": {"scope": ["a"]},
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS.keys())
def test_a_deviation_is_a_sentence(answer):
    requested = {"redirect_uris": ["https://app.example/"]}
    deviations = client_information({"client_id": "c1", **answer}, requested=requested).deviations
    assert deviations
    assert [text for text in deviations if not is_sentence(text)] == []

"""Cases from the field: the server said why it refused, and whoever has to act hears it."""

from __future__ import annotations

import codecs
import html
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
import responses
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.models import ClientRegistration
from django_dcr.protocol import client_information
from django_dcr.protocol.errors import rejection
from django_dcr.services import register
from tests.factories import CALLBACK, ENDPOINT, ISSUER, make_draft, make_server, stored

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
NEUTRAL = "If that does not explain it, ask the server's operator."


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def refusal(
    body: object,
    status: int = 400,
    *,
    media_type: str = JSON,
    step: str = "register",
    sent: str = "",
) -> DCRError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, content, {"Content-Type": media_type})
    error = rejection(answer, step=step, secrets=[sent] if sent else [])
    assert len(str(error)) <= 500
    assert str(error).isprintable()
    return error


def said(body: object, status: int = 400, **options: Any) -> tuple[str, str]:
    error = refusal(body, status, **options)
    assert isinstance(error, RequestRejectedError)
    return error.error, error.error_description


SHAPES: dict[str, tuple[object, str, str]] = {
    # As in the field.
    "errors: objects": (
        {"errors": [{"field": "scopes", "message": "cannot contain openid"}]},
        "",
        "scopes: cannot contain openid",
    ),
    "message": (
        {"message": "client_name is required", "statusCode": 400},
        "",
        "client_name is required",
    ),
    "problem": (
        {"title": "Bad Request", "detail": "software_id is required"},
        "",
        "software_id is required",
    ),
    "nested error": (
        {"error": {"code": "invalid_redirect_uri", "message": "redirect_uris must be https"}},
        "invalid_redirect_uri",
        "redirect_uris must be https",
    ),
    "a sentence for a code": (
        {"error": 'Unrecognized field "resource" (class Client)'},
        "",
        'Unrecognized field "resource" (class Client)',
    ),
    # OAuth itself.
    "OAuth": ({"error": "invalid_client_metadata", "error_description": "No."},
              "invalid_client_metadata", "No."),
    "OAuth, words elsewhere": ({"error": "access_denied", "message": "Not you."},
                               "access_denied", "Not you."),
    # Errors as a list, or by field.
    "errors: texts": ({"errors": ["No tos_uri.", "No contacts."]}, "", "No tos_uri.; No contacts."),
    "errors: by field": (
        {"title": "One or more validation errors occurred.", "errors": {"scope": ["Unknown."]}},
        "",
        "One or more validation errors occurred.; scope: Unknown.",
    ),
    "errors: with a code": (
        {"errors": [{"code": "invalid_scope", "detail": "No.", "source": {"pointer": "/scope"}}]},
        "invalid_scope",
        "/scope: No.",
    ),
    "errors: parameter": (
        {"errors": [{"title": "Wrong.", "source": {"parameter": "scope"}}]}, "", "scope: Wrong."
    ),
    "errors: one text": ({"errors": "No."}, "", "No."),
    "a list alone": ([{"message": "No."}, "Really."], "", "No.; Really."),
    "a text alone": ("client_name is required", "", "client_name is required"),
    "detail: by place": (
        {"detail": [{"loc": ["body", "redirect_uris", 0], "msg": "not https", "type": "url"}]},
        "",
        "body.redirect_uris.0: not https",
    ),
    "fields alone": (
        {"redirect_uris": ["This field is required."]},
        "",
        "redirect_uris: This field is required.",
    ),
    # Problem details.
    "problem with a type": (
        {"type": "https://as.example/problems/name", "title": "No name", "status": 400},
        "",
        "No name",
    ),
    "problem with parameters": (
        {"title": "Invalid", "invalid-params": [{"name": "scope", "reason": "unknown"}]},
        "",
        "Invalid; scope: unknown",
    ),
    # Nested errors.
    "nested error by type": (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}},
        "invalid_request_error",
        "No.",
    ),
    "nested error by status": (
        {"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}},
        "INVALID_ARGUMENT",
        "No.",
    ),
    "fault of a gateway": (
        {"fault": {"faultstring": "Invalid API key", "detail": {"errorcode": "x"}}},
        "",
        "Invalid API key",
    ),
    # Other names for the same.
    "reason": ({"code": "DCR_OFF", "reason": "Registration is off."}, "DCR_OFF",
               "Registration is off."),
    "summary and causes": (
        {
            "errorCode": "E0000001",
            "errorSummary": "Validation failed",
            "errorCauses": [{"errorSummary": "client_name: taken"}],
        },
        "E0000001",
        "Validation failed; client_name: taken",
    ),
    "letter case": ({"Message": "No.", "error_Code": "x1"}, "x1", "No."),
    "both of a name": ({"message": "No.", "Message": "Yes."}, "", "No."),
    "said twice": ({"message": "No.", "errors": ["No."]}, "", "No."),
    "code said twice": ({"code": "no_way", "message": "no_way"}, "no_way", ""),
    # What only repeats the status, or is no reason.
    "phrase": ({"error": "Bad Request", "message": "Bad Request."}, "", ""),
    "path": ({"status": 400, "error": "Bad Request", "path": "/register"}, "", ""),
    "echo": ({"redirect_uris": ["https://site.example/callback"]}, "", ""),
    "page in a member": ({"message": "<!DOCTYPE html><title>No</title>"}, "", ""),
    "no code": ({"status": "error", "error": {"code": "error", "message": "No."}}, "", "No."),
    "secret by field": ({"errors": {"client_secret": "s3cr3t", "apiKey": "k3y"}}, "", ""),
    "too deep": ({"errors": [[[[["No."]]]]]}, "", ""),
    "empty": ({"errors": [], "message": "", "error": {}}, "", ""),
    "other types": ({"errors": [7, {"loc": {}, "msg": "No."}], "message": 7}, "", "No."),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "words"), SHAPES.values(), ids=SHAPES.keys())
def test_the_words_are_found_in_every_shape(body: object, code: str, words: str) -> None:
    assert said(body) == (code, words)
    quoted = f'in its words "{words}"' if words else "The server refused with 400"
    assert quoted in str(refusal(body))


PLAIN: dict[str, tuple[bytes, str, str]] = {
    "short": (
        b"redirect URI host is not on the allow list",
        TEXT,
        "redirect URI host is not on the allow list",
    ),
    "lines": (b" no\r\n\tscope \n", TEXT + "; charset=utf-8", "no scope"),
    "no type": (b"no scope", "", "no scope"),
    "wrong type": (b"no scope", JSON, "no scope"),
    "in quotes": (b'"scope" is unknown', TEXT, '"scope" is unknown'),
    "Latin-1": ("Die Umleitung ist ungültig".encode("latin-1"), TEXT + ";charset=ISO-8859-1",
                "Die Umleitung ist ungültig"),
    "UTF-16": (codecs.BOM_UTF16_LE + "nö".encode("utf-16-le"), TEXT, "nö"),
    "BOM": (codecs.BOM_UTF8 + b"no", TEXT, "no"),
    "form": (b"error_description=No+scope&x=y", "application/x-www-form-urlencoded", "No scope"),
    "page": (b"<html><h1>no scope</h1>", HTML, ""),
    "page as text": (b"<!doctype html>no scope", TEXT, ""),
    "page without a head": (b"Sorry, <b>no scope</b>", TEXT, ""),
    "HTML without a tag": (b"no scope", HTML, ""),
    "XML": (b"no scope", "application/problem+xml", ""),
    "long": (b"no scope " * 40, TEXT, ""),
    "not text": (bytes(range(128, 256)), TEXT, ""),
    "phrase": (b"Bad Request\n", TEXT, ""),
    "unknown charset": ("nö".encode("latin-1"), TEXT + "; charset=idna", ""),
    "many fields": (b"&".join([b"a=b"] * 200), "application/x-www-form-urlencoded", ""),
    "object cut off": (b'{"message": "no', JSON, ""),
}  # fmt: skip


@pytest.mark.parametrize(("body", "media_type", "words"), PLAIN.values(), ids=PLAIN.keys())
def test_a_short_plain_text_is_a_description_and_html_never(
    body: bytes, media_type: str, words: str
) -> None:
    assert said(body, media_type=media_type) == ("", words)


def test_a_document_is_read_in_the_charset_that_it_names() -> None:
    body = '{"message": "Ungültig"}'
    for charset in ("iso-8859-1", "windows-1252", "utf-16le", "UTF-8"):
        media_type = f'{JSON}; charset="{charset}"'
        assert said(body.encode(charset), media_type=media_type) == ("", "Ungültig")


# --- what to do next ---------------------------------------------------------------------------

WANTED = "may want an initial access token: set one on the server's row"
TOKEN = "initial access token"
WORDED: dict[str, tuple[int, object, str, str]] = {
    "no access token": (
        400,
        {"error": "invalid_request", "error_description": "no access token provided"},
        "",
        WANTED,
    ),
    "django-rest-framework": (
        401, {"detail": "Authentication credentials were not provided."}, "", WANTED),
    "header": (403, {"message": "Missing Authorization header"}, "", WANTED),
    "expired": (401, {"error": "invalid_token", "error_description": "It expired."}, "t0",
                "Check the initial access token that was sent"),
    "a token that lacks a scope": (403, {"message": "The token lacks client.create."}, "t0",
                                   "Check the initial access token that was sent"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "sent", "advice"), WORDED.values(), ids=WORDED.keys())
def test_words_about_a_token_are_followed_by_where_it_goes(
    status: int, body: object, sent: str, advice: str
) -> None:
    assert advice in str(refusal(body, status, sent=sent))


UNGUESSED: dict[str, tuple[int, object, str]] = {
    "scopes": (
        403,
        {
            "error": "insufficient_scope",
            "error_description": "Policy 'Allowed Client Scopes' rejected request",
        },
        "t0",
    ),
    "another member": (
        400,
        {
            "error": "invalid_redirect_uri",
            "error_description": "logo_uri must be on the client's host",
        },
        "",
    ),
    "a method": (400, {"message": "token_endpoint_auth_method none is not permitted"}, ""),
    "a grant": (400, {"error": "invalid_client_metadata",
                      "error_description": "authorization_code without PKCE"}, ""),
    "an unauthorized host": (403, {"message": "This tenant registers clients by hand."}, "t0"),
    "401 that is no question of tokens": (401, {"message": "This tenant is closed."}, "t0"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "sent"), UNGUESSED.values(), ids=UNGUESSED.keys())
def test_advice_does_not_guess_past_the_words(status: int, body: object, sent: str) -> None:
    text = str(refusal(body, status, sent=sent))
    assert text.endswith(f'". {NEUTRAL}')
    assert "Check redirect_uris" not in text
    assert "token;" not in text
    assert TOKEN not in text


@pytest.mark.parametrize(
    ("status", "sent", "advice"),
    [
        (401, "", "It wants an initial access token: set one on the server's row"),
        (401, "t0", "It does not accept the initial access token that was sent"),
        (403, "t0", "ask its operator, or give another token"),
        (400, "", "Ask the server's operator what it accepts."),
    ],
)
def test_where_there_are_no_words_the_status_gives_the_advice(
    status: int, sent: str, advice: str
) -> None:
    assert advice in str(refusal(b"", status, sent=sent))


def test_a_code_alone_gives_the_advice() -> None:
    assert "Check redirect_uris." in str(refusal({"error": "invalid_redirect_uri"}))
    assert "Check redirect_uris." in str(refusal({"error": "invalid_redirect_uri"}, 403))


@pytest.mark.parametrize(
    ("status", "step", "kind"),
    [
        (404, "register", UnsupportedError),
        (405, "delete", UnsupportedError),
        (500, "register", InvalidResponseError),
        (502, "read", InvalidResponseError),
    ],
)
def test_other_errors_repeat_the_words_too(status: int, step: str, kind: type[DCRError]) -> None:
    error = refusal({"message": "The tenant is suspended."}, status, step=step)
    assert type(error) is kind
    assert f'{status}, in its words "The tenant is suspended."' in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "internal_error", "message": "Timeout"}},
        {"error": "internal_server_error"},
        {"code": "conflict"},
        {"errors": [{"code": "E42"}]},
    ],
    ids=["nested", "flat", "code", "errors"],
)
@pytest.mark.parametrize("status", [409, 500, 503])
def test_a_code_of_the_servers_own_does_not_say_that_nothing_was_done(
    status: int, body: object
) -> None:
    """Such a registration stays unknown: the server may have failed half-way."""
    assert not refusal(body, status).was_refused


# --- input that is out to do harm --------------------------------------------------------------

SECRET = 't0/"k<3n' + "x" * 60
ECHOES = {
    "plain": SECRET,
    "percent": quote(SECRET, safe=""),
    "HTML": html.escape(SECRET),
    "JSON": json.dumps(SECRET),
    "zero width": "\u200b".join(SECRET),
    "behind a megabyte": "a" * 190 + SECRET + "b" * 900_000,
}
MEMBERS = {
    "error": lambda echo: {"error": echo},
    "description": lambda echo: {"error": "x", "error_description": echo},
    "message": lambda echo: {"message": echo},
    "problem": lambda echo: {"title": echo, "detail": echo, "type": echo},
    "nested": lambda echo: {"error": {"code": echo, "message": echo}},
    "errors": lambda echo: {"errors": [{"field": echo, "message": echo}, echo]},
    "by field": lambda echo: {"errors": {echo: echo}},
    "fields alone": lambda echo: {"scope": [f"not {echo}"]},
    "list": lambda echo: [echo],
    "text": lambda echo: echo,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
@pytest.mark.parametrize("shape", MEMBERS.values(), ids=MEMBERS.keys())
def test_the_token_that_was_sent_is_masked_in_every_member(shape: Any, echo: str) -> None:
    for body in (shape(echo), echo.encode()):
        error = refusal(body, 403, sent=SECRET)
        for text in (str(error), repr(error), *map(str, vars(error).values())):
            assert "xxx" not in text
            assert "t0/" not in text


@pytest.mark.parametrize(
    "header", ['Bearer error="x", error_description="{}"', 'Bearer error="{}"']
)
def test_the_token_is_masked_in_a_challenge_beside_words(header: str) -> None:
    answer = Answer(401, b'{"message": "No."}', {"WWW-Authenticate": header.format("t0kxyz")})
    error = rejection(answer, step="register", secrets=["t0kxyz"])
    assert "t0k" not in f"{error!r} {vars(error)}"


CHARSETS = ["utf-8", "latin-1", "utf-16", "utf-16-le", "utf-32", "shift_jis", "cp037", "utf-7"]


@pytest.mark.parametrize("named", ["", "utf-16", "iso-8859-1", "utf-7", "zlib", "x" * 5_000])
@pytest.mark.parametrize("charset", CHARSETS)
def test_a_body_of_any_encoding_is_an_error_on_one_line(charset: str, named: str) -> None:
    body = json.dumps({"message": "no\r\n\x1b[31m\u202eok"}).encode(charset)
    for content in (body, body[:-1], body[1:], body * 3):
        refusal(content, media_type=f"{JSON}; charset={named}")
        refusal(content, media_type=f"{TEXT}; charset={named}")


MEGABYTES = {
    "text": b"x" * 1_000_000,
    "text in JSON": b'{"message": "' + b"a " * 500_000 + b'"}',
    "blanks": b" " * 1_000_000,
    "quotes": b'"' * 1_000_000,
    "brackets": b"[" * 1_000_000,
    "list": b'{"errors": [' + b'"a",' * 4_000 + b'"a"]}',
    "many members": json.dumps({"errors": {f"m{i}": "no " * 80 for i in range(4_000)}}).encode(),
    "controls": b'{"message": "' + b"\\u0000\\u202e" * 80_000 + b'"}',
    "form": b"a=b&" * 250_000,
    "page": b"<p>" * 330_000,
}


@pytest.mark.parametrize("media_type", [JSON, TEXT, HTML, "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", MEGABYTES.values(), ids=MEGABYTES.keys())
def test_a_megabyte_is_bounded(body: bytes, media_type: str) -> None:
    _code, words = said(body, 422, media_type=media_type, sent=SECRET)
    assert len(words) <= 200


# --- where it is shown -------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_words_are_on_the_row_and_in_the_error(
    mocked_responses: responses.RequestsMock,
) -> None:
    body = {"errors": [{"field": "scopes", "message": "cannot contain t0k3n \x1b[1m"}]}
    mocked_responses.post(ENDPOINT, status=422, json=body)
    draft = make_draft(server=make_server(initial_access_token="t0k3n"))
    with pytest.raises(RequestRejectedError) as caught:
        register(draft)
    assert caught.value.error_description == "scopes: cannot contain ******** [1m"
    assert stored(draft).status == "rejected"
    assert stored(draft).last_error == str(caught.value)
    assert 'with 422, in its words "scopes: cannot contain ******** [1m"' in str(caught.value)


@pytest.mark.django_db
@pytest.mark.parametrize("status", [200, 201])
def test_the_words_of_an_error_with_status_200_are_shown(
    mocked_responses: responses.RequestsMock, status: int
) -> None:
    """Whether there is a client nobody can tell, so the row stays unknown."""
    body = {"error": "invalid_redirect_uri", "error_description": "t0k3n is no host", "x": "s3cr3t"}
    mocked_responses.post(ENDPOINT, status=status, json=body)
    draft = make_draft(server=make_server(initial_access_token="t0k3n"))
    with pytest.raises(InvalidResponseError) as caught:
        register(draft)
    said = 'the answer is an error invalid_redirect_uri, in its words "******** is no host". Report'
    assert said in str(caught.value)
    assert (stored(draft).status, stored(draft).last_error) == ("unknown", str(caught.value))


def test_what_an_error_issues_is_masked_in_its_words() -> None:
    issued = {"client_secret": "s3cr3t", "registration_access_token": "t0k3n"}
    document = {"error": "no s3cr3t and t0k3n", **issued}
    assert client_information(document, secrets=[]).error == (
        ', in its words "no ******** and ********"'
    )
    assert client_information(document).error == ""


@pytest.mark.django_db
def test_the_words_are_in_the_command_and_on_the_registrations_page(
    mocked_responses: responses.RequestsMock,
) -> None:
    make_server()
    mocked_responses.post(ENDPOINT, status=400, json={"message": "client_name is required"})
    with pytest.raises(CommandError, match='in its words "client_name is required"'):
        call_command("dcr_register", ISSUER, "--set", f"redirect_uris={CALLBACK}")
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    row = ClientRegistration.objects.get()
    page = browser.get(f"/admin/django_dcr/clientregistration/{row.pk}/change/")
    assert "client_name is required" in page.content.decode()

"""Responses that are not a success: the error for each, and what its message may contain."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from django_dcr.exceptions import (
    DCRError,
    InvalidResponseError,
    NetworkError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
)
from django_dcr.protocol import check_status
from django_dcr.protocol.errors import rejection

ISSUER = "https://as.example"
MANAGEMENT = ["read", "update", "delete"]


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def refused(
    status: int,
    step: str = "register",
    *,
    body: object = b"",
    secrets: tuple[str, ...] = (),
    **headers: str,
) -> DCRError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, content, {name.replace("_", "-"): v for name, v in headers.items()})
    error = rejection(answer, step=step, secrets=secrets)
    assert error.status == status
    assert len(str(error)) <= 500
    assert str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    return error


OTHER_4XX = [402, 406, 407, 408, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 426, 428]
KINDS = {
    # faults 41 to 46
    **{("*", status): NetworkError for status in (300, 301, 302, 303, 304, 305, 307, 308)},
    # faults 47 to 50
    **{("*", status): RequestRejectedError for status in (400, 403, 409, 429, 431, 451, 503)},
    **{("*", status): RequestRejectedError for status in OTHER_4XX},
    **{("*", status): UnsupportedError for status in (405, 501)},
    ("register", 401): RequestRejectedError,
    ("register", 404): UnsupportedError,
    ("register", 410): RequestRejectedError,
    ("discover", 401): RequestRejectedError,
    ("discover", 404): RequestRejectedError,
    ("discover", 410): RequestRejectedError,
    **{(step, status): RegistrationGoneError for step in MANAGEMENT for status in (401, 404, 410)},
    # faults 22, 40, 51 and 52
    **{
        ("*", status): InvalidResponseError
        for status in (0, 100, 103, 200, 202, 204, 206, 226, 500, 502, 504, 507, 511, 520, 599, 999)
    },
}


@pytest.mark.parametrize("step", ["discover", "register", *MANAGEMENT])
def test_each_status_becomes_its_kind_of_error(step):
    """R-072, R-077, R-079, R-103, R-104, R-105, R-106, R-127, R-128, B4, B6, B7, B26.

    Faults 22 and 40 to 52.
    """
    kinds = {status: kind for (at, status), kind in KINDS.items() if at in ("*", step)}
    assert {status: type(refused(status, step)) for status in kinds} == kinds


def test_an_accepted_status_passes_and_another_raises():
    check_status(Answer(200), (200, 201), step="register")
    answer = Answer(400, b'{"error": "a_code"}')
    with pytest.raises(RequestRejectedError, match=r"with 400 a_code\. Ask"):
        check_status(answer, (200, 201), step="register")


def test_the_error_masks_known_secrets():
    """Fault 138."""
    answer = Answer(400, b'{"error": "t0k3n"}')
    with pytest.raises(RequestRejectedError) as caught:
        check_status(answer, (200,), step="read", secrets=["t0k3n"])
    assert caught.value.error == "********"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://evil.example:8443/a?token=s3cr3t", "a redirect to https://evil.example:8443,"),
        ("/login?next=s3cr3t", "a redirect,"),
        ("//evil.example/s3cr3t", "a redirect,"),
        ("file:///s3cr3t", "a redirect,"),
        ("javascript:s3cr3t", "a redirect,"),
        ("https://user:s3cr3t@evil.example/", "a redirect,"),
        ("https://\uff11\uff12\uff17.0.0.1/s3cr3t", "a redirect,"),
        ("", "a redirect,"),
    ],
    ids=[
        "other origin",
        "same origin",
        "//host",
        "file",
        "javascript",
        "userinfo",
        "wide",
        "empty",
    ],
)
def test_the_error_for_a_redirect_names_only_the_origin(location, words):
    """R-079, settled point (g), faults 41 to 44."""
    error = refused(307, Location=location)
    assert words in str(error)
    assert "s3cr3t" not in str(error)


def test_a_redirect_without_location_is_an_error():
    """Fault 44."""
    assert "answered 302, a redirect, which is not followed" in str(refused(302))


CODES = {
    "invalid_redirect_uri": "Check redirect_uris",
    "invalid_client_metadata": "Check the client metadata",
    "invalid_software_statement": "Check software_statement",
    "unapproved_software_statement": "Ask the server's operator to approve",
    "dynamic_client_registration_disabled": "Ask the server's operator",
}


@pytest.mark.parametrize(("code", "advice"), CODES.items(), ids=CODES.keys())
def test_the_error_has_the_servers_code_and_description(code, advice):
    """R-077, R-127, B13, fault 47: the four codes and any other."""
    body = {"error": code, "error_description": "No, thanks.", "error_uri": "javascript:x", "x": 1}
    error = refused(400, body=body)
    assert isinstance(error, RequestRejectedError)
    assert (error.error, error.error_description) == (code, "No, thanks.")
    assert f'with 400 {code}, in its words "No, thanks.". If that does not' in str(error)
    assert "javascript" not in str(error)
    assert f"with 400 {code}. {advice}" in str(refused(400, body={"error": code}))


def test_codes_are_compared_as_a_whole():
    """B25: invalid_client is not invalid_client_metadata."""
    assert "Check the client metadata" not in str(refused(400, body={"error": "invalid_client"}))


ADVICE = {
    (401, "register"): "wants an initial access token",
    (403, "register"): "does not permit this registration",
    (404, "register"): "registration is not offered at its endpoint",
    (405, "delete"): r"does not offer this (delete)",
    (501, "update"): r"does not offer this (update)",
    (401, "read"): "refuses this registration's token or has forgotten the client",
    (403, "read"): "Ask the server's operator",
    (401, "discover"): "Ask the server's operator",
    (404, "discover"): "Ask the server's operator",
    (429, "read"): "Try again later",
    (503, "register"): "Try again later",
    (500, "register"): "Try again later",
}


@pytest.mark.parametrize(
    ("status", "step", "advice"), [(*key, advice) for key, advice in ADVICE.items()]
)
def test_each_error_ends_with_what_to_do_next(status, step, advice):
    """R-078, R-079, R-105, R-106, fault 133."""
    assert advice in str(refused(status, step))


def test_the_error_says_how_long_to_wait():
    """R-079, fault 50."""
    error = refused(429, Retry_After="30")
    assert isinstance(error, RequestRejectedError)
    assert error.retry_after == 30
    assert str(error).endswith("Wait 30 seconds, then try again.")


def http_date(seconds: float) -> str:
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return format_datetime(moment.replace(microsecond=0), usegmt=True)


WAITS = {
    "1": ("1", 1),
    "0": ("0", 0),
    "above the cap": ("7200", 3600),
    "30000 years": ("946080000000", 3600),
    "5000 digits": ("9" * 5000, 3600),
    "negative": ("-1", None),
    "fraction": ("1.5", None),
    "none": ("", None),
    "text": ("soon", None),
    "far date": ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    "date without zone": ("Fri, 31 Dec 9999 23:59:59 -0000", 3600),
    "date at the edge": ("Fri, 31 Dec 9999 23:59:59 -2359", 3600),
    "past date": ("Sun, 06 Nov 1994 08:49:37 GMT", None),
    "year 30000": ("Fri, 31 Dec 30000 23:59:59 GMT", None),
    "no date": ("Fri, 99 Dec 2030 23:59:59 GMT", None),
    "60 kB": ("Fri, " * 12_000, None),
}


@pytest.mark.parametrize(("value", "seconds"), WAITS.values(), ids=WAITS.keys())
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_capped_or_none(status, value, seconds):
    """R-079, fault 50: one hour at most, and nothing that raises."""
    assert refused(status, Retry_After=value).retry_after == seconds


def test_a_date_in_retry_after_becomes_seconds():
    """Fault 50."""
    assert 600 <= refused(429, Retry_After=http_date(1200)).retry_after <= 1200


JUNK = {
    "B7 empty": b"",
    "B7 html": b"<html><script>alert(1)</script>",
    "137 list": b'[7, null, {"x": "y"}]',
    "137 number": b'{"error": 7}',
    "137 object": b'{"error": {"code": {"code": "a"}}}',
    "137 null": b'{"error": null, "error_description": null}',
    "137 list inside": b'{"error": [1], "error_description": [1]}',
    "137 empty texts": b'{"error": "", "error_description": ""}',
    "139 huge": b"x" * 1_000_000,
    "62 twice": b'{"error": "a", "error": "b"}',
    "58 not oauth": b'{"message": "Unprocessable Entity", "code": 422}',
}


@pytest.mark.parametrize("body", JUNK.values(), ids=JUNK.keys())
def test_a_body_of_junk_gives_an_error_without_a_code(body):
    """R-077, B7, faults 47, 137 and 139."""
    error = refused(422, body=body)
    assert (error.error, error.error_description) == ("", "")
    assert str(error) == "The server refused with 422. Ask the server's operator what it accepts."


DESCRIPTIONS = {
    "136 ANSI and lines": ("a\x1b[31m\r\nb\x00", "a[31m b"),
    "136 bidi and zero width": ("a\u202e\u200bb", "ab"),
    "136 html stays text": ("<b>%s{0}${jndi:x}", "<b>%s{0}${jndi:x}"),
    "surrogate": ("a\ud800b", "ab"),
    "capped": ("a" * 200_000, "a" * 199 + "…"),
}


@pytest.mark.parametrize(("said", "shown"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_the_servers_description_is_cleaned_and_shortened(said, shown):
    """Faults 136 and 141."""
    error = refused(400, body={"error": "a", "error_description": said})
    assert error.error_description == shown
    assert f'in its words "{shown}"' in str(error)


@pytest.mark.parametrize("text", ['né"\\', "a" * 101], ids=["odd characters", "long"])
def test_a_code_that_is_a_sentence_is_a_description(text):
    """Fault 137."""
    error = refused(422, body={"error": text})
    assert (error.error, error.error_description) == ("", text)


def test_a_description_without_a_code_is_shown():
    error = refused(400, body={"error": 7, "error_description": "a"})
    assert str(error).startswith('The server refused with 400, in its words "a". ')


def test_a_code_is_cleaned():
    """Fault 137: spaces at the ends and control characters."""
    assert refused(400, body={"error": " a\x1b_b\n"}).error == "a_b"


SECRET = 's3c "r<3>t/é' + "x" * 300
ECHOES = {
    "plain": SECRET,
    "in a header": f"Authorization: Bearer {SECRET}",
    "percent": "token=s3c%20%22r%3C3%3Et%2F%C3%A9" + "x" * 300,
    "html": "<pre>s3c &quot;r&lt;3&gt;t/é" + "x" * 300,
    "json": json.dumps({"token": SECRET}),
    "hidden by zero width": SECRET.replace("r", "r\u200b"),
    "twice": SECRET + SECRET,
    "at the cap": "a" * 190 + SECRET,
    "far behind": "a " * 3_000 + SECRET,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
@pytest.mark.parametrize("step", ["register", "read"])
def test_secrets_that_the_server_echoes_are_masked(step, echo):
    """R-137, fault 138."""
    body = {"error": echo, "error_description": echo}
    error = refused(400, step, body=body, secrets=("", "other", SECRET))
    for text in (str(error), repr(error), error.error, error.error_description):
        assert "s3c" not in text
        assert "xxx" not in text


def test_the_longer_of_two_secrets_is_masked_first():
    """Fault 138: one may be the beginning of the other."""
    error = refused(400, body={"error": "abcdef"}, secrets=("abc", "abcdef"))
    assert error.error == "********"


def test_a_secret_with_a_lone_surrogate_is_masked():
    """Fault 138: an operator's token is not checked by any server."""
    assert refused(400, body={"error": "a"}, secrets=("t\ud800",)).error == "a"


CHALLENGES = {
    "48 Bearer": ('Bearer realm="a", error="invalid_token"', "invalid_token", ""),
    "with words": (
        'Bearer error="invalid_token", error_description="The token, \\"it\\" expired"',
        "invalid_token",
        'The token, "it" expired',
    ),
    "token form": ("bearer error=invalid_token,error_description=x", "invalid_token", "x"),
    "spaces around": ('BEARER  ERROR = "a" , Error_Description\t=\t"b"', "a", "b"),
    "48 second challenge": (
        'Basic realm="Bearer error=\\"no\\"", Bearer error="invalid_token"',
        "invalid_token",
        "",
    ),
    "other scheme before": ('Basic realm="a", error="b", Bearer error="c"', "c", ""),
    "other scheme behind": ('Bearer error="a", DPoP error="b", algs="ES256"', "a", ""),
    "token68": ('Negotiate YWJjZA==, Bearer error="a"', "a", ""),
    "twice": ('Bearer error="a", error="b"', "a", ""),
    "48 bare": ("Bearer", "", ""),
    "48 Basic": ('Basic realm="a", error="b"', "", ""),
    "no scheme": ('error="a"', "", ""),
    "unclosed": ('Bearer error="a', "", ""),
    "backslash at the end": ('Bearer error="a\\', "", ""),
    "empty value": ("Bearer error=, error_description=b", "", "b"),
    "a sentence for a code": ('Bearer error="It has expired"', "", "It has expired"),
    "none": ("", "", ""),
    "junk": (',,=;"\x00é', "", ""),
    "48 60 kB": ('Bearer error="a", realm="' + "x" * 60_000 + '"', "a", ""),
    "48 60 kB of quotes": ('Bearer error="a", ' + 'x="\\' * 15_000, "a", ""),
    "48 60 kB of spaces": ("Bearer error=a, x" + " " * 60_000, "a", ""),
    "beyond the bound": ("x," * 40_000 + "Bearer error=a", "", ""),
}


@pytest.mark.parametrize(("header", "code", "words"), CHALLENGES.values(), ids=CHALLENGES.keys())
@pytest.mark.parametrize("body", [b"", b'{"message": "Unauthorized"}'], ids=["empty", "other"])
def test_the_bearer_challenge_is_used_where_the_body_has_no_code(header, code, words, body):
    """R-078, fault 48."""
    error = refused(401, body=body, WWW_Authenticate=header)
    assert (error.error, error.error_description) == (code, words)


def test_the_body_takes_precedence_over_the_challenge():
    """R-077, R-078."""
    error = refused(401, "read", body={"error": "a"}, WWW_Authenticate='Bearer error="b"')
    assert type(error) is RegistrationGoneError
    assert error.error == "a"


def test_secrets_in_a_challenge_are_masked():
    """Fault 138."""
    echo = base64.b64encode(b"token").decode()
    header = f'Bearer error="invalid_token", error_description="got {echo}"'
    error = refused(401, WWW_Authenticate=header, secrets=(echo,))
    assert error.error_description == "got ********"

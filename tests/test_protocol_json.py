"""JSON from servers: what is read, what is refused, and what may be stored."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from django_dcr.exceptions import InvalidResponseError
from django_dcr.protocol import encode, parse_object, storable
from django_dcr.protocol.json import MAX_DEPTH


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """An object whose deepest container is ``levels`` deep, counting the object itself."""
    return b'{"a":' + opening * (levels - 1) + closing * (levels - 1) + b"}"


REFUSED = {
    # fault 58: not an object
    "58-empty": b"",
    "58-spaces": b" \n\t ",
    "58-null": b"null",
    "58-true": b"true",
    "58-number": b"7",
    "58-text": b'"ok"',
    "58-array": b"[]",
    "58-text-that-holds-json": b'"{\\"client_id\\": \\"a\\"}"',
    # fault 59: nearly JSON
    "59-cut": b'{"client_id": "a"',
    "59-trailing-bytes": b'{"client_id": "a"} x',
    "59-two-objects": b'{"client_id": "a"}{"client_id": "b"}',
    "59-comment": b'{"client_id": "a" /* x */}',
    "59-xssi-prefix": b")]}'\n{}",
    "59-single-quotes": b"{'client_id': 'a'}",
    "59-trailing-comma": b'{"client_id": "a",}',
    "59-bad-escape": b'{"client_id": "\\x"}',
    "59-raw-newline": b'{"client_id": "a\nb"}',
    "B21-html": b"<!doctype html><title>Sign in</title>",
    # faults 60 and 61: other encodings
    "60-utf-16": '{"a": "b"}'.encode("utf-16"),
    "60-utf-16-without-mark": '{"a": "b"}'.encode("utf-16-le"),
    "60-utf-32": '{"a": "b"}'.encode("utf-32"),
    "61-latin-1": '{"a": "é"}'.encode("latin-1"),
    "61-overlong-nul": b'{"a": "\xc0\x80"}',
    "61-encoded-surrogate": b'{"a": "\xed\xa0\x80"}',
    # fault 62: one name twice
    "62-twice": b'{"client_id": "a", "client_id": "b"}',
    "62-twice-by-escape": b'{"issuer": "a", "\\u0069ssuer": "b"}',
    "62-twice-inside": b'{"a": [{"b": 1, "b": 1}]}',
    # faults 63 and 64: numbers
    "63-nan": b'{"a": NaN}',
    "63-infinity": b'{"a": Infinity}',
    "63-minus-infinity": b'{"a": -Infinity}',
    "63-1e999": b'{"a": 1e999}',
    "63-minus-1e999": b'{"a": -1e999}',
    "63-long-fraction": b'{"a": 0.' + b"1" * 900_000 + b"}",
    "64-21-digits": b'{"a": 100000000000000000000}',
    "64-5000-digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "64-900000-digits": b'{"a": -' + b"9" * 900_000 + b"}",
    # fault 65: depth
    "65-one-level-too-deep": nested(MAX_DEPTH + 1),
    "65-600-lists": nested(600),
    "65-100000-lists": nested(100_000),
    "65-100000-lists-cut": b"[" * 100_000,
    "65-50000-objects": nested(50_000, b'{"a":', b"}"),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_a_body_that_is_not_one_strict_json_object_is_an_invalid_response(body):
    """R-004, R-021 and faults 58 to 65: only a JSON object in UTF-8 is accepted."""
    with pytest.raises(InvalidResponseError, match="not the JSON object") as caught:
        parse_object(body)
    assert len(str(caught.value)) <= 500


ACCEPTED = {
    "empty object": (b"{}", {}),
    "spaces around": (b' \n{"a": 1}\r\n', {"a": 1}),
    "60-utf-8-mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "non-ascii": ('{"a": "é 日本"}'.encode(), {"a": "é 日本"}),
    "64-20-digits": (b'{"a": 99999999999999999999}', {"a": 99999999999999999999}),
    "64-20-negative-digits": (b'{"a": -99999999999999999999}', {"a": -99999999999999999999}),
    "float": (b'{"a": 1.5e3}', {"a": 1500.0}),
    "65-deepest": (nested(2), {"a": []}),
    "astral by escapes": (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    "67-odd names": (
        b'{"": 1, "__proto__": 2, "pk": 3, "_state": 4}',
        {"": 1, "__proto__": 2, "pk": 3, "_state": 4},
    ),
}


@pytest.mark.parametrize(("body", "document"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_any_json_object_is_parsed(body, document):
    assert parse_object(body) == document


def test_the_deepest_allowed_document_is_parsed_and_can_be_dumped():
    """Fault 65: deeper ones are refused, because MariaDB could not store them."""
    assert json.dumps(parse_object(nested(MAX_DEPTH))).count("[") == MAX_DEPTH - 1


def test_large_documents_below_the_size_limit_are_parsed():
    """Fault 66: the time for a long text or many members is proportional."""
    document = {"a": "x" * 900_000, **{f"m{number}": number for number in range(4_999)}}
    assert parse_object(encode(document)) == document


@pytest.mark.parametrize(
    "document",
    [
        {f"m{number}": number for number in range(5_001)},
        {"keys": [[] for _ in range(5_001)]},
        {"a": [[[1] * 100] * 10] * 10},
        {"a": {str(number): [number] for number in range(2_600)}},
    ],
    ids=["members", "lists", "nested lists", "members of a member"],
)
def test_documents_with_too_many_values_are_refused(document: Any) -> None:
    """They would be read with every hit and shown on a page."""
    with pytest.raises(InvalidResponseError, match="it has more than 5000 values"):
        parse_object(encode(document))


@pytest.mark.parametrize("name", ["keycloak", "oidc-provider", "django-oauth-toolkit", "mcp"])
def test_the_documents_of_real_servers_have_a_tenth_of_the_limit(name: str) -> None:
    found = json.loads((Path(__file__).parent / f"data/{name}.json").read_text())
    assert count(found) < 500


def count(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 1
    return 1 + sum(map(count, value.values() if isinstance(value, dict) else value))


def test_the_error_for_bad_json_contains_nothing_of_the_document():
    """R-137: neither the text, the pickle nor the causes contain the body."""
    with pytest.raises(InvalidResponseError) as caught:
        parse_object(b'{"client_secret": "s3cr3t", "client_secret": "s3cr3t"')
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "s3cr3t" not in str(error) + repr(error)
    assert b"s3cr3t" not in pickle.dumps(error)


STORABLE = {
    "68-nul in text": ({"a": "x\x00y"}, {"a": "xy"}),
    "68-lone surrogate in text": ({"a": ["x\ud800y"]}, {"a": ["xy"]}),
    "68-nul in name": ({"a\x00": 1, "b": 2}, {"b": 2}),
    "68-surrogate in nested name": ({"a": {"\udfff": 1}}, {"a": {}}),
    "69-noncharacter and bidi are kept": ({"a": "\uffff\u202e"}, {"a": "\uffff\u202e"}),
    "64-64 bits": ({"a": 2**63 - 1, "b": -(2**63)}, {"a": 2**63 - 1, "b": -(2**63)}),
    "64-more than 64 bits": ({"a": 2**63}, {"a": "9223372036854775808"}),
    "64-negative": ({"a": -(2**63) - 1}, {"a": "-9223372036854775809"}),
    "63-float of more than 53 bits": ({"a": 4.142950536278659e16}, {"a": "4.142950536278659e+16"}),
    "63-float of 53 bits": ({"a": -(2.0**53)}, {"a": -(2.0**53)}),
    "63-huge float": ({"a": 1e300}, {"a": "1e+300"}),
    "63-no number": ({"a": float("nan"), "b": float("-inf")}, {"a": "nan", "b": "-inf"}),
    "constants": ({"a": True, "b": None, "c": 1.5}, {"a": True, "b": None, "c": 1.5}),
    "tuple": ({"a": ("b",)}, {"a": ["b"]}),
    "name that is not text": ({1: 2}, {}),
}


@pytest.mark.parametrize(("value", "stored"), STORABLE.values(), ids=STORABLE.keys())
def test_storable_removes_what_databases_refuse(value, stored):
    assert storable(value) == stored


def test_a_request_is_utf_8_and_compact():
    """B13: the body is bytes, so that its length is in bytes."""
    assert encode({"client_name": "Zoë", "n": [1]}) == b'{"client_name":"Zo\xc3\xab","n":[1]}'


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud800"], ids=["nan", "set", "surrogate"])
def test_a_value_that_is_not_json_is_not_encoded(value):
    with pytest.raises((TypeError, ValueError), match=r"JSON (compliant|serial)|surrogates"):
        encode({"a": value})


@pytest.mark.parametrize("piece", ["[[]]", "{}", "0", "0.5", '""', "null"])
def test_a_megabyte_of_values_is_refused_before_it_is_parsed(piece):
    """Parsing them took up to half a second."""
    body = f'{{"a":[{",".join([piece] * (1_000_000 // (len(piece) + 1)))}]}}'.encode()
    calls = 0

    # Coverage does not see what a profiler runs.
    def count(frame, event, arg):  # pragma: no cover
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with pytest.raises(InvalidResponseError, match="more than 5000 values"):
            parse_object(body)
    finally:
        sys.setprofile(None)
    assert calls < 2_000

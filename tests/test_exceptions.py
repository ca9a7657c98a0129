from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from django_dcr import exceptions
from django_dcr.exceptions import (
    ConflictError,
    DCRError,
    DecryptionError,
    InvalidResponseError,
    NetworkError,
    NotAllowedError,
    NotStoredError,
    RegistrationGoneError,
    RequestRejectedError,
    UnsupportedError,
    errors_at,
)

WHERE = {"issuer": "https://as.example", "step": "register", "status": 400}
SAID = {"error": "invalid_client_metadata", "error_description": "no", "retry_after": 30}

CLASSES = {
    kind: kind.__mro__[1]
    for _name, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, DCRError)
}

EXAMPLES = [
    NotAllowedError("no", **WHERE),
    NetworkError("no", **WHERE, sent=False),
    InvalidResponseError("no", **WHERE),
    RequestRejectedError("no", **WHERE, **SAID),
    RegistrationGoneError("no", **WHERE, **SAID),
    UnsupportedError("no", **WHERE),
    ConflictError("no", **WHERE),
    DecryptionError("no", **WHERE),
    NotStoredError("no", **WHERE),
]
for each in EXAMPLES:
    each.resource = "https://mcp.example/mcp"


def name(error: DCRError) -> str:
    return type(error).__name__


def test_the_tree_is_the_documented_one() -> None:
    tree = {
        DCRError: Exception,
        NotAllowedError: DCRError,
        NetworkError: DCRError,
        InvalidResponseError: DCRError,
        RequestRejectedError: DCRError,
        RegistrationGoneError: RequestRejectedError,
        UnsupportedError: DCRError,
        ConflictError: DCRError,
        DecryptionError: DCRError,
        NotStoredError: DCRError,
    }
    assert tree == CLASSES
    assert {type(error) for error in EXAMPLES} == CLASSES.keys() - {DCRError}


@pytest.mark.parametrize("error", EXAMPLES, ids=name)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_its_attributes(error: DCRError, protocol: int) -> None:
    twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(twin) is type(error)
    assert str(twin) == "no"
    assert vars(twin) == vars(error)
    assert vars(twin).items() >= WHERE.items()


@pytest.mark.parametrize("error", EXAMPLES, ids=name)
def test_an_error_survives_copying(error: DCRError) -> None:
    assert vars(copy.deepcopy(error)) == vars(copy.copy(error)) == vars(error)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_unknown_attributes_of_an_error_are_empty(kind: type[DCRError]) -> None:
    error = kind()
    assert str(error) == ""
    assert (error.issuer, error.step, error.status) == ("", "", None)


def test_a_request_counts_as_sent_by_default() -> None:
    assert NetworkError("no").sent is True


def test_a_rejection_without_a_description_has_none() -> None:
    error = RequestRejectedError("no")
    assert (error.error, error.error_description, error.retry_after) == ("", "", None)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_text_is_one_clean_line_of_at_most_500_characters(kind: type[DCRError]) -> None:
    assert str(kind("one\r\n\x1b[31mtwo\u202e\0")) == "one [31mtwo"
    assert len(str(kind("x" * 1_000_000))) == 500


def test_an_error_gets_its_context_from_the_innermost_block() -> None:
    with (
        pytest.raises(UnsupportedError) as caught,
        errors_at("https://as.example", "update"),
        errors_at("", "read"),
    ):
        raise UnsupportedError("no")
    assert (caught.value.issuer, caught.value.step) == ("https://as.example", "read")


def test_the_attributes_that_an_error_has_stay() -> None:
    with pytest.raises(NotAllowedError) as caught, errors_at("https://as.example", "register"):
        raise NotAllowedError("no", issuer="https://other.example", step="discover")
    assert (caught.value.issuer, caught.value.step) == ("https://other.example", "discover")


def test_other_exceptions_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), errors_at("https://as.example", "read"):
        raise ZeroDivisionError

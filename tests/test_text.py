from __future__ import annotations

from traceback import TracebackException
from typing import NoReturn

import pytest

from django_dcr.text import clean, hides_variables


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Shop and café 店", "Shop and café 店", id="plain text stays"),
        pytest.param("one\r\ntwo\tthree\x0bfour", "one two three four", id="one line"),
        pytest.param("a\u2028b\u2029c\u00a0d\u3000e", "a b c d e", id="separators"),
        pytest.param("  both ends  ", "both ends", id="spaces at the ends"),
        pytest.param("\x1b[31mred\x1b[0m", "[31mred[0m", id="no terminal escapes"),
        pytest.param("a\x00b\x07c\x7fd\x9be", "abcde", id="controls"),
        pytest.param("a\u202eb\u2066c\u200bd\ufeffe", "abcde", id="bidi and zero width"),
        pytest.param("a\ud800b\udfffc", "abc", id="lone surrogates"),
        pytest.param("a\ue000b\u0378c", "abc", id="private use and unassigned"),
        pytest.param("<b>&amp;%s{0}", "<b>&amp;%s{0}", id="markup is the template's business"),
        pytest.param(None, "None", id="no text at all"),
        pytest.param("", "", id="empty"),
    ],
)
def test_text_from_a_server_becomes_one_harmless_line(text: object, shown: str) -> None:
    """Faults 135, 136 and 141: nothing moves a cursor, reverses a line or forges another."""
    assert clean(text) == shown


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert clean("x" * 200) == "x" * 200
    assert clean("x" * 201) == "x" * 199 + "…"
    assert clean("x" * 30, 10) == "x" * 9 + "…"


def test_the_limit_holds_where_characters_are_dropped() -> None:
    assert clean("\x00" * 20 + "y" * 20, 10) == "y" * 9 + "…"
    assert clean("\x00" * 1_000_000 + "y", 10) == ""


def variables(error: BaseException) -> str:
    return "".join(TracebackException.from_exception(error, capture_locals=True).format())


def raise_with(found: str) -> NoReturn:
    raise KeyError(len(found))


@hides_variables
def raise_in_the_midst_of_another(found: str) -> NoReturn:
    """Raise with a string among the variables that was not an argument."""
    secret = found.upper()
    try:
        raise_with(secret)
    except KeyError as exc:
        raise ValueError(len(secret)) from exc


def test_no_error_shows_variables_of_a_function_that_hides_them() -> None:
    """Nor does its context; the traceback keeps all lines."""
    with pytest.raises(ValueError, match="6") as caught:
        raise_in_the_midst_of_another("hidden")
    shown = variables(caught.value)
    assert "raise KeyError(len(found))" in shown
    assert "raise ValueError(len(secret)) from exc" in shown
    assert "HIDDEN" not in shown


def test_errors_in_a_cycle_are_visited_once() -> None:
    @hides_variables
    def circle() -> NoReturn:
        error = KeyError("first")
        error.__cause__ = ValueError("second")
        error.__cause__.__cause__ = error
        raise error

    with pytest.raises(KeyError, match="first"):
        circle()


def test_the_variables_of_an_error_that_the_caller_handles_are_the_callers() -> None:
    try:
        raise_with("ours")
    except KeyError:
        with pytest.raises(ValueError, match="6") as caught:
            raise_in_the_midst_of_another("hidden")
    shown = variables(caught.value)
    assert "'ours'" in shown
    assert "HIDDEN" not in shown


def test_a_function_that_hides_variables_is_otherwise_unchanged() -> None:
    @hides_variables
    def doubled(number: int, *, plus: int = 0) -> int:
        """Return twice the number."""
        return 2 * number + plus

    assert doubled(2, plus=1) == 5
    assert (doubled.__name__, doubled.__doc__) == ("doubled", "Return twice the number.")

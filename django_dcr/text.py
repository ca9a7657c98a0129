"""The one cleaner for text that a server wrote and a person will read, and what hides secrets."""

from __future__ import annotations

import functools
import sys
import traceback
import unicodedata
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

#: What is shown in place of a secret.
MASK = "********"

# Control, format (bidi, zero width), surrogate, private use and unassigned characters can
# move the cursor, reverse a line or forge a second one; separators become plain blanks.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def clean(text: object, limit: int = 200) -> str:
    """Return ``text`` on one line, without characters that could deceive, at most ``limit`` long.

    HTML is left as it is: templates escape it.
    """
    # Twice the limit is enough to fill it, however many characters are dropped or folded,
    # in everything but an attack; a megabyte is never walked through.
    shown = "".join(_shown(character) for character in str(text)[: 2 * limit + 100])
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in _UNSHOWABLE else character


class SensitiveText(str):
    """A text like any other, but that ``repr()`` masks it.

    Debuggers, error trackers and Django's page under ``DEBUG`` show the ``repr()`` of the
    variables of every frame, and no decorator keeps them from it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


class SensitiveBytes(bytes):
    """The same for the body of a request or an answer, masked in ``str()``, too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__


class SensitiveDict(dict[str, Any]):
    """The same for the object that such a body was read as."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


def hides_variables(
    function: Callable[_Parameters, _Result],
) -> Callable[_Parameters, _Result]:
    """Decorate a function that handles credentials: no exception carries them out of it.

    What a signal handler raises (a soft time limit, Ctrl+C) or memory that runs out can end any
    call of any library below, in whose frames the credentials are plain text. Masks do not help
    there: ``http.client`` joins the headers into bytes, ``json`` and ``urllib`` make new texts.
    So each frame that the exception has left is emptied. The traceback keeps every line and has
    no variables below this one, whichever page, log or error tracker shows it.
    """

    @functools.wraps(function)
    def hiding(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        handled = sys.exc_info()[1]  # the caller's own, whose frames are not ours to empty
        try:
            return function(*args, **kwargs)
        except BaseException as exc:
            del args, kwargs
            _empty_frames(exc, handled)
            raise

    return hiding


def _empty_frames(exc: BaseException, handled: BaseException | None) -> None:
    """Empty the frames of an exception and of those it was raised from, or in the middle of."""
    known = {id(handled)}
    pending: list[BaseException | None] = [exc]
    while pending:
        link = pending.pop()
        if link is None or id(link) in known:
            continue
        known.add(id(link))
        traceback.clear_frames(link.__traceback__)  # leaves alone those that still run
        pending += [link.__cause__, link.__context__]

"""Text for people: servers' words are cleaned, secrets are masked."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

#: What is shown in place of a secret.
MASK = "********"


def clean(text: object, limit: int = 200) -> str:
    """Return ``text`` on one line, without deceptive characters, at most ``limit`` long.

    Control, format (bidi, zero width), surrogate, private use and unassigned characters can
    move the cursor, reverse a line or forge a second one. HTML stays: templates escape it.
    """
    # A megabyte is not walked through: twice the limit fills a line, whatever is dropped from it.
    shown = str(text)[: 2 * limit + 100]
    if not shown.isprintable():
        kept = (char for char in shown if char.isspace() or char.isprintable())
        shown = "".join(kept)
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class SensitiveText(str):
    """Text whose ``repr()`` is masked.

    Debuggers, error trackers and Django's page under ``DEBUG`` show the ``repr()`` of every
    frame's variables.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


class SensitiveBytes(bytes):
    """The body of a request or a response, masked in ``str()`` as well."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__


class SensitiveDict(dict[str, Any]):
    """The object that such a body was parsed into."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK


def hides_variables(
    function: Callable[_Parameters, _Result],
) -> Callable[_Parameters, _Result]:
    """Decorate a function that handles credentials, so that no exception shows them.

    Any call of a library below can end in what a signal handler raises (a soft time limit,
    Ctrl+C) or in a MemoryError, and the credentials are plain text in its frames: ``http.client``
    joins the headers into bytes, ``json`` and ``urllib`` make new strings, which no mask covers.
    So the frames that the exception has left are cleared. The traceback keeps every line.
    """

    @functools.wraps(function)
    def hiding(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        handled = sys.exc_info()[1]  # the caller's, whose frames are not ours to clear
        try:
            return function(*args, **kwargs)
        except BaseException as exc:
            del args, kwargs
            _clear_frames(exc, handled)
            raise

    return hiding


def _clear_frames(exc: BaseException, handled: BaseException | None) -> None:
    """Clear the frames of an exception, its causes and its contexts."""
    seen = {id(handled)}
    pending: list[BaseException | None] = [exc]
    while pending:
        link = pending.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)  # those that still run stay as they are
        pending += [link.__cause__, link.__context__]

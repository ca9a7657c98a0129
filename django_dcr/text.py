"""The one cleaner for text that a server wrote and a person will read, and what hides secrets."""

from __future__ import annotations

import unicodedata

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

"""Text of files as it may be printed: nothing in it moves a cursor or changes a terminal."""

from __future__ import annotations

import unicodedata

# Control, formatting (of writing direction) and surrogate characters, and separators of lines.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    """Text with spaces for white space and question marks for other control characters.

    What files say may hold escape sequences, which a terminal would obey.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    return "?" if unicodedata.category(character) in _HIDDEN else character

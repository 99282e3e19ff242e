"""Guards text in CSV files against spreadsheets that take it for a formula, and takes the guard off again.

A spreadsheet may split a file at another separator than the one it was written with, and then a formula may begin in the
middle of a cell. So the guard, an apostrophe, stands before every character that would begin a formula at the beginning of the
cell, after a separator and after a line break. Where apostrophes stand there already, one more is added: every text has its
own guarded form, and `without_guard` returns the text to the letter.
"""

import re

_BEGINNING = r"""((?:^|[,;\t|\r\n])[\s"\x00]*)"""
_FORMULA = r"(?=[=+\-@|%\uff1d\uff0b\uff0d\uff20])"
_TO_GUARD = re.compile(f"{_BEGINNING}(?='*{_FORMULA})")
_GUARDED = re.compile(f"{_BEGINNING}'(?='*{_FORMULA})")
_NUMBER = re.compile(r"[+-]?\d+")


def with_guard(text: str) -> str:
    """Make a text harmless in every spreadsheet. A number stays a number.

    >>> with_guard("x;=1+1")
    "x;'=1+1"
    """
    if _NUMBER.fullmatch(text):
        return text
    return _TO_GUARD.sub(lambda found: f"{found.group()}'", text)


def without_guard(text: str) -> str:
    """Return the text that `with_guard` was given. A text without the guard is returned as it is."""
    return _GUARDED.sub(lambda found: found.group(1), text)

"""Guards text in CSV files against spreadsheets that take it for a formula, and takes the guard off again.

A spreadsheet may split a file at another separator than the one it was written with, and then a formula may begin in the
middle of a cell. So the guard, an apostrophe, stands before every character that would begin a formula at the beginning of the
cell, after a separator and after a line break. Where apostrophes stand there already, one more is added: every text has its
own guarded form, and `unescape_formulas` returns the text to the letter.
"""

import re

# What may stand between the beginning of a cell and its formula, with separators and apostrophes: as much of it as there is,
# looked at once, so that the time grows with the length and nothing else.
_BEFORE_FORMULA = re.compile(r"""(?<![,;\s"\x00'])[,;\s"\x00']*+(?=[=+\-@|%\uff1d\uff0b\uff0d\uff20])""")
_SEPARATOR = re.compile(r"[,;\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+")


def escape_formulas(text: str) -> str:
    """Make a text harmless in every spreadsheet. A number stays a number.

    >>> escape_formulas("x;=1+1")
    "x;'=1+1"
    """
    if _NUMBER.fullmatch(text):
        return text
    return _BEFORE_FORMULA.sub(lambda found: found.group() + "'" * _begins_cell(found), text)


def unescape_formulas(text: str) -> str:
    """Return the text that `escape_formulas` was given. A text without the guard is returned as it is."""
    return _BEFORE_FORMULA.sub(_without_last_apostrophe, text) if "'" in text else text


def _without_last_apostrophe(found: re.Match[str]) -> str:
    before = found.group()
    return before[:-1] if before.endswith("'") and _begins_cell(found) else before


def _begins_cell(found: re.Match[str]) -> bool:
    """Check whether a cell may begin where nothing but blanks, quotes and the last apostrophes stand before the formula."""
    before = found.group().rstrip("'")
    blanks = before.rpartition("'")[2]
    if _SEPARATOR.search(blanks):
        return True
    return blanks == before and (found.start() == 0 or found.string[found.start() - 1] == "|")

"""Escapes text for CSV files so that no spreadsheet reads it as a formula (CSV injection), and unescapes it.

A spreadsheet may split a file at another separator than the writer's, so a formula may begin in the middle of a cell. The escape
character, an apostrophe, precedes every character that would begin a formula: at the start of the cell, after a separator and
after a line break. Existing apostrophes there get one more, so `unescape_formulas` restores every text exactly.
"""

import re

# The characters between the start of a cell and its formula. Possessive, so that the time is linear in the length.
_BEFORE_FORMULA = re.compile(r"""(?<![,;\s"\x00'])[,;\s"\x00']*+(?=[=+\-@|%\uff1d\uff0b\uff0d\uff20])""")
_SEPARATOR = re.compile(r"[,;\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+")


def escape_formulas(text: str) -> str:
    """Escape a text for every spreadsheet. Leaves numbers unchanged.

    >>> escape_formulas("x;=1+1")
    "x;'=1+1"
    """
    if _NUMBER.fullmatch(text):
        return text
    return _BEFORE_FORMULA.sub(lambda found: found.group() + "'" * _begins_cell(found), text)


def unescape_formulas(text: str) -> str:
    """Return the original of a text that `escape_formulas` escaped. Leaves any other text unchanged."""
    return _BEFORE_FORMULA.sub(_without_last_apostrophe, text) if "'" in text else text


def _without_last_apostrophe(found: re.Match[str]) -> str:
    before = found.group()
    return before[:-1] if before.endswith("'") and _begins_cell(found) else before


def _begins_cell(found: re.Match[str]) -> bool:
    """Return whether a spreadsheet may start a cell here: only blanks, quotes and apostrophes precede the formula."""
    before = found.group().rstrip("'")
    blanks = before.rpartition("'")[2]
    if _SEPARATOR.search(blanks):
        return True
    return blanks == before and (found.start() == 0 or found.string[found.start() - 1] == "|")

"""The guard against formulas: nothing that a spreadsheet would evaluate is left, and every text comes back unchanged."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baskets.domain.spreadsheets import escape_formulas, unescape_formulas

GUARDED = {
    "=1+1": "'=1+1",
    "+1+1": "'+1+1",
    "-1+1": "'-1+1",
    "@SUM(A1)": "'@SUM(A1)",
    "\uff1d1": "'\uff1d1",
    " =1": " '=1",
    "\t=1": "\t'=1",
    "\r=1": "\r'=1",
    "a\n=1": "a\n'=1",
    "x;=1+1": "x;'=1+1",
    "x;=1+1;y": "x;'=1+1;y",
    "x,\t@A1": "x,\t'@A1",
    'x;"=1+1;': "x;\"'=1+1;",
    "'=1": "''=1",
    "x; ''=1": "x; '''=1",
    "'-5": "''-5",
    "-5": "-5",
    "+5": "+5",
    "a-b = c": "a-b = c",
    "'n' roll": "'n' roll",
    "x|=1": "x|'=1",
    "|=1": "'|'=1",
    "%1": "'%1",
    "plain": "plain",
    "": "",
}
TEXTS = st.text(st.sampled_from("=+-@|%\uff1d'\"; ,\t\r\n\u00a0a1"), max_size=12)


@pytest.mark.parametrize(("text", "guarded"), GUARDED.items())
def test_the_guard_stands_where_a_formula_would_begin(text: str, guarded: str) -> None:
    assert escape_formulas(text) == guarded
    assert unescape_formulas(guarded) == text


@given(TEXTS)
def test_every_text_comes_back_to_the_letter(text: str) -> None:
    assert unescape_formulas(escape_formulas(text)) == text


@given(TEXTS)
def test_no_piece_of_a_guarded_text_is_a_formula(text: str) -> None:
    for piece in re.split("[,;|\t\r\n]", escape_formulas(text)):
        begins = piece.strip().lstrip('"').strip()[:1]
        assert begins not in {"=", "+", "-", "@", "\uff1d"} or re.fullmatch(r"[+-]\d+", escape_formulas(text))


@pytest.mark.parametrize("text", ["a", "'", "a'=b", "'a", "x;'y", "=1", "x;=1"])
def test_a_text_without_the_guard_is_left_as_it_is(text: str) -> None:
    assert unescape_formulas(text) == text


@pytest.mark.parametrize("character", ["\t", ",", "'", '"', "=", " "])
def test_the_time_grows_with_the_length_and_nothing_else(character: str) -> None:
    started = time.thread_time()
    text = character * 130_000
    assert unescape_formulas(escape_formulas(text)) == text
    assert time.thread_time() - started < 2

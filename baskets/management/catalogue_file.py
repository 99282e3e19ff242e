"""Reads a catalogue from a CSV or JSON lines file: lines in, product rows and problems with their line numbers out."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePath
from typing import Any, BinaryIO, NoReturn

from baskets.domain import catalogue
from baskets.domain.catalogue import LEFT_ALONE, ProductRow, problems_of

TEXTS = ("product_id", "name", "brand", "variant", "main_product_id", "currency")
REQUIRED = (*TEXTS, "price")
COLUMNS = (*REQUIRED, "stock", "listed")
JSON_SUFFIXES = {".jsonl", ".ndjson"}
MOST_ROWS = 1_000_000
MOST_PROBLEMS = 100
LONGEST_LINE_BYTES = 1024 * 1024
DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
FLAGS = {"true": True, "1": True, "false": False, "0": False, "": None}


class _Stop(Exception):
    """What follows in the file cannot be made sense of."""


@dataclass(kw_only=True)
class CatalogueFile:
    """What was found in a file. The rows are worth something only where there are no problems.

    `problems` holds the first hundred, `problem_count` counts them all.
    """

    rows: list[ProductRow] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    problem_count: int = 0
    lines: dict[str, int] = field(default_factory=dict)

    def report(self, line: int, problem: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((line, problem))

    def take(self, line: int, values: Mapping[str, Any], wrong: Sequence[tuple[str, str]]) -> None:
        """Take the values of one line as a row, or note all that is wrong with them.

        :param wrong: fields that could not be read, and why; what stands in their place is not complained of as well.
        """
        unread = {name for name, _ in wrong}
        problems = [*wrong, *(problem for problem in problems_of(values) if problem[0] not in unread)]
        if product_id := values["product_id"]:
            first = self.lines.setdefault(product_id, line)
            if first != line:
                problems.append(("product_id", f"{product_id[:60]!r} is on line {first} already"))
        for name, problem in problems:
            self.report(line, f"{name} {problem}")
        if not problems:
            self.rows.append(ProductRow(**values))
            if len(self.rows) > MOST_ROWS:
                raise _Stop(line, f"more than {MOST_ROWS} products; split the file")


def read(stream: BinaryIO, *, name: str, advance: Callable[[int], object] = lambda _: None) -> CatalogueFile:
    """Read a catalogue: JSON lines by the file's name or its first character, CSV otherwise.

    :param advance: told the bytes of each line as it is read.
    """
    found = CatalogueFile()
    try:
        _read(_lines(stream, advance), suffix=PurePath(name).suffix.lower(), found=found)
    except _Stop as stop:
        found.report(*stop.args)
    return found


def _read(lines: Iterator[tuple[int, str]], *, suffix: str, found: CatalogueFile) -> None:
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        raise _Stop(1, "the file is empty")
    as_json = suffix in JSON_SUFFIXES or (suffix != ".csv" and first[1].lstrip().startswith("{"))
    (_read_json_lines if as_json else _read_csv)(chain([first], lines), found)
    if not found.lines and not found.problem_count:
        raise _Stop(first[0], "there is no product in the file")


def _lines(stream: BinaryIO, advance: Callable[[int], object]) -> Iterator[tuple[int, str]]:
    """Decode the lines and number them. No part of a UTF-8 character looks like a line's end."""
    number = 0
    while line := stream.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        advance(len(line))
        if len(line) > LONGEST_LINE_BYTES:
            raise _Stop(number, f"the line is longer than {LONGEST_LINE_BYTES} bytes")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _Stop(number, f"byte {error.start + 1} of the line is not UTF-8") from None
        yield number, text


# --- CSV ------------------------------------------------------------------------


def _read_csv(lines: Iterable[tuple[int, str]], found: CatalogueFile) -> None:
    """Read records. A record begins on the line after the end of the last one, quoted line breaks counted."""
    at = {"line": 0}

    def texts() -> Iterator[str]:
        for number, text in lines:
            at["line"] = number
            yield text

    reader = csv.reader(texts(), strict=True)
    header = _header(reader, at)
    while True:
        begin = at["line"] + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            _stop_at_csv_error(begin, error)
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            found.report(begin, f"{len(cells)} cells, where the header has {len(header)}")
            continue
        values, wrong = _values_of_cells(dict(zip(header, cells, strict=True)))
        found.take(begin, values, wrong)


def _header(reader: Any, at: Mapping[str, int]) -> list[str]:
    try:
        header = [cell.strip() for cell in next(reader)]
    except csv.Error as error:
        _stop_at_csv_error(1, error)
    unknown = [repr(name[:60]) for name in header if name not in COLUMNS]
    problems = {
        "unknown column": unknown,
        "missing column": [name for name in REQUIRED if name not in header],
        "repeated column": sorted({name for name in header if header.count(name) > 1}),
    }
    if told := [f"{problem} {', '.join(names[:20])}" for problem, names in problems.items() if names]:
        raise _Stop(at["line"], "; ".join(told) + f"; the columns are {','.join(REQUIRED)} and perhaps stock,listed")
    return header


def _stop_at_csv_error(line: int, error: csv.Error) -> NoReturn:
    raise _Stop(line, f"this is no CSV ({error}); is a quote left open or not doubled?") from None


def _values_of_cells(cells: Mapping[str, str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    values: dict[str, Any] = {name: cells[name] for name in TEXTS}
    wrong = []
    for name in ("price", "stock"):
        cell = cells.get(name, "")
        values[name] = int(cell) if DIGITS.fullmatch(cell) else None
        if cell and values[name] is None:
            wrong.append((name, f"{cell[:40]!r} is not a whole number"))
    if "stock" not in cells:
        values["stock"] = LEFT_ALONE
    listed = cells.get("listed", "").lower()
    values["listed"] = FLAGS.get(listed)
    if listed not in FLAGS:
        wrong.append(("listed", f"{listed[:40]!r} is neither true nor false"))
    return values, wrong


# --- JSON lines -----------------------------------------------------------------


def _read_json_lines(lines: Iterable[tuple[int, str]], found: CatalogueFile) -> None:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            fields = json.loads(text, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            found.report(number, f"this is no JSON object ({told[:120]})")
            continue
        if not isinstance(fields, dict):
            found.report(number, "this is no JSON object")
            continue
        values, wrong = _values_of_fields(fields)
        found.take(number, values, wrong)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def _values_of_fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    wrong = [("unknown key", repr(key[:60])) for key in fields if key not in COLUMNS]
    wrong += [(key, "is missing") for key in catalogue.REQUIRED if key not in fields]
    values: dict[str, Any] = {}
    for name in TEXTS:
        value = fields.get(name)
        values[name] = value if isinstance(value, str) else ""
        if not (value is None or isinstance(value, str)):
            wrong.append((name, "is not a string"))
    for name in ("price", "stock"):
        value = fields.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        values[name] = value if whole else None
        if not (value is None or whole):
            wrong.append((name, "is not a whole number"))
    if "stock" not in fields:
        values["stock"] = LEFT_ALONE
    values["listed"] = fields.get("listed")
    if not (values["listed"] is None or isinstance(values["listed"], bool)):
        wrong.append(("listed", "is neither true nor false"))
    return values, wrong

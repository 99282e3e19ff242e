"""Parses a product catalog from CSV or JSON lines into rows, and problems with their line numbers."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple

from baskets.domain.stock import catalog
from baskets.domain.stock.catalog import UNSPECIFIED, FieldProblem, ProductRow, row_problems
from baskets.domain.stock.product_table import (
    COLUMNS,
    REQUIRED,
    TEXT_COLUMNS,
    ParsedFile,
    UnreadableFile,
    next_line,
    numbered_lines,
    parse_pieces,
    read_csv,
)

JSON_SUFFIXES = {".jsonl", ".ndjson"}
MAX_ROWS = 1_000_000
BOOLEAN_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": None}


class ParsedLine(NamedTuple):
    """The values of one line by field, and the fields that could not be parsed. Their values are not validated again."""

    values: dict[str, Any]
    unread: list[FieldProblem]


@dataclass(kw_only=True)
class CatalogFile(ParsedFile):
    """The content of a catalog."""

    rows: list[ProductRow] = field(default_factory=list)

    def add(self, number: int, line: ParsedLine) -> None:
        """Add the values of one line as a row, or all their problems.

        :param number: of the line.
        :raises UnreadableFile: the file has more than `MAX_ROWS` products.
        """
        values = line.values
        unread = {wrong.field for wrong in line.unread}
        problems = [*line.unread, *(wrong for wrong in row_problems(values) if wrong.field not in unread)]
        if values["product_id"] and (repeated := self.repeated(values["product_id"], number)):
            problems.append(FieldProblem("product_id", repeated))
        for wrong in problems:
            self.report(number, f"{wrong.field} {wrong.problem}")
        if not problems:
            self.rows.append(ProductRow(**values))
            if len(self.rows) > MAX_ROWS:
                raise UnreadableFile(number, f"more than {MAX_ROWS} products; split the file")


def read_catalog(stream: BinaryIO, *, name: str, advance: Callable[[int], object] = lambda _: None) -> CatalogFile:
    """Read a catalog: JSON lines if the suffix or the first character says so, else CSV.

    :param advance: called with the bytes of each line as it is read.
    """
    found = CatalogFile()
    try:
        _read_lines(numbered_lines(stream, advance), suffix=PurePath(name).suffix.lower(), found=found)
    except UnreadableFile as stop:
        found.report(*stop.args)
    return found


def _read_lines(lines: Iterator[tuple[int, str]], *, suffix: str, found: CatalogFile) -> None:
    first = next_line(lines)
    if suffix in JSON_SUFFIXES or (suffix != ".csv" and first[1].lstrip().startswith("{")):
        _read_json_lines(chain([first], lines), found)
    else:
        for number, cells in read_csv(first, lines, found, required=REQUIRED, headings={}):
            found.add(number, _parse_cells(cells))
    if not found.lines and not found.problem_count:
        raise UnreadableFile(first[0], "there is no product in the file")


def _parse_cells(cells: Mapping[str, str]) -> ParsedLine:
    values: dict[str, Any] = {name: cells[name] for name in TEXT_COLUMNS}
    unread = []
    for name in ("price", "stock"):
        cell = cells.get(name, "")
        # Prices are minor units, so "12.0" is not a price.
        values[name] = parse_pieces(cell) if name == "stock" or "." not in cell else None
        if cell and values[name] is None:
            unread.append(FieldProblem(name, f"{cell[:40]!r} is not a whole number"))
    if "stock" not in cells:
        values["stock"] = UNSPECIFIED
    listed = cells.get("listed", "").strip().lower()
    values["listed"] = BOOLEAN_WORDS.get(listed)
    if listed not in BOOLEAN_WORDS:
        unread.append(FieldProblem("listed", f"{listed[:40]!r} is neither true nor false"))
    return ParsedLine(values, unread)


# --- JSON lines -----------------------------------------------------------------


def _read_json_lines(lines: Iterable[tuple[int, str]], found: CatalogFile) -> None:
    for number, text in lines:
        if not text.strip():
            continue
        try:
            fields = json.loads(text, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            found.report(number, f"this is not a JSON object ({detail[:120]})")
            continue
        if not isinstance(fields, dict):
            found.report(number, "this is not a JSON object")
            continue
        found.add(number, _parse_fields(fields))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def _parse_fields(fields: Mapping[str, Any]) -> ParsedLine:
    unread = [FieldProblem("unknown key", repr(key[:60])) for key in fields if key not in COLUMNS]
    unread += [FieldProblem(key, "is missing") for key in catalog.REQUIRED_FIELDS if key not in fields]
    values: dict[str, Any] = {}
    for name in TEXT_COLUMNS:
        value = fields.get(name)
        values[name] = value if isinstance(value, str) else ""
        if not (value is None or isinstance(value, str)):
            unread.append(FieldProblem(name, "is not a string"))
    for name in ("price", "stock"):
        value = fields.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        values[name] = value if whole else None
        if not (value is None or whole):
            unread.append(FieldProblem(name, "is not a whole number"))
    if "stock" not in fields:
        values["stock"] = UNSPECIFIED
    values["listed"] = fields.get("listed")
    if not (values["listed"] is None or isinstance(values["listed"], bool)):
        unread.append(FieldProblem("listed", "is neither true nor false"))
    return ParsedLine(values, unread)

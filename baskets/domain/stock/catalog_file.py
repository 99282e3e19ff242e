"""Parses a product catalog from CSV or JSON lines, and a count of stock from CSV, into rows, and problems with their line numbers."""

import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import PurePath
from typing import Any, BinaryIO, NoReturn

from baskets.domain.spreadsheets import unescape_formulas
from baskets.domain.stock import catalog
from baskets.domain.stock.catalog import UNSPECIFIED, ProductRow, row_problems

TEXT_COLUMNS = ("product_id", "name", "brand", "variant", "main_product_id", "currency")
REQUIRED = (*TEXT_COLUMNS, "price")
COLUMNS = (*REQUIRED, "stock", "listed")
# A further column of exports. Its value is outdated, so it is not imported.
NOT_IMPORTED = ("available",)
COLUMN_BY_HEADING = {name.replace("_", ""): name for name in (*COLUMNS, *NOT_IMPORTED)}
# In order of preference, for a header that fits several.
SEPARATORS = (",", ";", "\t")
# Some spreadsheets read the separator from such a line; others write the line back as a row of cells.
SEPARATOR_LINE = re.compile(r'"?sep=.?"?[,;\t]*+\s*+', re.IGNORECASE | re.DOTALL)
EMPTY_ROW_PATTERN = re.compile(r'[\s,;"]*')
BLANKS_PATTERN = re.compile(r"[\s_]+")
BARE_CARRIAGE_RETURN = re.compile(rb"\r(?![\r\n])(?!$)")
SAVE_AS = 'save it as "CSV UTF-8"'
JSON_SUFFIXES = {".jsonl", ".ndjson"}
# The headings that a sheet for counting stock may have for its numbers.
COUNT_HEADINGS = dict.fromkeys(("counted", "count", "unsold", "pieces", "quantity"), "stock")
MAX_ROWS = 1_000_000
MAX_PROBLEMS = 100
MAX_LINE_BYTES = 1024 * 1024
DIGITS_PATTERN = re.compile(r"[0-9]{1,18}", re.ASCII)
# Programs that store numbers as decimals write counts so if one cell of the column is empty.
PIECES_PATTERN = re.compile(r"[0-9]{1,18}(?:\.0)?", re.ASCII)
BOOLEAN_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": None}


class _UnreadableFile(Exception):
    """The rest of the file cannot be parsed. Its arguments are the line number and the problem."""


@dataclass(kw_only=True)
class _ParsedFile:
    """What every file has. Use its content only if there are no problems.

    :param problems: the first `MAX_PROBLEMS` problems, each with its line number.
    :param problem_count: the number of all problems.
    :param lines: the first line of each product id.
    """

    problems: list[tuple[int, str]] = field(default_factory=list)
    problem_count: int = 0
    lines: dict[str, int] = field(default_factory=dict)

    def report(self, line: int, problem: str) -> None:
        """Add a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append((line, problem))

    def repeated(self, product_id: str, line: int) -> str | None:
        """Keep the first line of a product.

        :returns: what is wrong with a further one, as the end of a sentence.
        """
        first = self.lines.setdefault(product_id, line)
        return None if first == line else f"{product_id[:60]!r} is on line {first} already"


@dataclass(kw_only=True)
class CatalogFile(_ParsedFile):
    """The content of a catalog."""

    rows: list[ProductRow] = field(default_factory=list)

    def take(self, line: int, values: Mapping[str, Any], wrong: Sequence[tuple[str, str]]) -> None:
        """Add the values of one line as a row, or all their problems.

        :param wrong: the fields that could not be parsed, with the reason. Their values are not validated again.
        """
        unread = {name for name, _ in wrong}
        problems = [*wrong, *(problem for problem in row_problems(values) if problem[0] not in unread)]
        if values["product_id"] and (repeated := self.repeated(values["product_id"], line)):
            problems.append(("product_id", repeated))
        for name, problem in problems:
            self.report(line, f"{name} {problem}")
        if not problems:
            self.rows.append(ProductRow(**values))
            if len(self.rows) > MAX_ROWS:
                raise _UnreadableFile(line, f"more than {MAX_ROWS} products; split the file")


@dataclass(kw_only=True)
class CountFile(_ParsedFile):
    """The content of a count of stock.

    :param counts: the pieces by product id.
    :param uncounted: how many rows have no number; they are left out.
    """

    counts: dict[str, int] = field(default_factory=dict)
    uncounted: int = 0

    def take(self, line: int, product_id: str, cell: str, *, limit: int) -> None:
        """Add the count of one line, or its problem."""
        if not cell.strip():
            self.uncounted += 1
            return
        problem = self._problem(line, product_id, cell)
        if problem:
            self.report(line, problem)
        elif len(self.counts) == limit:
            raise _UnreadableFile(line, f"more than {limit} products; split the count")
        else:
            self.counts[product_id] = _pieces(cell)

    def _problem(self, line: int, product_id: str, cell: str) -> str | None:
        if wrong := catalog.product_id_problem(product_id):
            return f"product_id {wrong}"
        if not PIECES_PATTERN.fullmatch(cell.strip()) or _pieces(cell) > catalog.MAX_PIECES:
            return f"stock {cell[:40]!r} is not a whole number from 0 to {catalog.MAX_PIECES}"
        repeated = self.repeated(product_id, line)
        return f"product_id {repeated}" if repeated else None


def _pieces(cell: str) -> int:
    return int(cell.strip().removesuffix(".0"))


def read_counts(stream: BinaryIO, *, limit: int) -> CountFile:
    """Read a count of stock: CSV with the columns `product_id` and `stock`, or without a header in this order.

    The number may have other headings, see `COUNT_HEADINGS`; the other columns of a catalog are not read.

    :param limit: the maximum number of products.
    """
    found = CountFile()
    try:
        lines = _lines(stream, lambda _: None)
        first = _next_line(lines)
        if (separator := _separator_of_count(first[1])) is not None:
            rows = _rows(["product_id", "stock"], separator, chain([first], lines), _Position(first[0] - 1), found)
        else:
            rows = _read_csv(first, lines, found, required=("product_id", "stock"), headings=COUNT_HEADINGS)
        for line, cells in rows:
            found.take(line, cells["product_id"].strip(), cells["stock"], limit=limit)
        if not found.counts and not found.problem_count:
            found.report(first[0], "there is no count in it")
    except _UnreadableFile as stop:
        found.report(*stop.args)
    return found


def _separator_of_count(text: str) -> str | None:
    """Return the separator of a line that is a product and a number, and so not a header; None for any other line."""
    for separator in SEPARATORS:
        with suppress(csv.Error):
            cells = next(csv.reader([text], strict=True, delimiter=separator))
            if len(cells) == 2 and cells[0].strip() and PIECES_PATTERN.fullmatch(cells[1].strip()):
                return separator
    return None


def read_catalog(stream: BinaryIO, *, name: str, advance: Callable[[int], object] = lambda _: None) -> CatalogFile:
    """Read a catalog: JSON lines if the suffix or the first character says so, else CSV.

    :param advance: called with the bytes of each line as it is read.
    """
    found = CatalogFile()
    try:
        _read_lines(_lines(stream, advance), suffix=PurePath(name).suffix.lower(), found=found)
    except _UnreadableFile as stop:
        found.report(*stop.args)
    return found


def _read_lines(lines: Iterator[tuple[int, str]], *, suffix: str, found: CatalogFile) -> None:
    first = _next_line(lines)
    if suffix in JSON_SUFFIXES or (suffix != ".csv" and first[1].lstrip().startswith("{")):
        _read_json_lines(chain([first], lines), found)
    else:
        for line, cells in _read_csv(first, lines, found, required=REQUIRED, headings={}):
            found.take(line, *_values_of_cells(cells))
    if not found.lines and not found.problem_count:
        raise _UnreadableFile(first[0], "there is no product in the file")


def _next_line(lines: Iterator[tuple[int, str]]) -> tuple[int, str]:
    """Skip the lines of empty rows, and return the first other one with its number."""
    for number, text in lines:
        if not EMPTY_ROW_PATTERN.fullmatch(text):
            return number, text
    raise _UnreadableFile(1, "the file is empty")


def _lines(stream: BinaryIO, advance: Callable[[int], object]) -> Iterator[tuple[int, str]]:
    """Decode and number the lines. No byte within a UTF-8 character equals a line break."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        advance(len(line))
        if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            rest = stream.read()
            advance(len(rest))
            yield from _utf16_lines(line + rest)
            return
        if number == 1 and BARE_CARRIAGE_RETURN.search(line):
            raise _UnreadableFile(1, f"lines end in carriage returns alone; {SAVE_AS}")
        if len(line) > MAX_LINE_BYTES:
            raise _UnreadableFile(number, f"the line is longer than {MAX_LINE_BYTES} bytes")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _UnreadableFile(number, f"byte {error.start + 1} of the line is not UTF-8; {SAVE_AS}") from None
        yield number, text


def _utf16_lines(raw: bytes) -> Iterator[tuple[int, str]]:
    """Decode UTF-16, which spreadsheets call Unicode text. Reads it whole: all rows stay in memory anyway."""
    try:
        text = raw.decode("utf-16")
    except UnicodeDecodeError:
        raise _UnreadableFile(1, f"the file begins as UTF-16, and is not; {SAVE_AS}") from None
    yield from enumerate(io.StringIO(text, newline="\n"), start=1)


# --- CSV ------------------------------------------------------------------------


@dataclass
class _Position:
    """The last line read: its number, and whether it ended with a line break."""

    line: int
    ended: bool = True


def _read_csv(
    first: tuple[int, str], lines: Iterator[tuple[int, str]], found: _ParsedFile, *, required: Sequence[str], headings: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the header, then the rows.

    :param required: the columns that must be there.
    :param headings: further headings, without blanks and in small letters, and the column of each.
    :returns: as `_rows`.
    """
    if SEPARATOR_LINE.fullmatch(first[1]):
        # The header shows the separator too, also in files that have lost this line.
        first = _next_line(lines)
    at = _Position(first[0])
    header, separator = _header(first[1], (_moved(at, line) for line in lines), at, required, headings)
    return _rows(header, separator, lines, at, found)


def _rows(
    header: Sequence[str], separator: str, lines: Iterator[tuple[int, str]], at: _Position, found: _ParsedFile
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read rows, and report those that do not fit the header. A row may span several lines, by quoted line breaks.

    :returns: of each row the number of its first line, and its cells by column.
    """
    reader = csv.reader((_moved(at, line) for line in lines), strict=True, delimiter=separator)
    while True:
        begin = at.line + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            _stop_at_csv_error(begin, error)
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if problem := _row_problem(header, cells, cut_off=not at.ended):
            found.report(begin, problem)
            continue
        yield (
            begin,
            {name: unescape_formulas(cell) for name, cell in zip_longest(header, cells[: len(header)], fillvalue="") if name in COLUMNS},
        )


def _moved(at: _Position, line: tuple[int, str]) -> str:
    """Move the position to a line.

    :returns: the text of the line.
    """
    at.line, at.ended = line[0], line[1].endswith("\n")
    return line[1]


def _row_problem(header: Sequence[str], cells: Sequence[str], *, cut_off: bool) -> str | None:
    """Compare a row with the header. Spreadsheets add and omit empty cells at the end of rows.

    An empty stock means unlimited, so a missing cell is never read as an empty stock. In a row that may be truncated, no cell may
    be missing.

    :param cut_off: whether the row is the last of the file and has no line break.
    :returns: the problem, or None.
    """
    missing = header[len(cells) :]
    if any(cell.strip() for cell in cells[len(header) :]) or (cut_off and any(missing)):
        return f"{len(cells)} cells, where the header has {len(header)}"
    if "stock" in missing:
        return f"{len(cells)} cells, where the header has {len(header)}, and no stock; a cell for it, even an empty one, must be there"
    if nameless := [cell for name, cell in zip(header, cells, strict=False) if not name and cell.strip()]:
        return f"{nameless[0][:40]!r} is in a column without a name"
    return None


def _header(text: str, rest: Iterator[str], at: _Position, required: Sequence[str], headings: Mapping[str, str]) -> tuple[list[str], str]:
    """Read the header, and detect the separator: the one that yields the most known columns.

    :returns: the column names, empty for nameless columns, and the separator.
    :raises _UnreadableFile: the header is malformed, or columns are unknown, missing or repeated.
    """
    begin = at.line
    quotes = text.count('"')
    while quotes % 2:  # A heading with a line break.
        more = next(rest, "")
        text += more
        quotes += more.count('"')
        if not more or len(text) > MAX_LINE_BYTES:
            _stop_at_csv_error(begin, csv.Error("unexpected end of the header"))
    headers: dict[str, list[str]] = {}
    failure = csv.Error()
    for separator in SEPARATORS:
        try:
            headers[separator] = [_column(cell, headings) for cell in next(csv.reader([text], strict=True, delimiter=separator))]
        except csv.Error as error:
            failure = error
    if not headers:
        _stop_at_csv_error(begin, failure)
    header, separator = max(
        ((header, separator) for separator, header in headers.items()),
        key=lambda found: (sum(name in COLUMNS for name in found[0]), len(found[0])),
    )
    if len(header) == 1:
        raise _UnreadableFile(
            begin, f"the header {text.strip()[:60]!r} has one column; comma, semicolon and tab are understood as separators"
        )
    named = [name for name in header if name]
    problems = {
        "unknown column": [repr(name[:60]) for name in named if name not in (*COLUMNS, *NOT_IMPORTED)],
        "missing column": [name for name in required if name not in named],
        "repeated column": sorted({name for name in named if named.count(name) > 1}),
    }
    others = [name for name in COLUMNS if name not in required] if required == REQUIRED else ["more"]
    if wrong := [f"{problem} {', '.join(names[:20])}" for problem, names in problems.items() if names]:
        raise _UnreadableFile(begin, "; ".join(wrong) + f"; the columns are {','.join(required)} and perhaps {','.join(others)}")
    return header, separator


def _column(heading: str, headings: Mapping[str, str]) -> str:
    """Return the column of a heading in any case, with blanks or underscores or neither. Returns an unknown heading unchanged."""
    heading = heading.strip()
    squeezed = BLANKS_PATTERN.sub("", heading).lower()
    return COLUMN_BY_HEADING.get(squeezed) or headings.get(squeezed, heading)


def _stop_at_csv_error(line: int, error: csv.Error) -> NoReturn:
    raise _UnreadableFile(line, f"this is not CSV ({error}); is a quote left open or not doubled?") from None


def _values_of_cells(cells: Mapping[str, str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    values: dict[str, Any] = {name: cells[name] for name in TEXT_COLUMNS}
    wrong = []
    for name in ("price", "stock"):
        cell = cells.get(name, "")
        number = (DIGITS_PATTERN if name == "price" else PIECES_PATTERN).fullmatch(cell.strip())
        values[name] = int(cell.strip().removesuffix(".0")) if number else None
        if cell and values[name] is None:
            wrong.append((name, f"{cell[:40]!r} is not a whole number"))
    if "stock" not in cells:
        values["stock"] = UNSPECIFIED
    listed = cells.get("listed", "").strip().lower()
    values["listed"] = BOOLEAN_WORDS.get(listed)
    if listed not in BOOLEAN_WORDS:
        wrong.append(("listed", f"{listed[:40]!r} is neither true nor false"))
    return values, wrong


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
        values, wrong = _values_of_fields(fields)
        found.take(number, values, wrong)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def _values_of_fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    wrong = [("unknown key", repr(key[:60])) for key in fields if key not in COLUMNS]
    wrong += [(key, "is missing") for key in catalog.REQUIRED_FIELDS if key not in fields]
    values: dict[str, Any] = {}
    for name in TEXT_COLUMNS:
        value = fields.get(name)
        values[name] = value if isinstance(value, str) else ""
        if not (value is None or isinstance(value, str)):
            wrong.append((name, "is not a string"))
    for name in ("price", "stock"):
        value = fields.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        values[name] = value if whole else None
        if not (value is None or whole):
            wrong.append((name, "is not a whole number"))
    if "stock" not in fields:
        values["stock"] = UNSPECIFIED
    values["listed"] = fields.get("listed")
    if not (values["listed"] is None or isinstance(values["listed"], bool)):
        wrong.append(("listed", "is neither true nor false"))
    return values, wrong

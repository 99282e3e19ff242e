"""Decodes a file of products into numbered lines, and CSV into cells by column. Knows the columns, and not which values are valid."""

import csv
import io
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import zip_longest
from typing import BinaryIO, NoReturn

from django.utils.translation import gettext_noop

from baskets.domain.spreadsheets import unescape_formulas
from baskets.domain.wording import Sentence, sentence

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
MAX_PROBLEMS = 100
MAX_LINE_BYTES = 1024 * 1024
# Programs that store numbers as decimals write counts so if one cell of the column is empty.
PIECES_PATTERN = re.compile(r"([0-9]{1,18})(?:\.0)?", re.ASCII)


class UnreadableFile(Exception):
    """The rest of the file cannot be parsed. Its arguments are the line number and the problem."""


@dataclass(kw_only=True)
class ParsedFile:
    """What every file has. Its content is complete only if there are no problems.

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
        return None if first == line else sentence("%(product)s is on line %(line)s already", product=repr(product_id[:60]), line=first)


def next_line(lines: Iterator[tuple[int, str]]) -> tuple[int, str]:
    """Skip the lines of empty rows, and return the first other one with its number.

    :raises UnreadableFile: no line is left.
    """
    for number, text in lines:
        if not EMPTY_ROW_PATTERN.fullmatch(text):
            return number, text
    raise UnreadableFile(1, sentence("the file is empty"))


def numbered_lines(stream: BinaryIO, advance: Callable[[int], object]) -> Iterator[tuple[int, str]]:
    """Decode and number the lines. No byte within a UTF-8 character equals a line break.

    :param advance: called with the number of bytes of each line.
    :returns: the lines with their numbers, from 1.
    :raises UnreadableFile: a line is too long or not text, or lines end in carriage returns alone.
    """
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
            raise UnreadableFile(1, sentence('lines end in carriage returns alone; save it as "CSV UTF-8"'))
        if len(line) > MAX_LINE_BYTES:
            raise UnreadableFile(number, sentence("the line is longer than %(number)s bytes", number=MAX_LINE_BYTES))
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = sentence('byte %(number)s of the line is not UTF-8; save it as "CSV UTF-8"', number=error.start + 1)
            raise UnreadableFile(number, problem) from None
        yield number, text


def _utf16_lines(raw: bytes) -> Iterator[tuple[int, str]]:
    """Decode UTF-16, which spreadsheets call Unicode text. Reads it whole: all rows stay in memory anyway."""
    try:
        text = raw.decode("utf-16")
    except UnicodeDecodeError:
        raise UnreadableFile(1, sentence('the file begins as UTF-16, and is not; save it as "CSV UTF-8"')) from None
    yield from enumerate(io.StringIO(text, newline="\n"), start=1)


# --- CSV ------------------------------------------------------------------------


@dataclass
class Position:
    """The last line read: its number, and whether it ended with a line break."""

    line: int
    ended: bool = True


def read_csv(
    first: tuple[int, str], lines: Iterator[tuple[int, str]], found: ParsedFile, *, required: Sequence[str], headings: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the header, then the rows.

    :param required: the columns that must be there.
    :param headings: further headings, without blanks and in small letters, and the column of each.
    :returns: as `read_rows`.
    """
    if SEPARATOR_LINE.fullmatch(first[1]):
        # The header shows the separator too, also in files that have lost this line.
        first = next_line(lines)
    at = Position(first[0])
    header, separator = _header(first[1], (_moved(at, line) for line in lines), at, required, headings)
    return read_rows(header, separator, lines, at, found)


def read_rows(
    header: Sequence[str], separator: str, lines: Iterator[tuple[int, str]], at: Position, found: ParsedFile
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


def _moved(at: Position, line: tuple[int, str]) -> str:
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
        return sentence("%(cells)s cells, where the header has %(columns)s", cells=len(cells), columns=len(header))
    if "stock" in missing:
        return sentence(
            "%(cells)s cells, where the header has %(columns)s, and no stock; a cell for it, even an empty one, must be there",
            cells=len(cells),
            columns=len(header),
        )
    if nameless := [cell for name, cell in zip(header, cells, strict=False) if not name and cell.strip()]:
        return sentence("%(cell)s is in a column without a name", cell=repr(nameless[0][:40]))
    return None


def _header(text: str, rest: Iterator[str], at: Position, required: Sequence[str], headings: Mapping[str, str]) -> tuple[list[str], str]:
    """Read the header, and detect the separator: the one that yields the most known columns.

    :returns: the column names, empty for nameless columns, and the separator.
    :raises UnreadableFile: the header is malformed, or columns are unknown, missing or repeated.
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
        raise UnreadableFile(
            begin,
            sentence(
                "the header %(header)s has one column; comma, semicolon and tab are understood as separators",
                header=repr(text.strip()[:60]),
            ),
        )
    named = [name for name in header if name]
    wrong = [
        sentence(template, names=", ".join(names[:20]))
        for template, names in (
            (gettext_noop("unknown column %(names)s"), [repr(name[:60]) for name in named if name not in (*COLUMNS, *NOT_IMPORTED)]),
            (gettext_noop("missing column %(names)s"), [name for name in required if name not in named]),
            (gettext_noop("repeated column %(names)s"), sorted({name for name in named if named.count(name) > 1})),
        )
        if names
    ]
    if wrong:
        others = ",".join(name for name in COLUMNS if name not in required) if required == REQUIRED else sentence("more")
        raise UnreadableFile(
            begin,
            sentence(
                "%(problems)s; the columns are %(required)s and perhaps %(others)s",
                problems=reduce(_joined, wrong),
                required=",".join(required),
                others=others,
            ),
        )
    return header, separator


def _joined(first: Sentence, second: Sentence) -> Sentence:
    return sentence("%(first)s; %(second)s", first=first, second=second)


def _column(heading: str, headings: Mapping[str, str]) -> str:
    """Return the column of a heading in any case, with blanks or underscores or neither. Returns an unknown heading unchanged."""
    heading = heading.strip()
    squeezed = BLANKS_PATTERN.sub("", heading).lower()
    return COLUMN_BY_HEADING.get(squeezed) or headings.get(squeezed, heading)


def _stop_at_csv_error(line: int, error: csv.Error) -> NoReturn:
    raise UnreadableFile(line, sentence("this is not CSV (%(error)s); is a quote left open or not doubled?", error=error)) from None


def parse_pieces(cell: str) -> int | None:
    """Return the whole number in a cell, or None if there is none."""
    found = PIECES_PATTERN.fullmatch(cell.strip())
    return int(found[1]) if found else None

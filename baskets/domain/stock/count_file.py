"""Parses a count of stock from CSV into pieces by product, and problems with their line numbers."""

import csv
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from baskets.domain.stock import catalog
from baskets.domain.stock.product_table import (
    SEPARATORS,
    ParsedFile,
    Position,
    UnreadableFile,
    next_line,
    numbered_lines,
    parse_pieces,
    read_csv,
    read_rows,
)
from baskets.domain.wording import sentence

# The headings that a sheet for counting stock may have for its numbers.
COUNT_HEADINGS = dict.fromkeys(("counted", "count", "unsold", "pieces", "quantity"), "stock")


@dataclass(kw_only=True)
class CountFile(ParsedFile):
    """The content of a count of stock.

    :param counts: the pieces by product id.
    :param uncounted: how many rows have no number; they are left out.
    """

    counts: dict[str, int] = field(default_factory=dict)
    uncounted: int = 0

    def add(self, line: int, product_id: str, cell: str, *, limit: int) -> None:
        """Add the count of one line, or its problem.

        :param limit: the maximum number of products.
        :raises UnreadableFile: the file has more products.
        """
        if not cell.strip():
            self.uncounted += 1
            return
        pieces = parse_pieces(cell)
        problem = self._problem(line, product_id, cell, pieces)
        if problem:
            self.report(line, problem)
        elif len(self.counts) == limit:
            raise UnreadableFile(line, sentence("more than %(number)s products; split the count", number=limit))
        elif pieces is not None:
            self.counts[product_id] = pieces

    def _problem(self, line: int, product_id: str, cell: str, pieces: int | None) -> str | None:
        if wrong := catalog.product_id_problem(product_id):
            return sentence("product_id %(problem)s", problem=wrong)
        if pieces is None or pieces > catalog.MAX_PIECES:
            return sentence("stock %(cell)s is not a whole number from 0 to %(most)s", cell=repr(cell[:40]), most=catalog.MAX_PIECES)
        repeated = self.repeated(product_id, line)
        return sentence("product_id %(problem)s", problem=repeated) if repeated else None


def read_counts(stream: BinaryIO, *, limit: int) -> CountFile:
    """Read a count of stock: CSV with the columns `product_id` and `stock`, or without a header in this order.

    The number may have other headings, see `COUNT_HEADINGS`; the other columns of a catalog are not read.

    :param limit: the maximum number of products.
    """
    found = CountFile()
    try:
        lines = numbered_lines(stream, lambda _: None)
        first = next_line(lines)
        if (separator := _separator_of_count(first[1])) is not None:
            rows = read_rows(["product_id", "stock"], separator, chain([first], lines), Position(first[0] - 1), found)
        else:
            rows = read_csv(first, lines, found, required=("product_id", "stock"), headings=COUNT_HEADINGS)
        for line, cells in rows:
            found.add(line, cells["product_id"].strip(), cells["stock"], limit=limit)
        if not found.counts and not found.problem_count:
            found.report(first[0], sentence("there is no count in it"))
    except UnreadableFile as stop:
        found.report(*stop.args)
    return found


def _separator_of_count(text: str) -> str | None:
    """Return the separator of a line that is a product and a number, and so not a header; None for any other line."""
    for separator in SEPARATORS:
        with suppress(csv.Error):
            cells = next(csv.reader([text], strict=True, delimiter=separator))
            if len(cells) == 2 and cells[0].strip() and parse_pieces(cells[1]) is not None:
                return separator
    return None

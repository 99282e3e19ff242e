"""What a list shows, as CSV: the same columns and rows, the data itself, guarded so that no spreadsheet takes it for a formula.

Through django-import-export, of which only the export is used: there is no way in.
"""

import csv
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.http import HttpResponse
from django.utils.html import strip_tags
from django.utils.safestring import SafeString
from import_export.fields import Field
from import_export.resources import Resource

from baskets.admin.core import display
from baskets.domain.spreadsheets import escape_formulas

# Bounded, so that one export is neither the whole table nor slow. The lists of the API serve larger amounts.
MAX_EXPORTED_ROWS = 5000
# Of each column, by name: the heading, and what a row shows there.
Columns = Mapping[str, tuple[str, Callable[[Any], object]]]


class ListResource(Resource):  # type: ignore[misc]  # The package carries no types.
    """The columns of one list.

    :param columns: by name: the heading, and what a row shows there.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.fields = {
            name: Field(column_name=heading, dehydrate_method=lambda row, cell=cell: as_text(cell(row)))
            for name, (heading, cell) in columns.items()
        }

    def get_export_order(self) -> list[str]:
        """Return the names of the columns in the order of the list."""
        return list(self.fields)


def as_text(value: object) -> str:
    """Write a cell as text, without markup, and harmless in a spreadsheet. What is not there is empty."""
    if value is None or value is display.NOTHING:
        return ""
    text = str(value)
    if isinstance(value, SafeString):
        # Most cells have no markup: to parse them all takes longer than all else.
        text = html.unescape(strip_tags(text.replace("<br>", " ")) if "<" in text else text)
    return escape_formulas(text)


def as_csv(columns: Columns, rows: Sequence[Any], *, name: str) -> HttpResponse:
    """Answer with a file. It begins with a byte order mark, without which spreadsheets guess the encoding."""
    with display.for_files():
        text = ListResource(columns).export(rows).export("csv", quoting=csv.QUOTE_ALL)
    response = HttpResponse(text.encode("utf-8-sig"), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response

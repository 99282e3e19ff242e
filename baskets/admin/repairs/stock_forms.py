"""The forms of repairs of stock: counts of pieces with their time, and pieces added or removed."""

import io
import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core import display
from baskets.admin.core.refusals import translated
from baskets.admin.repairs.forms import RepairForm
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.stock.catalog import MAX_PIECES
from baskets.domain.stock.count_file import read_counts
from baskets.domain.support.stock_repairs import MAX_COUNTED_PRODUCTS

MAX_SHOWN_PROBLEMS = 20
DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
DATABASE_TIME = Statement("database_time", "SELECT statement_timestamp()")


class CountForm(RepairForm):
    """When pieces were counted."""

    has_timeline = False

    counted_at = forms.DateTimeField(required=False, label=_("Counted at"))
    opened_at = forms.DateTimeField(widget=forms.HiddenInput)

    offered_reasons = staticmethod(conf.stock_reasons)

    def prepare(self, record: Any) -> None:
        """Read the database clock as the time of the count, and keep it until the count is confirmed."""
        if not self.is_bound:
            ((at,),) = execute(DATABASE_TIME, [])
            # With its offset, which a form field would drop: one hour occurs twice when summer time ends.
            self.fields["opened_at"].initial = at.isoformat()
        self.fields["counted_at"].help_text = gettext(
            "Empty: when this page was opened, %(opened)s. Otherwise as 2026-11-24 06:00, in the time zone of this page"
            " (%(zone)s). Sales after the count are subtracted, supplies after the count are added."
        ) % {"opened": self._opened(), "zone": get_current_timezone_name()}

    def _opened(self) -> str:
        """Write when the page was opened, in the time zone in which `counted_at` is read; a dash if the value is forged."""
        try:
            return display.clock(self.fields["opened_at"].clean(self["opened_at"].value()))
        except (ValidationError, OverflowError):
            return display.NOTHING

    def clean(self) -> dict[str, Any]:
        """Compute `as_of`, the time of the count."""
        cleaned = super().clean() or self.cleaned_data
        opened_at, counted_at = cleaned.pop("opened_at", None), cleaned.pop("counted_at", None)
        cleaned["as_of"] = counted_at or opened_at
        return cleaned


class UnsoldForm(CountForm):
    """The number of unsold pieces, and when they were counted."""

    unsold = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_PIECES,
        label=_("Unsold pieces"),
        help_text=_("All pieces that the shop has not sold yet, including those that checkouts hold."),
    )
    unlimited = forms.BooleanField(
        required=False, label=_("Unlimited"), help_text=_("The product has no limit: checkouts hold no stock of it.")
    )
    field_order = ("unsold", "unlimited", "counted_at", "opened_at")

    def clean(self) -> dict[str, Any]:
        """Accept either a number or "unlimited"."""
        cleaned = super().clean()
        if not self.errors and (cleaned.get("unsold") is None) != bool(cleaned.get("unlimited")):
            raise ValidationError(gettext("Enter a number, or choose unlimited; one of the two."))
        return cleaned


class StockTakeForm(CountForm):
    """The counted pieces of many products, pasted or as a file, and when they were counted.

    `details` has them as `counts`.
    """

    counts = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 60, "spellcheck": "false"}),
        label=_("Counted pieces"),
        help_text=format_lazy(
            _(
                "A product id and a number on each line, with a comma, semicolon or tab between them; or with a header, as a spreadsheet"
                " copies it: product_id and counted. Count all unsold pieces, those that checkouts hold as well."
                " Rows without a number are left out. At most {number} products."
            ),
            number=MAX_COUNTED_PRODUCTS,
        ),
    )
    file = forms.FileField(
        required=False, label=_("Or a file"), help_text=_("CSV, such as the export of the products with a column counted.")
    )
    versions = forms.CharField(required=False, widget=forms.HiddenInput)
    field_order = ("counts", "file", "counted_at", "opened_at")
    uncounted = 0
    seen_adjustments: Mapping[str, int] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, record=None, **kwargs)
        self.prepare(None)

    def clean(self) -> dict[str, Any]:
        """Read the counts, and name each problem with its line. `seen_adjustments` has the versions that the page has shown, if any."""
        cleaned = super().clean()
        text, file, versions = cleaned.pop("counts", ""), cleaned.pop("file", None), cleaned.pop("versions", "")
        if bool(text.strip()) == bool(file):
            raise ValidationError(gettext("Paste the counts, or choose a file; one of the two."))
        found = read_counts(file or io.BytesIO(text.encode(errors="surrogatepass")), limit=MAX_COUNTED_PRODUCTS)
        if found.problem_count:
            more = found.problem_count - MAX_SHOWN_PROBLEMS
            lines = [
                gettext("Line %(line)s: %(problem)s.") % {"line": line, "problem": translated(problem)}
                for line, problem in found.problems[:MAX_SHOWN_PROBLEMS]
            ]
            raise ValidationError([*lines, *([gettext("And %(number)s more.") % {"number": more}] if more > 0 else [])])
        self.uncounted = found.uncounted
        words = str(versions).split()
        if len(words) == len(found.counts) and all(map(DIGITS.fullmatch, words)):
            self.seen_adjustments = dict(zip(found.counts, map(int, words), strict=True))
        return cleaned | {"counts": found.counts}


class SupplyForm(RepairForm):
    """Pieces that were added or removed."""

    has_timeline = False

    pieces = forms.IntegerField(
        label=_("Pieces"), min_value=-MAX_PIECES, max_value=MAX_PIECES, help_text=_("5 for five pieces added, -5 for five pieces removed.")
    )

    offered_reasons = staticmethod(conf.stock_reasons)

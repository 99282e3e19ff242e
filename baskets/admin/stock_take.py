"""The stock take: the counted pieces of many products, previewed with what was sold since the count, and confirmed once."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import messages
from django.db.models import Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.readonly import ReadOnlyAdmin, Table
from baskets.admin.repairs import execution
from baskets.admin.repairs.forms import PREVIEW_REASON
from baskets.admin.repairs.stock_forms import StockTakeForm
from baskets.domain.errors import Refusal
from baskets.domain.spreadsheets import escape_formulas
from baskets.domain.support import guards, stock_repairs
from baskets.models import Product, Stock, StockAdjustment, StockReservation

# The repair of one product and the stock take report the same, so they need the same permission.
PERMISSION = "baskets.repair_set_unsold"
Counters = dict[str, Stock]


@dataclass(frozen=True, kw_only=True)
class StockTakeView:
    """One request for a stock take."""

    model_admin: ReadOnlyAdmin[Any]
    request: HttpRequest

    def respond(self) -> HttpResponse:
        """Show the form, show the preview, or apply the counts. They are applied only if the preview was shown for the same ones."""
        if self.request.method != "POST":
            return self._show(StockTakeForm())
        form = StockTakeForm(self.request.POST, self.request.FILES)
        if not form.is_valid():
            return self._show(form)
        if self.request.POST.get("confirm") != _digest(form):
            return self._preview(form)
        try:
            execution.run(self._operation(form, reason=form.cleaned_data["reason"], versions=form.seen_adjustments))
        except Refusal as refusal:
            return self._preview(form, problem=refusal, status=409)
        except execution.DatabaseBusy as busy:
            return self._preview(form, problem=busy, status=503)
        messages.success(
            self.request,
            gettext("Done: counts of %(number)s products are applied.") % {"number": display.count(len(form.details["counts"]))},
        )
        return HttpResponseRedirect(reverse("admin:baskets_product_changelist"))

    def _operation(self, form: StockTakeForm, *, reason: str, versions: Mapping[str, int]) -> partial[None]:
        return partial(
            stock_repairs.take_stock,
            counts=form.details["counts"],
            as_of=form.details["as_of"],
            expected_adjustments=versions,
            reason=reason,
            actor=staff_actor(self.request),
        )

    def _preview(self, form: StockTakeForm, *, problem: Refusal | execution.DatabaseBusy | None = None, status: int = 200) -> HttpResponse:
        """Apply the counts and roll back, and show what would change."""
        counts, as_of = form.details["counts"], form.details["as_of"]
        versions = stock_repairs.last_adjustments(counts)
        read = partial(_read_counters, counts)
        obstacle: Refusal | None = None
        try:
            before, after = guards.dry_run(operation=self._operation(form, reason=PREVIEW_REASON, versions=versions), snapshot=read)
        except Refusal as refusal:
            obstacle, before, after = refusal, read(), {}
        shown = self.request.POST.copy()
        shown["counts"] = _as_text(counts)
        shown["versions"] = " ".join(str(versions.get(product_id, 0)) for product_id in counts)
        # The text stands for the file from now on: a browser does not send a file again by itself.
        renewed = StockTakeForm(shown)
        renewed.is_valid()
        return self._show(
            renewed,
            table=_preview_table(counts, as_of, before, after),
            uncounted=form.uncounted,
            problem=execution.refusal_text(problem),
            since=_moved_since(problem),
            obstacle=execution.refusal_text(obstacle),
            confirm="" if obstacle else _digest(renewed),
            status=status,
        )

    def _show(self, form: StockTakeForm, *, status: int = 200, **context: Any) -> HttpResponse:
        return self.model_admin.render(
            self.request,
            "admin/baskets/stock_take.html",
            {
                "title": gettext("Stock take"),
                "form": form,
                "back": reverse("admin:baskets_product_changelist"),
                "submit": gettext("Apply %(number)s counts") % {"number": len(form.details["counts"])}
                if context.get("confirm")
                else gettext("Show what will change"),
                **context,
            },
            status=status,
        )


def _digest(form: StockTakeForm) -> str:
    return hashlib.sha256(form.fingerprint.encode()).hexdigest()


def _as_text(counts: Mapping[str, int]) -> str:
    """Write counts as the form reads them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("product_id", "counted"), *((escape_formulas(product_id), pieces) for product_id, pieces in counts.items())]
    )
    return text.getvalue()


def _read_counters(counts: Mapping[str, int]) -> Counters:
    return {row.pk: row for row in Stock.objects.filter(pk__in=list(counts))}


def _moved_since(problem: object) -> Sequence[SafeString]:
    """List the changes of supply since the page was shown, one line for each."""
    if not isinstance(problem, guards.StaleState):
        return []
    return [
        format_html(
            gettext("{} {}: {} by {}"),
            display.moment(change.created_at),
            display.visible(change.product_id),
            change.get_kind_display(),
            display.actor_name(change.actor),
        )
        for change in problem.since
    ]


def _preview_table(counts: Mapping[str, int], as_of: datetime, before: Counters, after: Counters) -> Table:
    """Show what each count leads to.

    :param after: empty if the counts cannot be applied.
    """
    ids = list(counts)
    sold = _sums(StockReservation.objects.filter(product_id__in=ids, status="SOLD", ended_at__gt=as_of), "pieces")
    held = _sums(StockReservation.objects.held().filter(product_id__in=ids), "pieces")
    supplied = _sums(StockAdjustment.objects.filter(Q(kind="supply") | Q(kind="unheld"), product_id__in=ids, as_of__gt=as_of), "delta")
    names = dict(Product.objects.filter(pk__in=ids).values_list("pk", "name"))
    return Table(
        title=gettext("What it changes"),
        heads=(
            gettext("Product"),
            gettext("Counted"),
            gettext("Sold since"),
            gettext("Supplied since"),
            gettext("Held"),
            gettext("Available before"),
            gettext("Available after"),
            gettext("Note"),
        ),
        numeric=range(1, 7),
        rows=[
            (
                display.product(product_id, names[product_id]) if product_id in names else display.visible(product_id),
                display.count(pieces),
                display.count(sold.get(product_id, 0)),
                f"{supplied.get(product_id, 0):+d}" if supplied.get(product_id) else "0",
                display.count(held.get(product_id, 0)),
                _available(before.get(product_id)),
                _available(after[product_id]) if product_id in after else display.NOTHING,
                _note(before.get(product_id), after.get(product_id), as_of, is_known=product_id in names),
            )
            for product_id, pieces in counts.items()
        ],
    )


def _sums(rows: QuerySet[Any], field: str) -> dict[str, int]:
    return {product_id: int(total) for product_id, total in rows.order_by().values_list("product_id").annotate(Sum(field))}


def _available(stock: Stock | None) -> str:
    return gettext("unlimited") if stock is None or not stock.limited else display.count(stock.available)


def _note(before: Stock | None, after: Stock | None, as_of: datetime, *, is_known: bool) -> object:
    if not is_known:
        return display.badge(gettext("no such product"), "bad")
    if before is not None and before.reported_as_of > as_of:
        return display.badge(gettext("a later report exists"), "bad")
    if after is None:
        return ""
    if after.shortfall:
        return display.badge(gettext("shortfall of %(pieces)s") % {"pieces": display.count(after.shortfall)}, "bad")
    if before is None or not before.limited:
        return display.badge(gettext("becomes limited"), "busy")
    return "" if (before.available, before.shortfall) != (after.available, after.shortfall) else gettext("no change")

"""The figures of the first page: totals, plots and tables of an hour, a day or a week, from the counts of `domain.events.activity`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, IntegerField, Max, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from baskets.admin.core import charts, display
from baskets.admin.core.readonly import Table
from baskets.admin.home.moment import Moment
from baskets.models import Attention, PartnerActivity, Product, ProductActivity, RefusalActivity, StockAdjustment, StockReservation
from baskets.models.activity import Span

MAX_PRODUCTS = 10
MAX_PARTNERS = 20
MAX_REASONS = 3
COUNTS = ("started", "ordered", "late", "aborted", "expired", "flagged", "pieces")


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time that the figures are about: a number of spans, the current one included."""

    label: str
    span: Span
    spans: int
    clock: str

    @property
    def unit(self) -> str:
        """The word for a span."""
        return "minute" if self.span is Span.MINUTE else "hour"


WINDOWS = {
    "hour": Window(label="the last hour", span=Span.MINUTE, spans=60, clock="%H:%M"),
    "day": Window(label="the last day", span=Span.HOUR, spans=24, clock="%H:%M"),
    "week": Window(label="the last week", span=Span.HOUR, spans=168, clock="%a %H:%M"),
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot with its summary in words and its table.

    :param svg: None where all values are 0.
    """

    title: str
    summary: str
    svg: SafeString | None
    table: Table


def figures(request: HttpRequest, moment: Moment, window: Window) -> dict[str, Any]:
    """Collect the totals and the plots of a window of time, and the tables that the user may see."""
    may, starts = request.user.has_perm, _span_starts(moment.at, window)
    refusal_plots, refusals = _refused_calls(window, starts)
    rows = PartnerActivity.objects.filter(seconds=window.span, starts_at__gte=starts[0])
    spans: Any = rows.order_by().values("starts_at").annotate(**{f"all_{name}": Sum(name) for name in COUNTS})
    by_start = {row["starts_at"]: row for row in spans}
    values: dict[str, list[int]] = {name: [by_start.get(start, {}).get(f"all_{name}", 0) for start in starts] for name in COUNTS}
    totals = {name: sum(numbers) for name, numbers in values.items()}
    return {
        "counted_until": display.moment(moment.counted_until) if moment.counted_until else None,
        "totals": [
            ("orders", display.count(totals["ordered"]), f"{display.count(totals['late'])} of them late"),
            ("pieces sold", display.count(totals["pieces"]), f"in {window.label}"),
            ("checkouts started", display.count(totals["started"]), f"{_percent(totals['ordered'], totals['started'])} as many orders"),
            ("not ordered", display.count(totals["aborted"] + totals["expired"]), _ends(totals)),
            ("active now", display.count(moment.active), "checkouts that hold stock"),
            ("refused orders", display.count(totals["flagged"]), "reported as ordered, and flagged"),
        ],
        "plots": [*_plots(starts, window, values, moment.active), *refusal_plots],
        "tables": [
            *([_hottest(window, starts[0])] if may("baskets.view_product") else []),
            *([_by_partner(rows)] if may("baskets.view_partner") else []),
            refusals,
            *([_open_reasons()] if may("baskets.view_attention") else []),
        ],
    }


def _span_starts(at: datetime, window: Window) -> list[datetime]:
    """List the starts of the spans of a window, the oldest first. Spans begin at full minutes and hours of UTC."""
    last = datetime.fromtimestamp(at.timestamp() // window.span * window.span, tz=at.tzinfo)
    return [last - timedelta(seconds=window.span * back) for back in range(window.spans - 1, -1, -1)]


def _span_labels(starts: Sequence[datetime], window: Window) -> list[str]:
    return [f"{timezone.localtime(start):{window.clock}}" for start in starts]


def _ends(totals: dict[str, int]) -> str:
    return f"{display.count(totals['aborted'])} aborted, {display.count(totals['expired'])} expired"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}\N{NO-BREAK SPACE}%" if whole else "0\N{NO-BREAK SPACE}%"


def _plots(starts: Sequence[datetime], window: Window, values: dict[str, list[int]], active: int) -> list[Plot]:
    labels = _span_labels(starts, window)
    held = [active]
    for start, *ends in zip(*(reversed(values[name]) for name in ("started", "ordered", "late", "aborted", "expired")), strict=True):
        ordered, late, aborted, expired = ends
        # A late order ends no active checkout.
        held.append(held[-1] - start + (ordered - late) + aborted + expired)
    active_at_end = held[-2::-1]
    unit = window.unit
    return [
        _plot(f"Pieces sold per {unit}", charts.columns, labels, values["pieces"], unit="pieces", total=sum(values["pieces"])),
        _plot(f"Orders per {unit}", charts.columns, labels, values["ordered"], unit="orders", total=sum(values["ordered"])),
        _plot("Active checkouts", charts.line, labels, active_at_end, unit="checkouts at the end"),
        _plot(f"Refused orders per {unit}", charts.columns, labels, values["flagged"], unit="refused", total=sum(values["flagged"])),
    ]


def _refused_calls(window: Window, starts: Sequence[datetime]) -> tuple[list[Plot], Table]:
    """Plot all refused calls over time, and those of the most frequent reasons, and list the reasons."""
    rows = RefusalActivity.objects.filter(seconds=window.span, starts_at__gte=starts[0]).order_by()
    reasons = list(rows.values("reason").annotate(total=Sum("calls"), last=Max("starts_at")).order_by("-total", "reason"))
    plotted = [row["reason"] for row in reasons[:MAX_REASONS]]
    sums = {f"of_{place}": Coalesce(Sum("calls", filter=Q(reason=reason)), 0) for place, reason in enumerate(plotted)}
    spans: Any = rows.values("starts_at").annotate(of_all=Sum("calls"), **sums)
    by_start = {row["starts_at"]: row for row in spans}
    labels = _span_labels(starts, window)
    names = [("of_all", "Refused calls"), *((f"of_{place}", _in_words(reason)) for place, reason in enumerate(plotted))]
    plots = []
    for key, name in names if len(reasons) != 1 else names[1:]:
        values = [by_start.get(start, {}).get(key, 0) for start in starts]
        plots.append(_plot(f"{name} per {window.unit}", charts.columns, labels, values, unit="calls", total=sum(values)))
    return plots, Table(
        title=f"Refused calls in {window.label}, by reason",
        heads=("Reason", "Calls", "Part of all", f"Last {window.unit}"),
        rows=[
            (
                format_html('{} <br><span class="quiet">{}</span>', _in_words(row["reason"]), row["reason"]),
                display.count(row["total"]),
                _percent(row["total"], sum(each["total"] for each in reasons)),
                _span_labels([row["last"]], window)[0],
            )
            for row in reasons
        ],
        nothing="No call was refused.",
    )


def _in_words(reason: str) -> str:
    return reason.replace("_", " ").capitalize().replace("Api", "API")


def _plot(
    title: str, draw: Callable[..., SafeString], labels: Sequence[str], values: Sequence[int], *, unit: str, total: int | None = None
) -> Plot:
    highest = max(values)
    most = f"the most, {display.count(highest)}, at {labels[values.index(highest)]}" if highest else "none"
    summary = f"{most}; {display.count(values[-1])} last" if total is None else f"{display.count(total)} in all; {most}"
    rows = [(label, display.count(value)) for label, value in zip(reversed(labels), reversed(values), strict=True)]
    return Plot(
        title=title,
        summary=f"{summary[:1].upper()}{summary[1:]}.",
        svg=draw(values, labels, alternative=f"{title}: {summary}.") if highest else None,
        table=Table(title=title, heads=("From", unit.capitalize()), rows=rows),
    )


def _open_reasons() -> Table:
    """Count the open flags by reason."""
    rows = Attention.objects.open().order_by().values("reason").annotate(number=Count("pk"), oldest=Min("created_at")).order_by("-number")
    labels = dict(Attention.Reason.choices)
    return Table(
        title="Open flags by reason",
        heads=("Reason", "Open", "Oldest"),
        rows=[(labels[row["reason"]], display.count(row["number"]), display.moment(row["oldest"])) for row in rows],
        nothing="No flag is open.",
    )


def _hottest(window: Window, since: datetime) -> Table:
    """List the products that sold the most pieces, with what is left of each."""
    counts = ProductActivity.objects.filter(seconds=window.span, starts_at__gte=since).order_by().values("product_id")
    sold = list(counts.annotate(sold=Sum("pieces"), bought=Sum("orders")).order_by("-sold", "product_id")[:MAX_PRODUCTS])
    held = StockReservation.objects.held().filter(product_id=OuterRef("pk"))
    supply = StockAdjustment.objects.filter(product_id=OuterRef("pk"))
    products: QuerySet[Any] = Product.objects.filter(pk__in=[row["product_id"] for row in sold]).select_related("stock")
    known = products.annotate(held=_sum(held, "pieces"), supply=_sum(supply, "delta")).in_bulk()
    return Table(
        title=f"What sold most in {window.label}",
        heads=("Product", "Pieces", "Orders", "Available", "Held", "Sold of all supply"),
        rows=[
            (
                display.product(row["product_id"], known[row["product_id"]].name),
                display.count(row["sold"]),
                display.count(row["bought"]),
                *_left(known[row["product_id"]]),
            )
            for row in sold
        ],
        nothing=f"Nothing was sold in {window.label}.",
    )


def _sum(rows: QuerySet[Any], field: str) -> Coalesce:
    """Sum a field of the rows of each product."""
    total = rows.order_by().values("product_id").annotate(total=Sum(field)).values("total")
    return Coalesce(Subquery(total), 0, output_field=IntegerField())


def _left(product: Any) -> tuple[object, str, object]:
    """Show what is available and held of a product, and which part of its supply is sold: supply = available + held + sold - shortfall."""
    stock = getattr(product, "stock", None)
    if stock is None or not stock.limited:
        return display.badge("unlimited", "good"), display.count(product.held), display.NOTHING
    sold = product.supply - stock.available - product.held + stock.shortfall
    available = display.badge(display.count(stock.available), "good" if stock.available else "bad")
    return available, display.count(product.held), _percent(sold, product.supply)


def _by_partner(rows: QuerySet[PartnerActivity]) -> Table:
    """List the partners with the most orders."""
    shown = ("started", "ordered", "pieces", "aborted", "expired", "flagged")
    totals: Any = rows.order_by().values("partner_id", name=F("partner__name"))
    totals = totals.annotate(**{f"all_{name}": Sum(name) for name in shown})
    return Table(
        title="Partners",
        heads=("Partner", "Started", "Orders", "Pieces", "Aborted", "Expired", "Refused"),
        rows=[
            (
                display.page("partner", row["partner_id"], display.visible(row["name"])),
                *(display.count(row[f"all_{name}"]) for name in shown),
            )
            for row in totals.order_by("-all_ordered", "-all_started", "partner_id")[:MAX_PARTNERS]
        ],
        nothing="No partner had a checkout.",
    )

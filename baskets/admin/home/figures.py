"""The figures of the first page: totals, plots and tables of an hour, a day or a week, from the counts of `domain.events.activity`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, IntegerField, Max, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import charts, display
from baskets.admin.core.labels import call_reason
from baskets.admin.core.languages import Text
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

    label: Text
    span: Span
    spans: int
    clock: str


WINDOWS = {
    "hour": Window(label=_("the last hour"), span=Span.MINUTE, spans=60, clock="H:i"),
    "day": Window(label=_("the last day"), span=Span.HOUR, spans=24, clock="H:i"),
    "week": Window(label=_("the last week"), span=Span.HOUR, spans=168, clock="D H:i"),
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
        "totals": _totals(totals, moment, window),
        "plots": [*_plots(starts, window, values, moment.active), *refusal_plots],
        "tables": [
            *([_hottest(window, starts[0])] if may("baskets.view_product") else []),
            *([_by_partner(rows)] if may("baskets.view_partner") else []),
            refusals,
            *([_open_reasons()] if may("baskets.view_attention") else []),
        ],
    }


def _totals(totals: dict[str, int], moment: Moment, window: Window) -> list[tuple[str, str, str]]:
    """List the totals of a window of time: what each is called, its number, and what it means."""
    late = gettext("%(number)s of them late") % {"number": display.count(totals["late"])}
    return [
        (
            gettext("orders"),
            display.count(totals["ordered"]),
            late,
        ),
        (gettext("pieces sold"), display.count(totals["pieces"]), gettext("in %(window)s") % {"window": window.label}),
        (
            gettext("checkouts started"),
            display.count(totals["started"]),
            gettext("%(percent)s as many orders") % {"percent": _percent(totals["ordered"], totals["started"])},
        ),
        (gettext("not ordered"), display.count(totals["aborted"] + totals["expired"]), _ends(totals)),
        (gettext("active now"), display.count(moment.active), gettext("checkouts that hold stock")),
        (gettext("refused orders"), display.count(totals["flagged"]), gettext("reported as ordered, and flagged")),
    ]


def _span_starts(at: datetime, window: Window) -> list[datetime]:
    """List the starts of the spans of a window, the oldest first. Spans begin at full minutes and hours of UTC."""
    last = datetime.fromtimestamp(at.timestamp() // window.span * window.span, tz=at.tzinfo)
    return [last - timedelta(seconds=window.span * back) for back in range(window.spans - 1, -1, -1)]


def _span_labels(starts: Sequence[datetime], window: Window) -> list[str]:
    return [date_format(timezone.localtime(start), window.clock) for start in starts]


def _ends(totals: dict[str, int]) -> str:
    numbers = {"aborted": display.count(totals["aborted"]), "expired": display.count(totals["expired"])}
    return gettext("%(aborted)s aborted, %(expired)s expired") % numbers


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
    by_minute = window.span is Span.MINUTE
    pieces = gettext("Pieces sold per minute") if by_minute else gettext("Pieces sold per hour")
    orders = gettext("Orders per minute") if by_minute else gettext("Orders per hour")
    refused = gettext("Refused orders per minute") if by_minute else gettext("Refused orders per hour")
    return [
        _plot(pieces, charts.columns, labels, values["pieces"], unit=gettext("Pieces"), total=sum(values["pieces"])),
        _plot(orders, charts.columns, labels, values["ordered"], unit=gettext("Orders"), total=sum(values["ordered"])),
        _plot(gettext("Active checkouts"), charts.line, labels, active_at_end, unit=gettext("Checkouts at the end")),
        _plot(refused, charts.columns, labels, values["flagged"], unit=gettext("Refused"), total=sum(values["flagged"])),
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
    by_minute = window.span is Span.MINUTE
    per_span = gettext("%(name)s per minute") if by_minute else gettext("%(name)s per hour")
    names = [("of_all", gettext("Refused calls")), *((f"of_{place}", call_reason(reason)) for place, reason in enumerate(plotted))]
    plots = []
    for key, name in names if len(reasons) != 1 else names[1:]:
        values = [by_start.get(start, {}).get(key, 0) for start in starts]
        plots.append(_plot(per_span % {"name": name}, charts.columns, labels, values, unit=gettext("Calls"), total=sum(values)))
    return plots, Table(
        title=gettext("Refused calls in %(window)s, by reason") % {"window": window.label},
        heads=(gettext("Reason"), gettext("Calls"), gettext("Part of all"), gettext("Last minute") if by_minute else gettext("Last hour")),
        numeric={1, 2, 3},
        rows=[
            (
                format_html('{} <br><span class="quiet">{}</span>', call_reason(row["reason"]), row["reason"]),
                display.count(row["total"]),
                _percent(row["total"], sum(each["total"] for each in reasons)),
                _span_labels([row["last"]], window)[0],
            )
            for row in reasons
        ],
        nothing=gettext("No call was refused."),
    )


def _plot(
    title: str, draw: Callable[..., SafeString], labels: Sequence[str], values: Sequence[int], *, unit: str, total: int | None = None
) -> Plot:
    highest = max(values)
    summary = _summary(values, labels, total=total)
    rows = [(label, display.count(value)) for label, value in zip(reversed(labels), reversed(values), strict=True)]
    return Plot(
        title=title,
        summary=summary,
        svg=draw(values, labels, alternative=f"{title}: {summary}") if highest else None,
        table=Table(title=title, heads=(gettext("From"), unit), rows=rows, numeric={1}),
    )


def _summary(values: Sequence[int], labels: Sequence[str], *, total: int | None) -> str:
    """Say in one sentence what a plot shows."""
    highest = max(values)
    numbers = {
        "total": display.count(total),
        "most": display.count(highest),
        "time": labels[values.index(highest)],
        "last": display.count(values[-1]),
    }
    if total is None:
        text = gettext("The most, %(most)s, at %(time)s; %(last)s last.") if highest else gettext("None; %(last)s last.")
    else:
        text = gettext("%(total)s in all; the most, %(most)s, at %(time)s.") if highest else gettext("None.")
    return text % numbers


def _open_reasons() -> Table:
    """Count the open flags by reason."""
    flags = Attention.objects.open().live().order_by()
    rows = flags.values("reason").annotate(number=Count("pk"), oldest=Min("created_at")).order_by("-number")
    labels = dict(Attention.Reason.choices)
    return Table(
        title=gettext("Open flags by reason"),
        heads=(gettext("Reason"), gettext("Open"), gettext("Oldest")),
        numeric={1},
        rows=[(labels[row["reason"]], display.count(row["number"]), display.moment(row["oldest"])) for row in rows],
        nothing=gettext("No flag is open."),
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
        title=gettext("What sold most in %(window)s") % {"window": window.label},
        heads=(
            gettext("Product"),
            gettext("Pieces"),
            gettext("Orders"),
            gettext("Available"),
            gettext("Held"),
            gettext("Sold of all supply"),
        ),
        numeric=range(1, 6),
        rows=[
            (
                display.product(row["product_id"], known[row["product_id"]].name),
                display.count(row["sold"]),
                display.count(row["bought"]),
                *_left(known[row["product_id"]]),
            )
            for row in sold
        ],
        nothing=gettext("Nothing was sold in %(window)s.") % {"window": window.label},
    )


def _sum(rows: QuerySet[Any], field: str) -> Coalesce:
    """Sum a field of the rows of each product."""
    total = rows.order_by().values("product_id").annotate(total=Sum(field)).values("total")
    return Coalesce(Subquery(total), 0, output_field=IntegerField())


def _left(product: Any) -> tuple[object, str, object]:
    """Show what is available and held of a product, and which part of its supply is sold: supply = available + held + sold - shortfall."""
    stock = getattr(product, "stock", None)
    if stock is None or not stock.limited:
        return display.badge(gettext("unlimited"), "good"), display.count(product.held), display.NOTHING
    sold = product.supply - stock.available - product.held + stock.shortfall
    available = display.badge(display.count(stock.available), "good" if stock.available else "bad")
    return available, display.count(product.held), _percent(sold, product.supply)


def _by_partner(rows: QuerySet[PartnerActivity]) -> Table:
    """List the partners with the most orders."""
    shown = ("started", "ordered", "pieces", "aborted", "expired", "flagged")
    totals: Any = rows.order_by().values("partner_id", name=F("partner__name"))
    totals = totals.annotate(**{f"all_{name}": Sum(name) for name in shown})
    return Table(
        title=gettext("Partners"),
        heads=(
            gettext("Partner"),
            gettext("Started"),
            gettext("Orders"),
            gettext("Pieces"),
            gettext("Aborted"),
            gettext("Expired"),
            gettext("Refused"),
        ),
        numeric=range(1, 7),
        rows=[
            (
                display.page("partner", row["partner_id"], display.visible(row["name"])),
                *(display.count(row[f"all_{name}"]) for name in shown),
            )
            for row in totals.order_by("-all_ordered", "-all_started", "partner_id")[:MAX_PARTNERS]
        ],
        nothing=gettext("No partner had a checkout."),
    )

"""The first page of the admin: what needs attention, how sales go, and whether the service is well.

Every number comes from an index or from the counts that `domain.events.activity` keeps, so the page costs the same however many
baskets there are. See `baskets/docs/adr/0045-counts-for-the-first-page.md`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db import DatabaseError
from django.db.models import Count, F, IntegerField, Min, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from baskets.admin.core import charts, display
from baskets.admin.core.readonly import SAFE, Table
from baskets.db.errors import Fault, fault_of
from baskets.db.pipeline import Statement, execute
from baskets.domain.events import activity
from baskets.domain.support import assignments, key_misuse
from baskets.models import (
    Attention,
    BrokenRule,
    DeskEntry,
    Event,
    PartnerActivity,
    Product,
    ProductActivity,
    StockAdjustment,
    StockReservation,
    WebhookEndpoint,
)
from baskets.models.activity import Span

# A count stops here: the lists show all of them.
MAX_COUNTED = 1000
MAX_PRODUCTS = 10
MAX_PARTNERS = 20
COUNTS = ("started", "ordered", "late", "aborted", "expired", "flagged", "pieces")
# A sweep should run every few minutes; a feed or a count that lags behind for longer has no reader.
PATIENCE = timedelta(minutes=10)

# Each reads one row, or the beginning of one index.
MOMENT = Statement(
    "moment",
    f"""
SELECT statement_timestamp(), coalesce(counted.position, 0), coalesce(counted.active, 0), lapsed.sessions, lapsed.oldest,
       (SELECT e.at FROM baskets_event e
        WHERE e.id > coalesce(feed.settled_id, 0) AND NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id)
        ORDER BY e.id LIMIT 1),
       (SELECT e.at FROM baskets_feedposition p JOIN baskets_event e ON e.id = p.event_id
        WHERE p.position > coalesce(counted.position, 0) ORDER BY p.position LIMIT 1)
FROM (SELECT max(position) AS position, max(active) AS active FROM baskets_activitystate) counted
CROSS JOIN (SELECT max(settled_id) AS settled_id FROM baskets_feedstate) feed
CROSS JOIN (
    SELECT count(*) AS sessions, min(expires_at) AS oldest FROM (
        SELECT expires_at FROM baskets_checkoutsession WHERE status = 'ACTIVE' AND expires_at <= statement_timestamp()
        ORDER BY expires_at LIMIT {MAX_COUNTED}
    ) s
) lapsed
""",  # noqa: S608 (a constant of this module)
)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time that the figures are about: a number of spans, the current one included."""

    label: str
    span: Span
    spans: int
    clock: str


WINDOWS = {
    "hour": Window(label="the last hour", span=Span.MINUTE, spans=60, clock="%H:%M"),
    "day": Window(label="the last day", span=Span.HOUR, spans=24, clock="%H:%M"),
    "week": Window(label="the last week", span=Span.HOUR, spans=168, clock="%a %H:%M"),
}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state of the service at one moment.

    :param active: active checkouts, as far as events are counted.
    :param lapsed: lapsed checkouts that no sweep has expired yet, `MAX_COUNTED` at most; `oldest_lapsed` is the end of the first hold.
    :param unplaced: the time of the oldest event without a position in the feed.
    :param uncounted: the time of the oldest event of the feed that is not counted.
    """

    at: datetime
    position: int
    active: int
    lapsed: int
    oldest_lapsed: datetime | None
    unplaced: datetime | None
    uncounted: datetime | None

    @property
    def counted_until(self) -> datetime | None:
        """The time up to which all events are counted; None if that is now."""
        waiting = [at for at in (self.unplaced, self.uncounted) if at is not None]
        return min(waiting) if waiting else None


@dataclass(frozen=True, kw_only=True)
class Work:
    """One kind of open work.

    :param mine: how many are assigned to the user, and `unassigned` how many to no account; None where there is no assignment.
    """

    label: str
    address: str
    number: int
    oldest: datetime | None = None
    mine: int | None = None
    unassigned: int | None = None

    @property
    def shown_number(self) -> str:
        """The number, with a plus where counting has stopped."""
        return f"{display.count(self.number)}{'+' if self.number >= MAX_COUNTED else ''}"


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot with its summary in words and its table.

    :param svg: None where all values are 0.
    """

    title: str
    summary: str
    svg: SafeString | None
    table: Table


def home_page(request: HttpRequest) -> HttpResponse:
    """Show the first page of the admin."""
    if request.method not in SAFE:
        return HttpResponseNotAllowed(SAFE)
    may_see_figures = request.user.has_perm("baskets.view_checkoutsession")
    if may_see_figures:
        _count_new_events()
    moment = Moment(**dict(zip(Moment.__dataclass_fields__, execute(MOMENT, []).fetchall()[0], strict=True)))
    name = request.GET.get("window", "")
    window = WINDOWS.get(name, WINDOWS["hour"])
    context = {
        **admin.site.each_context(request),
        "title": admin.site.index_title,
        "subtitle": None,
        "at": display.moment(moment.at),
        "windows": [(key, each.label, each is window) for key, each in WINDOWS.items()],
        "window": window.label,
        "work": [(each, display.distance(each.oldest - moment.at) if each.oldest else "") for each in _list_work(request, moment)],
        "may_open_work_list": request.user.has_perm("baskets.view_attention"),
        "health": _list_health(request, moment),
        "may_see_figures": may_see_figures,
        **(_figures(request, moment, window) if may_see_figures else {}),
    }
    request.current_app = admin.site.name
    return TemplateResponse(request, "admin/index.html", context)


def records_page(request: HttpRequest) -> HttpResponse:
    """List all tables that the user may see."""
    if request.method not in SAFE:
        return HttpResponseNotAllowed(SAFE)
    context = {**admin.site.each_context(request), "title": "All records", "app_list": admin.site.get_app_list(request)}
    request.current_app = admin.site.name
    return TemplateResponse(request, "admin/baskets/records.html", context)


def _count_new_events() -> None:
    """Count one batch of new events. The page shows how far the counts are where the database cannot take writes now."""
    try:
        activity.count_events(batches=1)
    except DatabaseError as error:
        if fault_of(error) is Fault.INTERNAL:
            raise


# --- What needs attention -----------------------------------------------------------


def _list_work(request: HttpRequest, moment: Moment) -> list[Work]:
    """List the kinds of open work that the user may see, those without any work left out."""
    sources: tuple[tuple[str, Callable[[HttpRequest, Moment], Iterable[Work]]], ...] = (
        ("attention", _open_flags),
        ("checkoutsession", _lapsed_checkouts),
        ("product", _shortfalls),
        ("webhookendpoint", _failing_webhooks),
        ("brokenrule", _broken_rules),
        ("apikey", _unusual_keys),
    )
    work = (each for model, source in sources if request.user.has_perm(f"baskets.view_{model}") for each in source(request, moment))
    return [each for each in work if each.number]


def _open_flags(request: HttpRequest, _: Moment) -> Iterable[Work]:
    """Count the baskets with open flags, as the work list does: one row for each basket."""
    flags = Attention.objects.open().annotate(holder=Event.objects.assignee()).order_by("created_at")
    rows = list(flags.values_list("basket_id", "reason", "created_at", "holder")[:MAX_COUNTED])
    for label, is_short in (("The customer may have paid", False), ("Ordered without stock", True)):
        holders: dict[Any, set[str]] = {}
        oldest = None
        for basket_id, reason, created_at, holder in rows:
            if (reason == Attention.Reason.SHORT) is is_short:
                oldest = oldest or created_at
                holders.setdefault(basket_id, set()).add(holder or "")
        yield Work(
            label=label,
            address=reverse("admin:baskets_worklist"),
            number=len(holders),
            oldest=oldest,
            mine=sum(request.user.get_username() in names for names in holders.values()),
            unassigned=sum(names == {""} for names in holders.values()),
        )


def _lapsed_checkouts(_: HttpRequest, moment: Moment) -> Iterable[Work]:
    yield Work(
        label="Lapsed checkouts, not yet swept",
        address=f"{reverse('admin:baskets_checkoutsession_changelist')}?status=ACTIVE&hold=lapsed",
        number=moment.lapsed,
        oldest=moment.oldest_lapsed,
    )


def _shortfalls(request: HttpRequest, _: Moment) -> Iterable[Work]:
    products = list(Product.objects.filter(stock__shortfall__gt=0).values_list("pk", flat=True)[:MAX_COUNTED])
    address = f"{reverse('admin:baskets_product_changelist')}?stock=shortfall"
    yield _assigned_work(request, products, about="product", label="Products with a shortfall", address=address)


def _failing_webhooks(_: HttpRequest, __: Moment) -> Iterable[Work]:
    failing = WebhookEndpoint.objects.failing() | WebhookEndpoint.objects.filter(state=WebhookEndpoint.State.DEAD)
    rows = failing.aggregate(number=Count("pk"), oldest=Min("failing_since"))
    yield Work(label="Webhooks that fail or were given up", address=reverse("admin:baskets_webhookendpoint_changelist"), **rows)


def _broken_rules(request: HttpRequest, _: Moment) -> Iterable[Work]:
    rules = list(
        BrokenRule.objects.filter(settled_at__isnull=True, gone_at__isnull=True).order_by("found_at").values_list("pk", "found_at")
    )
    oldest = rules[0][1] if rules else None
    address = reverse("admin:baskets_brokenrule_changelist")
    yield _assigned_work(request, [pk for pk, _ in rules], about="brokenrule", label="Broken rules", address=address, oldest=oldest)


def _unusual_keys(_: HttpRequest, __: Moment) -> Iterable[Work]:
    yield Work(label="Keys unlike all others", address=reverse("admin:baskets_worklist"), number=len(key_misuse.find_unusual_keys()))


def _assigned_work(
    request: HttpRequest, subjects: Sequence[str], *, about: str, label: str, address: str, oldest: datetime | None = None
) -> Work:
    """Count records that belong to no basket, with their assignees from the audit log.

    :param subjects: the primary keys of the records, and `about` their kind.
    """
    assignees = assignments.assignees(about, subjects) if subjects else {}
    mine = sum(name == request.user.get_username() for name in assignees.values())
    return Work(label=label, address=address, number=len(subjects), oldest=oldest, mine=mine, unassigned=len(subjects) - len(assignees))


# --- Whether the service is well ----------------------------------------------------


def _list_health(request: HttpRequest, moment: Moment) -> list[tuple[str, SafeString, object]]:
    """List the parts of the service that the user may see.

    :returns: the name of each, its state, and what explains the state.
    """
    may = request.user.has_perm
    health: list[tuple[str, SafeString, object]] = []
    if may("baskets.view_checkoutsession"):
        health.append(("Sweep", *_state(moment.at, moment.oldest_lapsed, late="late", why="The oldest lapsed checkout ended {}.")))
    if may("baskets.view_event"):
        health.append(("Feed", *_state(moment.at, moment.unplaced, late="behind", why="The oldest event without a position is of {}.")))
    if may("baskets.view_webhookendpoint"):
        states = dict(WebhookEndpoint.objects.order_by().values_list("state").annotate(Count("pk")))
        labels = dict(WebhookEndpoint.State.choices)
        text = ", ".join(f"{display.count(states[state])} {label}" for state, label in labels.items() if state in states)
        tone = "bad" if WebhookEndpoint.State.DEAD in states else "good" if states else "plain"
        health.append(
            ("Webhooks", display.badge("some given up" if tone == "bad" else "no one given up" if states else "none", tone), text)
        )
    if may("baskets.view_brokenrule"):
        check = DeskEntry.objects.filter(kind=DeskEntry.Kind.CHECKED).order_by("-pk").first()
        broken = len(check.data["broken"]) if check else 0
        tone = "bad" if broken else "good" if check else "plain"
        state = display.badge(f"{broken} broken" if broken else "all rules hold" if check else "never run", tone)
        health.append(("Check of the rules", state, display.moment(check.at) if check else "check_baskets has not run yet."))
    return health


def _state(at: datetime, oldest: datetime | None, *, late: str, why: str) -> tuple[SafeString, str]:
    """Judge something that others keep up to date, by the oldest row that waits for it."""
    if oldest is None:
        return display.badge("up to date", "good"), "Nothing waits."
    is_late = at - oldest > PATIENCE
    return display.badge(late if is_late else "up to date", "bad" if is_late else "good"), why.format(display.distance(oldest - at))


# --- Figures ------------------------------------------------------------------------


def _figures(request: HttpRequest, moment: Moment, window: Window) -> dict[str, Any]:
    """Collect the totals and the plots of a window of time, and the tables that the user may see."""
    may, starts = request.user.has_perm, _span_starts(moment.at, window)
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
        "plots": _plots(starts, window, values, moment.active),
        "tables": [
            *([_hottest(window, starts[0])] if may("baskets.view_product") else []),
            *([_by_partner(rows)] if may("baskets.view_partner") else []),
            *([_open_reasons()] if may("baskets.view_attention") else []),
        ],
    }


def _span_starts(at: datetime, window: Window) -> list[datetime]:
    """List the starts of the spans of a window, the oldest first. Spans begin at full minutes and hours of UTC."""
    last = datetime.fromtimestamp(at.timestamp() // window.span * window.span, tz=at.tzinfo)
    return [last - timedelta(seconds=window.span * back) for back in range(window.spans - 1, -1, -1)]


def _ends(totals: dict[str, int]) -> str:
    return f"{display.count(totals['aborted'])} aborted, {display.count(totals['expired'])} expired"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}\N{NO-BREAK SPACE}%" if whole else "0\N{NO-BREAK SPACE}%"


def _plots(starts: Sequence[datetime], window: Window, values: dict[str, list[int]], active: int) -> list[Plot]:
    labels = [f"{timezone.localtime(start):{window.clock}}" for start in starts]
    held = [active]
    for start, *ends in zip(*(reversed(values[name]) for name in ("started", "ordered", "late", "aborted", "expired")), strict=True):
        ordered, late, aborted, expired = ends
        # A late order ends no active checkout.
        held.append(held[-1] - start + (ordered - late) + aborted + expired)
    active_at_end = held[-2::-1]
    unit = "minute" if window.span is Span.MINUTE else "hour"
    return [
        _plot(f"Pieces sold per {unit}", charts.columns, labels, values["pieces"], unit="pieces", total=sum(values["pieces"])),
        _plot(f"Orders per {unit}", charts.columns, labels, values["ordered"], unit="orders", total=sum(values["ordered"])),
        _plot("Active checkouts", charts.line, labels, active_at_end, unit="checkouts at the end"),
        _plot(f"Refused orders per {unit}", charts.columns, labels, values["flagged"], unit="refused", total=sum(values["flagged"])),
    ]


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

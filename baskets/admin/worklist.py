"""The work list: all open work on one page, with its assignee and its repairs."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Min, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from baskets.admin.checkout_detail import current_sessions
from baskets.admin.core import display, filters
from baskets.admin.core.refusals import translated
from baskets.admin.repairs import registry
from baskets.admin.repairs.assignment import AssignmentShown, show_assignment
from baskets.admin.repairs.definitions import KnownFacts, repair_links
from baskets.domain.support import assignments, key_misuse
from baskets.models import Attention, BrokenRule, CheckoutSession, DeskEntry, Event, Product

MAX_ROWS = 50
# Flags of one basket that a row names; it counts the others.
MAX_NAMED_FLAGS = 3
# Of a checkout that has lapsed, the repairs that end it; the others are on its basket's page.
ENDING = {"finish-as-ordered", "abort"}
# Of all other records, those of the table; the assignment has a button of its column.
RESOLVING = {"settle", "settle-rule", "set-unsold", "adjust-supply"}

Row = tuple[object, object, object, AssignmentShown, list[tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One kind of work.

    :param rows: what it is, whose, since when, who is at it, and what can be done.
    :param more: where the rest is, if there is more than the page takes.
    :param in_list: the list of the same records, where several are repaired at once.
    """

    title: str
    meaning: str
    nothing: str
    rows: list[Row]
    more: str = ""
    in_list: str = ""


def page(request: HttpRequest) -> dict[str, Any]:
    """Collect the work, in a number of queries that does not grow with it."""
    may = request.user.has_perm
    sections = _matters(request)
    if may("baskets.view_checkoutsession"):
        sections.append(_lapsed(request))
    if may("baskets.view_product"):
        sections.append(_shortfalls(request))
    if may("baskets.view_brokenrule"):
        sections.append(_rules(request))
    if may("baskets.view_apikey"):
        sections.append(_keys(request))
    return {
        "title": gettext("Work list"),
        "sections": sections,
        "open": sum(len(section.rows) for section in sections),
        "checked": DeskEntry.objects.filter(kind=DeskEntry.Kind.CHECKED).order_by("-pk").first(),
    }


def _matters(request: HttpRequest) -> list[Section]:
    in_list = reverse("admin:baskets_attention_changelist")
    short = Attention.objects.open().live().filter(reason=Attention.Reason.SHORT)
    refused = Attention.objects.open().live().filter(filters.REFUSED)
    refused_rows, more_refused = _by_basket(request, refused)
    short_rows, more_short = _by_basket(request, short)
    return [
        Section(
            title=gettext("The customer may have paid"),
            meaning=gettext(
                "An order was reported and refused. Find out whether the customer has paid."
                " Then order it late, or refund it and resolve the flag."
            ),
            nothing=gettext("No refused order may have been paid."),
            rows=refused_rows,
            more=f"{in_list}?{filters.REFUSED_WORK}" if more_refused else "",
        ),
        Section(
            title=gettext("Ordered without stock"),
            meaning=gettext(
                "A late order was accepted without enough stock. Get the pieces or agree with the customer. Then resolve the flag."
            ),
            nothing=gettext("No order is short of pieces."),
            rows=short_rows,
            more=f"{in_list}?{filters.SHORT_WORK}" if more_short else "",
        ),
    ]


def _by_basket(request: HttpRequest, flags: QuerySet[Attention]) -> tuple[list[Row], bool]:
    """List open flags, one row for each basket, the one that has waited longest first.

    :returns: the rows, and whether there are more baskets than the page takes.
    """
    baskets = list(
        flags.values("basket_id").annotate(since=Min("created_at"), number=Count("pk")).order_by("since", "basket_id")[: MAX_ROWS + 1]
    )
    keys = [basket["basket_id"] for basket in baskets[:MAX_ROWS]]
    latest: dict[Any, list[Any]] = defaultdict(list)
    place = Window(RowNumber(), partition_by="basket_id", order_by=["-created_at", "-pk"])
    for flag in (
        flags.filter(basket_id__in=keys)
        .select_related("basket__partner", "session")
        .annotate(assigned_to=Event.objects.assignee(), place=place)
        .filter(place__lte=MAX_NAMED_FLAGS)
        .order_by("place")
    ):
        latest[flag.basket_id].append(flag)
    merged = Attention.objects.filter(basket_id__in=keys, merged=True).values_list("basket_id").annotate(Count("pk"))
    current = current_sessions(flags[0] for flags in latest.values())
    merged_by_basket = dict(merged.order_by())
    rows = [
        _flagged(request, basket, latest[basket["basket_id"]], merged=merged_by_basket.get(basket["basket_id"], 0), current=current)
        for basket in baskets[:MAX_ROWS]
        if basket["basket_id"] in latest
    ]
    return rows, len(baskets) > MAX_ROWS


def _flagged(request: HttpRequest, basket: Any, flags: list[Any], *, merged: int, current: Mapping[str, CheckoutSession]) -> Row:
    """Show the open flags of one basket: the latest by name, and how many more there are."""
    last, others = flags[0], basket["number"] - len(flags)
    lines = [
        _two(display.page("basket", flag.basket_id, display.order_no(flag.session.order_no)), flag.get_reason_display()) for flag in flags
    ]
    more = [
        text % {"number": count}
        for text, count in ((gettext("and %(number)s more"), others), (gettext("and %(number)s earlier ones, merged"), merged))
        if count
    ]
    quiet = [display.candidates(last.candidates, current), ", ".join(more)]
    what = format_html_join("", "{}<br>", ((line,) for line in lines)) + format_html_join(
        "", '<span class="quiet">{}</span><br>', ((text,) for text in quiet if text)
    )
    known = KnownFacts(assignee=last.assigned_to or "", has_open_flags=True)
    if basket["number"] == 1:
        can = repair_links(registry.ATTENTION_REPAIRS, request, last, known, only=RESOLVING)
        if last.reason != Attention.Reason.SHORT and len(last.candidates or ()) <= 1:
            can = [*repair_links(registry.SESSION_REPAIRS, request, last.session, only={"order-late"}), *can]
    else:
        can = repair_links(registry.BASKET_REPAIRS, request, last.basket, known, only=RESOLVING)
    assignment = show_assignment(request, last, assignee=last.assigned_to or "", seen=last.basket.events)
    return what, _whose(last), display.moment(basket["since"]), assignment, can


def _lapsed(request: HttpRequest) -> Section:
    sessions: QuerySet[Any] = (
        CheckoutSession.objects.lapsed()
        .filter(basket__partner__sandbox_of=None)
        .select_related("basket__partner")
        .annotate(assigned_to=Event.objects.assignee(session="pk"))
    )
    rows = list(sessions[: MAX_ROWS + 1])
    in_list = f"{reverse('admin:baskets_checkoutsession_changelist')}?{filters.LAPSED_WORK}"
    return Section(
        title=gettext("Lapsed checkouts"),
        meaning=gettext(
            "Their hold has ended, and the sweep has not expired them yet. Other checkouts can take their stock."
            " Many of them mean that the sweep does not run."
        ),
        nothing=gettext("No checkout has lapsed."),
        rows=[
            (
                _two(
                    display.page("basket", row.basket_id, display.order_no(row.order_no)),
                    gettext("the hold is over, the checkout is still active"),
                ),
                _whose(row),
                display.moment(row.expires_at),
                show_assignment(request, row, assignee=row.assigned_to or "", seen=row.basket.events),
                repair_links(
                    registry.SESSION_REPAIRS, request, row, KnownFacts(assignee=row.assigned_to or "", is_lapsed=True), only=ENDING
                ),
            )
            for row in rows[:MAX_ROWS]
        ],
        more=in_list if len(rows) > MAX_ROWS else "",
        in_list=in_list if len(rows) > 1 else "",
    )


def _shortfalls(request: HttpRequest) -> Section:
    products: QuerySet[Any] = Product.objects.filter(stock__shortfall__gt=0).select_related("stock")
    rows = list(products.annotate(missing=F("stock__shortfall")).order_by("-missing", "pk")[: MAX_ROWS + 1])
    steps = assignments.last_steps("product", [row.pk for row in rows])
    return Section(
        title=gettext("Products with a shortfall"),
        meaning=gettext("The shop reports fewer pieces than are held or sold. Correct the number, or make sure that the pieces arrive."),
        nothing=gettext("No product has a shortfall."),
        rows=[
            (
                display.product(row.pk, row.name),
                gettext("%(number)s missing") % {"number": display.count(row.missing)},
                display.NOTHING,
                _assignment(request, row, steps),
                repair_links(registry.PRODUCT_REPAIRS, request, row, only=RESOLVING),
            )
            for row in rows[:MAX_ROWS]
        ],
        more=reverse("admin:baskets_product_changelist") + "?stock=shortfall" if len(rows) > MAX_ROWS else "",
    )


def _rules(request: HttpRequest) -> Section:
    rules: list[Any] = list(BrokenRule.objects.filter(settled_at__isnull=True, gone_at__isnull=True).order_by("rule", "slug")[:MAX_ROWS])
    steps = assignments.last_steps("brokenrule", [rule.pk for rule in rules])
    return Section(
        title=gettext("Broken rules"),
        meaning=gettext("What check_baskets found in its last run. Inform an engineer: the page of the rule shows rows that violate it."),
        nothing=gettext("No check has found a rule that is broken."),
        rows=[
            (
                _two(display.page("brokenrule", rule.pk, rule.pk), rule.sentence),
                gettext("%(number)s rows") % {"number": display.count(rule.total)},
                display.moment(rule.found_at),
                _assignment(request, rule, steps),
                repair_links(registry.RULE_REPAIRS, request, rule, only=RESOLVING),
            )
            for rule in rules
        ],
    )


def _keys(request: HttpRequest) -> Section:
    sessions = reverse("admin:baskets_checkoutsession_changelist")
    found = key_misuse.find_unusual_keys()[:MAX_ROWS]
    revoke = [("baskets_apikey_revoke", gettext("Revoke this key"))] if request.user.is_superuser else []
    return Section(
        title=gettext("Keys unlike all others"),
        meaning=gettext(
            "Its checkouts differ from those of all other keys, and from its own earlier ones. Ask the partner whether it was stolen."
        ),
        nothing=gettext("No key is unlike the others."),
        rows=[
            (
                _two(display.page("apikey", key.activity.key_id, key.activity.prefix), translated(key.why)),
                display.visible(key.activity.partner),
                display.NOTHING,
                AssignmentShown(),
                [
                    *((reverse(f"admin:{name}", args=[key.activity.key_id]), label) for name, label in revoke),
                    (f"{sessions}?held_by={key.activity.prefix}", gettext("What it holds")),
                    (f"{sessions}?ordered_by={key.activity.prefix}", gettext("What it ordered")),
                ],
            )
            for key in found
        ],
    )


def _assignment(request: HttpRequest, record: Any, steps: Mapping[str, assignments.LastStep]) -> AssignmentShown:
    """Show to whom a record is assigned that belongs to no basket."""
    step = steps.get(record.pk, assignments.LastStep())
    return show_assignment(request, record, assignee=step.assignee, seen=step.number)


def _whose(row: Any) -> SafeString:
    return _two(display.basket(row.basket_id, row.basket.user_id), display.visible(row.basket.partner.name))


def _two(first: object, second: object) -> SafeString:
    return format_html('{}<br><span class="quiet">{}</span>', first, second)

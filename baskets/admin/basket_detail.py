"""Collects what the page of one basket shows, in a constant number of queries."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from baskets.admin.core import display
from baskets.admin.repairs import registry, snapshots
from baskets.admin.repairs.definitions import KnownFacts, repair_links
from baskets.db.errors import read_with_reconnect
from baskets.domain.checkout.pricing import CatalogEntry, total_price
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession, Event, GuestToken, Product, StockReservation
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot, read_basket

SESSIONS_PER_PAGE = 25
EVENTS_PER_PAGE = 50
MAX_DEVICES = 10
TONES = {
    "ACTIVE": "busy",
    "HELD": "busy",
    "ORDERED": "good",
    "SOLD": "good",
    "FAILED": "bad",
    "SHORT": "bad",
}


@dataclass(frozen=True, kw_only=True)
class SessionShown:
    """One session with its items and their reservations."""

    session: CheckoutSession
    status: SafeString
    hold: SafeString | str
    facts: list[str]
    total: str
    items: list[dict[str, Any]]
    attention: list[Attention]
    repairs: list[tuple[str, str]]


def basket_page(request: HttpRequest, basket: Basket) -> dict[str, Any]:
    """Collect what the page of a basket shows."""
    contents = read_with_reconnect(lambda: read_basket(basket.pk))
    if contents is None:
        message = "the row of a basket disappeared while its page was built"
        raise RuntimeError(message)
    older = _number(request.GET.get("sessions_before"))
    sessions = list(_older(CheckoutSession.objects.filter(basket_id=basket.pk), "pk", older)[: SESSIONS_PER_PAGE + 1])
    more_sessions = sessions[SESSIONS_PER_PAGE:]
    sessions = sessions[:SESSIONS_PER_PAGE]
    items = list(CheckoutItem.objects.filter(session__in=sessions).order_by("position", "product_id"))
    before = _number(request.GET.get("events_before"))
    events = list(_older(Event.objects.filter(basket_id=basket.pk).select_related("session"), "number", before)[: EVENTS_PER_PAGE + 1])
    products = _products({line.product_id for line in contents.lines()} | {item.product_id for item in items})
    attention: list[Any] = list(
        Attention.objects.filter(basket_id=basket.pk)
        .select_related("session")
        .annotate(holder=Event.objects.assignee())
        .order_by("settled_at", "pk")
    )
    current = current_sessions(attention)
    active_items = CheckoutItem.objects.filter(basket_id=basket.pk, session__status=CheckoutSession.Status.ACTIVE)
    released = set(active_items.filter(released_at__isnull=False).values_list("product_id", flat=True))
    return {
        "title": "Basket",
        "name": display.visible(basket.user_id),
        "basket": basket,
        "partner": display.page("partner", basket.partner_id, display.visible(basket.partner.name)),
        "facts": _facts(basket, contents),
        "lists": [
            ("Cart", _lines(contents.cart, products), _total(contents.cart, products), "The cart is empty."),
            ("Checkout", _lines(contents.checkout, products, released=released), "", "No checkout is active."),
            ("Saved", _lines(contents.saved, products), "", "Nothing is saved."),
        ],
        "active": contents.session,
        "sessions": _sessions(request, sessions, items, products, attention=attention, at=contents.at),
        "sessions_before": sessions[-1].pk if more_sessions else None,
        "attention": [
            (
                matter,
                display.moment(matter.created_at),
                display.visible(matter.note),
                repair_links(registry.ATTENTION_REPAIRS, request, matter, KnownFacts(assignee=matter.holder or "")),
                display.candidates(matter.candidates, current),
            )
            for matter in attention
        ],
        "devices": _devices(request, basket),
        "all_devices": f"{reverse('admin:baskets_guesttoken_changelist')}?{urlencode({'q': basket.user_id})}",
        "events": [_event(event) for event in events[:EVENTS_PER_PAGE]],
        "events_before": events[EVENTS_PER_PAGE - 1].number if len(events) > EVENTS_PER_PAGE else None,
        "at": display.moment(contents.at),
    }


def _facts(basket: Basket, contents: BasketSnapshot) -> list[tuple[str, object]]:
    if contents.hidden_at:
        state: object = display.badge("deleted or expired")
    elif not contents.is_open:
        state = display.badge("expired, not yet swept", "bad")
    else:
        state = display.badge("shown", "good")
    return [
        ("State", state),
        ("Guest", display.yes_no(basket.guest)),
        ("Created", display.moment(basket.created_at)),
        ("Last changed", display.moment(basket.last_changed_at)),
        ("Expires", display.moment(basket.expires_at)),
        ("Hidden since", display.moment(basket.hidden_at)),
        ("Revision", display.count(basket.revision)),
        ("Key of the row", str(basket.pk)),
    ]


def _devices(request: HttpRequest, basket: Basket) -> list[tuple[object, ...]]:
    """List the newest devices of the basket of a guest, each with its repairs."""
    if not request.user.has_perm("baskets.view_guesttoken"):
        return []
    tokens = GuestToken.objects.filter(basket_id=basket.pk).order_by("-created_at", "pk")[:MAX_DEVICES]
    return [
        (
            display.page("guesttoken", token.pk, token.pk),
            display.came_by(transferred=token.transferred),
            display.moment(token.created_at),
            display.moment(token.expires_at),
            display.device_state(token),
            repair_links(registry.DEVICE_REPAIRS, request, token),
        )
        for token in tokens
    ]


def current_sessions(flags: Iterable[Attention]) -> dict[str, CheckoutSession]:
    """The candidates of flags as they are now, by order number."""
    named = {candidate["orderNo"] for flag in flags for candidate in flag.candidates or ()}
    return {session.order_no: session for session in CheckoutSession.objects.filter(order_no__in=named)}


def _lines(lines: Iterable[BasketLine], products: dict[str, Product], *, released: Collection[str] = ()) -> list[dict[str, Any]]:
    return [
        {
            "product": display.product(line.product_id, products[line.product_id].name),
            "count": display.count(line.count),
            "price": display.money(products[line.product_id].price, products[line.product_id].currency),
            "stocked": stocked(line.stocked, released=line.product_id in released),
        }
        for line in lines
    ]


def _total(lines: tuple[BasketLine, ...], products: dict[str, Product]) -> str:
    """Add up lines by the prices of today; a dash where they do not add up."""
    entries = {pk: CatalogEntry(listed=of.listed, limited=False, price=of.price, currency=of.currency) for pk, of in products.items()}
    return display.money(*total_price(lines, entries))


def stocked(stocked: int | None, *, released: bool) -> SafeString:
    """What an item of a checkout holds.

    :param released: whether staff released its hold.
    """
    if stocked is None:
        return display.badge("nothing to hold")
    if released:
        return display.badge(f"{-stocked} released by staff")
    if stocked < 0:
        return display.badge(f"failed, {-stocked} missing", "bad")
    return display.badge(f"{stocked} held", "busy")


def _sessions(
    request: HttpRequest,
    sessions: list[CheckoutSession],
    items: list[CheckoutItem],
    products: dict[str, Product],
    *,
    attention: Sequence[Attention],
    at: datetime,
) -> list[SessionShown]:
    of_session: dict[int, list[CheckoutItem]] = defaultdict(list)
    for item in items:
        of_session[item.session_id].append(item)
    with_failed_items = {item.session_id for item in items if (item.stocked or 0) < 0 and not item.released_at}
    holds: dict[tuple[int, str], list[SafeString]] = defaultdict(list)
    by_key = {session.pk: session for session in sessions}
    for hold in StockReservation.objects.filter(session__in=sessions).order_by("pk"):
        links = repair_links(registry.RESERVATION_REPAIRS, request, hold)
        state = reservation(hold, by_key[hold.session_id], at)
        shown = format_html("{} {}", state, format_html_join(" ", '<a href="{}">{}</a>', links))
        holds[hold.session_id, hold.product_id].append(shown)
    return [
        SessionShown(
            session=session,
            status=display.badge(session.get_status_display(), TONES.get(session.status, "plain")),
            hold=_hold(session, at),
            facts=session_facts(session),
            total=display.money(session.full_price, session.currency),
            items=[
                {
                    "product": display.product(item.product_id, products[item.product_id].name),
                    "count": display.count(item.count),
                    "price": display.money(item.price, item.currency),
                    "holds": holds.get((session.pk, item.product_id), [stocked(item.stocked, released=False)]),
                }
                for item in of_session[session.pk]
            ],
            attention=[matter for matter in attention if matter.session_id == session.pk],
            repairs=repair_links(registry.SESSION_REPAIRS, request, session, KnownFacts(has_failed_items=session.pk in with_failed_items)),
        )
        for session in sessions
    ]


def session_facts(session: CheckoutSession) -> list[str]:
    """List what is unusual about a session."""
    return [
        fact
        for fact, holds in (
            ("ordered late", session.late),
            ("reversed", session.reversed_at),
            ("test: holds and sells nothing", session.test_mode),
            (f"language {session.language}", session.language),
            (f"country {session.country}", session.country),
        )
        if holds
    ]


def reservation(hold: StockReservation, session: CheckoutSession, at: datetime) -> SafeString:
    """Show the state of one reservation, and since when."""
    state = hold.status.lower()
    if hold.status == StockReservation.Status.HELD:
        lapsed = hold.expires_at <= at
        until = "lapsed" if lapsed else "until"
        text = f"{hold.pieces} {state} since {display.clock(hold.created_at)[11:]}, {until} {display.clock(hold.expires_at)}"
        return display.badge(text, "bad" if lapsed else "busy")
    ended = display.clock(hold.ended_at or at)
    fate = snapshots.fate(hold, session)
    if hold.status == StockReservation.Status.RELEASED:
        return display.badge(f"{hold.pieces} {state}{fate} {ended}")
    return display.badge(f"{hold.pieces} {state} {ended}{fate}", "plain" if fate else TONES.get(hold.status, "plain"))


def _hold(session: CheckoutSession, at: datetime) -> SafeString | str:
    if session.status != CheckoutSession.Status.ACTIVE:
        return ""
    if session.expires_at <= at:
        return display.badge(f"the hold ended {display.distance(session.expires_at - at)}; not swept yet", "bad")
    return display.time_left((session.expires_at - at).total_seconds())


def _event(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": display.moment(event.at),
        "kind": event.get_kind_display(),
        "actor_kind": event.actor_kind,
        "actor": display.visible(event.actor),
        "request_id": display.visible(event.request_id) if event.request_id else "",
        "data": display.record(event.data),
        "tracking": display.record(event.tracking),
        "revision": event.revision,
    }


def _products(product_ids: set[str]) -> dict[str, Product]:
    return Product.objects.in_bulk(product_ids)


def _older(rows: Any, field: str, before: int | None) -> Any:
    rows = rows.order_by(f"-{field}")
    return rows if before is None else rows.filter(**{f"{field}__lt": before})


def _number(text: str | None) -> int | None:
    """Read a number from the address; None for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < len(str(2**63)) else None

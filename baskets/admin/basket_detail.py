"""Collects what the page of one basket shows, in a constant number of queries."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.checkout_detail import (
    current_sessions,
    facts_of_flag,
    facts_of_session,
    possible_extension,
    show_notes,
    show_sessions,
    stocked,
)
from baskets.admin.core import display
from baskets.admin.core.labels import flag_comment
from baskets.admin.repairs import registry
from baskets.admin.repairs.assignment import show_assignment
from baskets.admin.repairs.definitions import KnownFacts, repair_links
from baskets.admin.verdict import BasketFacts, SessionFacts, State, verdict
from baskets.db.errors import read_with_reconnect
from baskets.domain.checkout.pricing import CatalogEntry, total_price
from baskets.domain.support.attention_repairs import assignee_of
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession, Event, GuestToken, Product, StockReservation
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot, read_basket

SESSIONS_PER_PAGE = 25
EVENTS_PER_PAGE = 50
MAX_DEVICES = 10


STATES = {
    State.OPEN: _("open"),
    State.PAST_ITS_TIME: _("expired, not yet swept"),
    State.DELETED: _("deleted"),
    State.EXPIRED: _("expired"),
    State.ERASED: _("erased"),
}
STATE_TONES = {State.OPEN: "good", State.PAST_ITS_TIME: "bad"}


def basket_page(request: HttpRequest, basket: Basket) -> dict[str, Any]:
    """Collect what the page of a basket shows."""
    snapshot = read_with_reconnect(lambda: read_basket(basket.pk))
    if snapshot is None:
        message = "the row of a basket disappeared while its page was built"
        raise RuntimeError(message)
    older = _number(request.GET.get("sessions_before"))
    sessions = list(_older(CheckoutSession.objects.filter(basket_id=basket.pk), "pk", older)[: SESSIONS_PER_PAGE + 1])
    more_sessions = sessions[SESSIONS_PER_PAGE:]
    sessions = sessions[:SESSIONS_PER_PAGE]
    attention: list[Any] = list(
        Attention.objects.filter(basket_id=basket.pk)
        .select_related("session")
        .annotate(assigned_to=Event.objects.assignee())
        .order_by("settled_at", "pk")
    )
    shown_or_open = {session.pk for session in sessions} | {flag.session_id for flag in attention if flag.settled_at is None}
    items = list(CheckoutItem.objects.filter(session__in=shown_or_open).order_by("position", "product_id"))
    holds = list(StockReservation.objects.filter(session__in=shown_or_open).order_by("pk"))
    before = _number(request.GET.get("events_before"))
    events = list(_older(Event.objects.filter(basket_id=basket.pk).with_keys(), "number", before)[: EVENTS_PER_PAGE + 1])
    products = _products({line.product_id for line in snapshot.lines()} | {item.product_id for item in items})
    rows = _Rows(snapshot=snapshot, attention=attention, items=items, holds=holds, products=products)
    state = _state(snapshot, events)
    current = current_sessions(attention)
    active_items = CheckoutItem.objects.filter(basket_id=basket.pk, session__status=CheckoutSession.Status.ACTIVE)
    released = set(active_items.filter(released_at__isnull=False).values_list("product_id", flat=True))
    return {
        "title": gettext("Basket"),
        "name": display.visible(basket.user_id),
        "basket": basket,
        "partner": display.partner(basket.partner),
        "facts": _facts(basket, state),
        "lists": [
            (gettext("Cart"), False, _lines(snapshot.cart, products), _total(snapshot.cart, products), gettext("The cart is empty.")),
            (gettext("Checkout"), True, _lines(snapshot.checkout, products, released=released), "", gettext("No checkout is active.")),
            (gettext("Saved"), False, _lines(snapshot.saved, products), "", gettext("Nothing is saved.")),
        ],
        **(_judge(request, basket, state, sessions, rows) if older is None else {}),
        "sessions": show_sessions(
            request, sessions, items, holds, products, attention=attention, at=snapshot.at, is_sandbox=snapshot.sandbox
        ),
        "sessions_before": sessions[-1].pk if more_sessions else None,
        "attention": [
            (
                flag,
                display.moment(flag.created_at),
                display.visible(flag_comment(flag.note)),
                repair_links(registry.ATTENTION_REPAIRS, request, flag, KnownFacts(assignee=flag.assigned_to or "")),
                display.candidates(flag.candidates, current, is_settled=flag.settled_at is not None),
            )
            for flag in attention
        ],
        "notes": show_notes(basket.pk),
        "devices": _devices(request, basket),
        "all_devices": f"{reverse('admin:baskets_guesttoken_changelist')}?{urlencode({'q': basket.user_id})}",
        "events": [_event(event, partner=basket.partner.name) for event in events[:EVENTS_PER_PAGE]],
        "events_before": events[EVENTS_PER_PAGE - 1].number if len(events) > EVENTS_PER_PAGE else None,
        "at": display.moment(snapshot.at),
    }


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What the page has read about the sessions on it and those with an open flag."""

    snapshot: BasketSnapshot
    attention: list[Any]
    items: list[CheckoutItem]
    holds: list[StockReservation]
    products: Mapping[str, Any]

    def facts_of(self, session: CheckoutSession) -> SessionFacts:
        """Collect what the verdict needs to know of a session."""
        return facts_of_session(session, self.items, self.holds, self.products)


def _judge(request: HttpRequest, basket: Basket, state: State, sessions: list[CheckoutSession], rows: _Rows) -> dict[str, Any]:
    """Give the verdict on the basket, with its next step and its assignee, as far as the user may see and do them."""
    snapshot = rows.snapshot
    flags = [flag for flag in reversed(rows.attention) if flag.settled_at is None]
    latest = sessions[0] if sessions else None
    found = verdict(
        BasketFacts(
            at=snapshot.at,
            state=state,
            closed_at=snapshot.hidden_at or snapshot.expires_at,
            cart=len(snapshot.cart),
            saved=len(snapshot.saved),
            extension=possible_extension(),
            latest=rows.facts_of(latest) if latest else None,
            flags=[facts_of_flag(flag, rows.facts_of(flag.session)) for flag in flags],
            is_sandbox=snapshot.sandbox,
        )
    )
    case = flags[0].session if flags else latest if snapshot.lapsed else None
    assignment = None
    if case:
        assignee = (flags[0].assigned_to or "") if flags else assignee_of(case)
        assignment = show_assignment(request, case, assignee=assignee, seen=snapshot.events)
    records: dict[tuple[str, int], tuple[Any, Any]] = {("basket", 0): (basket, registry.BASKET_REPAIRS)}
    records |= {("session", session.pk): (session, registry.SESSION_REPAIRS) for session in [*sessions, *(flag.session for flag in flags)]}
    records |= {("flag", flag.pk): (flag, registry.ATTENTION_REPAIRS) for flag in flags}
    step = found.step
    record, repairs = records[step.of, step.pk] if step else (None, ())
    links = repair_links(repairs, request, record, KnownFacts(assignee=""), only={step.slug}) if step and step.slug != "take" else []
    return {"verdict": found, "next_steps": links, "assignment": assignment}


def _state(snapshot: BasketSnapshot, events: Iterable[Event]) -> State:
    """Name the state of a basket. Its latest events say how it was closed."""
    if snapshot.hidden_at is None:
        return State.OPEN if snapshot.is_open else State.PAST_ITS_TIME
    if any(event.kind == Event.Kind.REPAIRED and event.data.get("repair") == "erase" for event in events):
        return State.ERASED
    closed = (event.kind for event in events if event.kind in (Event.Kind.BASKET_DELETED, Event.Kind.BASKET_EXPIRED))
    return State.EXPIRED if next(closed, None) == Event.Kind.BASKET_EXPIRED else State.DELETED


def _facts(basket: Basket, state: State) -> list[tuple[str, object]]:
    return [
        (gettext("State"), display.badge(STATES[state], STATE_TONES.get(state, "plain"))),
        (gettext("Guest"), display.yes_no(basket.guest)),
        (gettext("Created"), display.moment(basket.created_at)),
        (gettext("Last changed"), display.moment(basket.last_changed_at)),
        (gettext("Expires"), display.moment(basket.expires_at)),
        (gettext("Closed"), display.moment(basket.hidden_at)),
        (gettext("Revision"), display.count(basket.revision)),
        (gettext("Basket id"), str(basket.pk)),
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


def _lines(lines: Iterable[BasketLine], products: dict[str, Product], *, released: Collection[str] = ()) -> list[dict[str, Any]]:
    return [
        {
            "product": display.product(line.product_id, products[line.product_id].name),
            "count": display.count(line.count),
            "price": display.money(products[line.product_id].price, products[line.product_id].currency),
            "stocked": stocked(line.stocked, released=line.product_id in released, ended=False),
        }
        for line in lines
    ]


def _total(lines: tuple[BasketLine, ...], products: dict[str, Product]) -> str:
    """Add up lines by the prices of today; a dash where they do not add up."""
    entries = {pk: CatalogEntry(listed=of.listed, limited=False, price=of.price, currency=of.currency) for pk, of in products.items()}
    return display.money(*total_price(lines, entries))


def _event(event: Event, *, partner: str) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": display.moment(event.at),
        "kind": registry.what_happened(event),
        "actor": display.actor(event, partner=partner),
        "request_id": display.visible(event.request_id) if event.request_id else "",
        "data": display.record({name: value for name, value in event.data.items() if name != "repair"}),
        "tracking": display.record(event.tracking),
        "revision": event.revision,
    }


def _products(product_ids: set[str]) -> dict[str, Product]:
    return Product.objects.with_obtainable().in_bulk(product_ids)


def _older(rows: Any, field: str, before: int | None) -> Any:
    rows = rows.order_by(f"-{field}")
    return rows if before is None else rows.filter(**{f"{field}__lt": before})


def _number(text: str | None) -> int | None:
    """Read a number from the address; None for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < len(str(2**63)) else None

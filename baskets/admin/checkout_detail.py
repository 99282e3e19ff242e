"""Shows one checkout or order: its items, what they hold or held, and what is unusual about it. For the page of its basket and its own."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from baskets import conf
from baskets.admin.core import display
from baskets.admin.order_verdict import order_verdict
from baskets.admin.repairs import registry, snapshots
from baskets.admin.repairs.definitions import KnownFacts, repair_links
from baskets.admin.verdict import FlagFacts, LineFacts, SessionFacts, Verdict
from baskets.models import Attention, CheckoutItem, CheckoutSession, Event, Product, StockReservation

MAX_NOTES = 20
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
    copy: SafeString
    status: SafeString
    hold: SafeString | str
    facts: list[str]
    total: str
    items: list[dict[str, Any]]
    attention: list[Attention]
    repairs: list[tuple[str, str]]
    verdict: Verdict


def show_notes(basket_id: UUID) -> list[tuple[SafeString | str, SafeString, SafeString]]:
    """List the newest notes of staff about a basket: the time, the author and the text of each."""
    notes = Event.objects.filter(basket_id=basket_id).notes()[:MAX_NOTES]
    return [(display.moment(note.at), display.visible(note.actor, limit=60), display.visible(note.data["reason"])) for note in notes]


def current_sessions(flags: Iterable[Attention]) -> dict[str, CheckoutSession]:
    """The candidates of flags as they are now, by order number."""
    named = {candidate["orderNo"] for flag in flags for candidate in flag.candidates or ()}
    return {session.order_no: session for session in CheckoutSession.objects.filter(order_no__in=named)}


def possible_extension() -> timedelta:
    """By how much staff can extend a hold, from now."""
    return conf.hold_extension() if conf.hold_extensions() else timedelta()


def facts_of_session(
    session: CheckoutSession, items: Iterable[CheckoutItem], holds: Iterable[StockReservation], products: Mapping[str, Any]
) -> SessionFacts:
    """Collect what a verdict needs to know of a session.

    :param items: those of the session, and perhaps of others.
    :param holds: likewise.
    :param products: at least those of its items, with the pieces that can be obtained now.
    """
    short: Counter[str] = Counter()
    for hold in holds:
        if hold.session_id == session.pk and hold.status == StockReservation.Status.SHORT:
            short[hold.product_id] += hold.pieces
    return SessionFacts(
        pk=session.pk,
        order_no=session.order_no,
        status=session.status,
        expires_at=session.expires_at,
        finished_at=session.finished_at,
        released_at=session.released_at,
        reversed_at=session.reversed_at,
        late=session.late,
        test_mode=session.test_mode,
        total="" if session.full_price is None else display.money(session.full_price, session.currency),
        lines=[
            LineFacts(
                count=item.count,
                stocked=item.stocked,
                is_released=item.released_at is not None,
                obtainable=products[item.product_id].obtainable,
                short=short[item.product_id],
            )
            for item in items
            if item.session_id == session.pk
        ],
    )


def facts_of_flag(flag: Any, session: SessionFacts) -> FlagFacts:
    """Collect what a verdict needs to know of an open flag.

    :param flag: with its assignee.
    :param session: that of the flag.
    """
    return FlagFacts(
        pk=flag.pk,
        session=session,
        reason=flag.reason,
        created_at=flag.created_at,
        candidates=len(flag.candidates or ()),
        is_assigned=bool(flag.assigned_to),
    )


def judge_order(request: HttpRequest, session: Any) -> dict[str, Any]:
    """Give the verdict on a checkout for its own page, with its next step as far as the user may take it.

    :param session: with the time of its query, and whether items failed at its start.
    """
    items, holds = list(session.items.all()), list(session.reservations.all())
    products = Product.objects.with_obtainable().in_bulk({item.product_id for item in items})
    flags: list[Any] = list(
        Attention.objects.open().filter(session_id=session.pk).annotate(assigned_to=Event.objects.assignee()).order_by("-pk")
    )
    known = facts_of_session(session, items, holds, products)
    found = order_verdict(
        known,
        at=session.at,
        extension=possible_extension(),
        flags=[facts_of_flag(flag, known) for flag in flags],
        is_sandbox=session.basket.partner.is_sandbox,
    )
    step, links = found.step, []
    if step and step.of == "session":
        links = repair_links(registry.SESSION_REPAIRS, request, session, KnownFacts(has_failed_items=session.has_failed), only={step.slug})
    elif step and step.slug != "take":
        flag = next(flag for flag in flags if flag.pk == step.pk)
        links = repair_links(registry.ATTENTION_REPAIRS, request, flag, KnownFacts(assignee=flag.assigned_to or ""), only={step.slug})
    return {"verdict": found, "next_steps": links}


def stocked(stocked: int | None, *, released: bool, ended: bool) -> SafeString:
    """What an item of a checkout holds, or has held.

    :param released: whether staff released its hold.
    :param ended: whether the checkout was ordered, aborted or expired; its reservations say what became of the pieces.
    """
    if stocked is None:
        return display.badge(gettext("nothing to hold"))
    if released:
        return display.badge(gettext("%(pieces)s released by staff") % {"pieces": -stocked})
    if stocked < 0:
        return display.badge(gettext("failed, %(pieces)s missing") % {"pieces": -stocked}, "bad")
    if ended:
        return display.badge(gettext("%(pieces)s held until it ended") % {"pieces": stocked})
    return display.badge(gettext("%(pieces)s held") % {"pieces": stocked}, "busy")


def show_sessions(
    request: HttpRequest,
    sessions: list[CheckoutSession],
    items: list[CheckoutItem],
    reservations: list[StockReservation],
    products: dict[str, Product],
    *,
    attention: Sequence[Attention],
    at: datetime,
    is_sandbox: bool,
) -> list[SessionShown]:
    """Collect what the page of a basket shows of its sessions, from rows that it has read."""
    of_session: dict[int, list[CheckoutItem]] = defaultdict(list)
    for item in items:
        of_session[item.session_id].append(item)
    with_failed_items = {item.session_id for item in items if (item.stocked or 0) < 0 and not item.released_at}
    holds: dict[tuple[int, str], list[SafeString]] = defaultdict(list)
    by_key = {session.pk: session for session in sessions}
    for hold in reservations:
        if hold.session_id not in by_key:
            continue
        links = repair_links(registry.RESERVATION_REPAIRS, request, hold)
        state = reservation(hold, by_key[hold.session_id], at)
        shown = format_html("{} {}", state, format_html_join(" ", '<a href="{}">{}</a>', links))
        holds[hold.session_id, hold.product_id].append(shown)
    open_flags = [flag for flag in reversed(attention) if flag.settled_at is None]
    known = {session.pk: facts_of_session(session, items, reservations, products) for session in sessions}
    return [
        SessionShown(
            session=session,
            verdict=order_verdict(
                known[session.pk],
                at=at,
                extension=possible_extension(),
                flags=[facts_of_flag(flag, known[session.pk]) for flag in open_flags if flag.session_id == session.pk],
                is_sandbox=is_sandbox,
            ),
            copy=display.copy_button(session.order_no, gettext("order number")),
            status=display.badge(session.get_status_display(), TONES.get(session.status, "plain")),
            hold=_hold(session, at),
            facts=session_facts(session),
            total=display.money(session.full_price, session.currency),
            items=[
                {
                    "product": display.product(item.product_id, products[item.product_id].name),
                    "count": display.count(item.count),
                    "price": display.money(item.price, item.currency),
                    "holds": holds.get(
                        (session.pk, item.product_id), [stocked(item.stocked, released=False, ended=session.status != "ACTIVE")]
                    ),
                }
                for item in of_session[session.pk]
            ],
            attention=[flag for flag in attention if flag.session_id == session.pk],
            repairs=repair_links(registry.SESSION_REPAIRS, request, session, KnownFacts(has_failed_items=session.pk in with_failed_items)),
        )
        for session in sessions
    ]


def session_facts(session: CheckoutSession) -> list[str]:
    """List what is unusual about a session."""
    return [
        fact
        for fact, holds in (
            (gettext("ordered late"), session.late),
            (gettext("reversed"), session.reversed_at),
            (gettext("test: holds and sells nothing"), session.test_mode),
            (gettext("language %(code)s") % {"code": session.language}, session.language),
            (gettext("country %(code)s") % {"code": session.country}, session.country),
        )
        if holds
    ]


def reservation(hold: StockReservation, session: CheckoutSession, at: datetime) -> SafeString:
    """Show the state of one reservation, and since when."""
    state = snapshots.word_of(hold)
    if hold.status == StockReservation.Status.HELD:
        lapsed = hold.expires_at <= at
        values = {"pieces": hold.pieces, "since": display.clock(hold.created_at)[11:], "end": display.clock(hold.expires_at)}
        if lapsed:
            return display.badge(gettext("%(pieces)s held since %(since)s, lapsed %(end)s") % values, "bad")
        return display.badge(gettext("%(pieces)s held since %(since)s, until %(end)s") % values, "busy")
    ended = display.clock(hold.ended_at or at)
    fate = snapshots.fate(hold, session)
    if hold.status == StockReservation.Status.RELEASED:
        return display.badge(f"{hold.pieces} {snapshots.with_fate(state, fate)} {ended}")
    return display.badge(snapshots.with_fate(f"{hold.pieces} {state} {ended}", fate), "plain" if fate else TONES.get(hold.status, "plain"))


def _hold(session: CheckoutSession, at: datetime) -> SafeString | str:
    if session.status != CheckoutSession.Status.ACTIVE:
        return ""
    if session.expires_at <= at:
        return display.badge(gettext("the hold ended %(ago)s; not swept yet") % {"ago": display.distance(session.expires_at - at)}, "bad")
    return display.time_left((session.expires_at - at).total_seconds())

"""The verdict on a basket: what happened, what the customer has, what can be done, and the recommended next step.

Pure: facts in, sentences out. `basket_detail` reads the facts, and offers the step to staff who may take it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core.late_stock import LateStock, late_stock, pieces
from baskets.models import Attention, CheckoutSession

Status = CheckoutSession.Status
Reason = Attention.Reason


class State(StrEnum):
    """Whether the customer sees the basket, and why not."""

    OPEN = "open"
    PAST_ITS_TIME = "past its time"
    DELETED = "deleted"
    EXPIRED = "expired"
    ERASED = "erased"


@dataclass(frozen=True, kw_only=True)
class LineFacts:
    """One item of a checkout.

    :param stocked: as `CheckoutItem` has it: pieces held, negative for missing ones, None where nothing is to hold.
    :param is_released: whether staff released its hold.
    :param obtainable: pieces that can be reserved now; None for an unlimited product.
    :param short: pieces that were ordered without stock.
    """

    count: int
    stocked: int | None
    obtainable: int | None
    is_released: bool = False
    short: int = 0

    @property
    def failed(self) -> bool:
        """Whether the start could not hold it."""
        return self.stocked is not None and self.stocked < 0 and not self.is_released

    @property
    def is_bought(self) -> bool:
        """Whether the checkout buys it."""
        return self.stocked is None or self.stocked > 0


@dataclass(frozen=True, kw_only=True)
class SessionFacts:
    """One checkout.

    :param order_no: named in the sentence about an order; empty: not named.
    :param total: its price, written for staff; empty where prices are not kept.
    """

    pk: int
    status: str
    expires_at: datetime
    lines: Sequence[LineFacts]
    finished_at: datetime | None = None
    released_at: datetime | None = None
    reversed_at: datetime | None = None
    late: bool = False
    test_mode: bool = False
    total: str = ""
    order_no: str = ""

    @property
    def late_stock(self) -> LateStock:
        """What a late order would find."""
        return late_stock((line.count, None if self.test_mode else line.obtainable) for line in self.lines if line.is_bought)


@dataclass(frozen=True, kw_only=True)
class FlagFacts:
    """One open attention flag with its checkout.

    :param candidates: how many checkouts a report without an order number may be about; 0 where it named its number.
    :param is_assigned: whether the flag is assigned to an account.
    """

    pk: int
    session: SessionFacts
    reason: str
    created_at: datetime
    candidates: int = 0
    is_assigned: bool = False


@dataclass(frozen=True, kw_only=True)
class BasketFacts:
    """One basket at one moment.

    :param at: the moment, by the database's clock.
    :param closed_at: when it was deleted or expired.
    :param cart: products in the cart.
    :param saved: products in the saved list.
    :param extension: by how much staff can extend a hold, from now.
    :param latest: the active session, else the one that was started last.
    :param flags: the open flags, the latest first.
    :param is_sandbox: whether its partner is a sandbox.
    """

    at: datetime
    state: State
    closed_at: datetime | None = None
    cart: int = 0
    saved: int = 0
    extension: timedelta = timedelta()
    latest: SessionFacts | None = None
    flags: Sequence[FlagFacts] = ()
    is_sandbox: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """The recommended repair: its slug, and the record it is of.

    :param of: the kind of the record: `basket`, `session` or `flag`.
    :param pk: the key of the session or the flag.
    """

    slug: str
    of: str
    pk: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the page of a basket says first.

    :param tone: `good`, `busy`, `bad` or `plain`.
    :param step: the recommended next step; None where nothing needs to be done, or a person must compare the payment first.
    """

    tone: str
    text: str
    step: Step | None = None


def verdict(facts: BasketFacts) -> Verdict:
    """Judge a basket, what is most urgent first: a refused order, missing pieces, an active checkout, then the past."""
    found = _verdict(facts)
    return in_sandbox(found) if facts.is_sandbox else found


def in_sandbox(found: Verdict) -> Verdict:
    """Begin with the fact that nothing of it is real."""
    return replace(found, text=_join(gettext("Sandbox: nothing was sold."), found.text))


def _verdict(facts: BasketFacts) -> Verdict:
    refused = [flag for flag in facts.flags if flag.reason != Reason.SHORT]
    if refused:
        found = _refused(refused[0])
    elif facts.flags:
        found = _short(facts.flags[0])
    elif facts.state == State.ERASED:
        return Verdict(tone="plain", text=gettext("The user's data were erased. Orders and the timeline stay under a random name."))
    elif facts.latest and facts.latest.status == Status.ACTIVE:
        return _in_checkout(facts.latest, facts)
    elif facts.state != State.OPEN:
        return _closed(facts)
    else:
        return _ended(facts.latest, facts.at) if facts.latest else _shopping(facts)
    if more := len(facts.flags) - 1:
        others = ngettext("%(number)s more flag is open.", "%(number)s more flags are open.", more) % {"number": more}
        return Verdict(tone="bad", text=f"{found.text} {others}", step=found.step)
    return Verdict(tone="bad", text=found.text, step=found.step)


def span(length: timedelta) -> str:
    """Write a length of time to the precision that staff need: `62 s`, `5 min`, `3 h`, `2 days`."""
    text, number = _measure(length, LENGTHS)
    return str(text) % {"number": number}


def ago(length: timedelta) -> str:
    """Write how long ago something happened, as `span` does: `62 s ago`."""
    text, number = _measure(length, AGES)
    return str(text) % {"number": number}


# By the number of seconds in a unit. A unit is used from two of it on, so all of them are plural.
LENGTHS = {86400: _("%(number)s days"), 3600: _("%(number)s h"), 60: _("%(number)s min"), 1: _("%(number)s s")}
AGES = {86400: _("%(number)s days ago"), 3600: _("%(number)s h ago"), 60: _("%(number)s min ago"), 1: _("%(number)s s ago")}


def _measure(length: timedelta, texts: Mapping[int, Any]) -> tuple[Any, int]:
    seconds = max(int(length.total_seconds()), 0)
    size = next(size for size in texts if seconds >= 2 * size or size == 1)
    return texts[size], seconds // size


def _join(*sentences: object) -> str:
    return " ".join(map(str, sentences))


def _refused(flag: FlagFacts) -> Verdict:
    """An order was reported and refused: the customer may have paid."""
    session = flag.session
    text = _what_was_refused(flag)
    if session.status == Status.ORDERED:
        advice = gettext(
            "The last checkout before it was ordered, so the report may repeat that order. Compare the payment, then resolve the flag."
        )
        return Verdict(tone="bad", text=f"{text} {advice}", step=Step(slug="settle", of="flag", pk=flag.pk))
    text = _join(text, gettext("Its items went back to the cart."))
    if flag.candidates > 1:
        advice = gettext("The report named no order number and may be about any of %(number)s checkouts. Compare the payment first.")
        step = None if flag.is_assigned else Step(slug="take", of="flag", pk=flag.pk)
        return Verdict(tone="bad", text=f"{text} {advice % {'number': flag.candidates}}", step=step)
    stock = session.late_stock
    if not stock.missing:
        return Verdict(tone="bad", text=_join(text, stock, gettext("Order late.")), step=_order_late(session))
    if stock.available:
        advice = gettext("Order late with %(pieces)s short, or refund and resolve the flag.") % {"pieces": pieces(stock.missing)}
        return Verdict(tone="bad", text=f"{text} {stock} {advice}", step=_order_late(session))
    advice = gettext("Refund and resolve the flag, or order late without stock.")
    return Verdict(tone="bad", text=f"{text} {stock} {advice}", step=Step(slug="settle", of="flag", pk=flag.pk))


def _what_was_refused(flag: FlagFacts) -> str:
    """Say in one sentence what was reported, how late, and why it was refused."""
    session = flag.session
    after_hold = session.status == Status.EXPIRED
    if flag.reason == Reason.BASKET_CHANGED:
        text = gettext("The customer may have paid: an order was reported without an order number, after the basket had changed.")
    elif flag.reason == Reason.ABORTED and after_hold:
        text = gettext("The customer may have paid: an order was reported without an order number, %(span)s after the hold ended.")
    elif flag.reason == Reason.ABORTED:
        text = gettext("The customer may have paid: an order was reported without an order number, %(span)s after the abort.")
    elif flag.reason == Reason.OUT_OF_STOCK and after_hold:
        text = gettext(
            "The customer may have paid: an order was reported %(span)s after the hold ended, and its pieces had gone to other customers."
        )
    elif flag.reason == Reason.OUT_OF_STOCK:
        text = gettext(
            "The customer may have paid: an order was reported %(span)s after the abort, and its pieces had gone to other customers."
        )
    elif after_hold:
        text = gettext(
            "The customer may have paid: an order was reported %(span)s after the hold ended, later than the grace period allows."
        )
    else:
        text = gettext("The customer may have paid: an order was reported %(span)s after the abort, later than the grace period allows.")
    return text % {"span": span(flag.created_at - _end(session))}


def _end(session: SessionFacts) -> datetime:
    """The end of the right to the pieces: of an aborted checkout its abort, otherwise the end of the hold."""
    return session.released_at if session.status == Status.ABORTED and session.released_at else session.expires_at


def _short(flag: FlagFacts) -> Verdict:
    """A late order was accepted without enough stock."""
    bought = sum(line.count for line in flag.session.lines if line.is_bought)
    short = sum(line.short for line in flag.session.lines)
    what = ngettext(
        "The customer has an order in which %(short)s of %(pieces)s has no stock.",
        "The customer has an order in which %(short)s of %(pieces)s have no stock.",
        short,
    ) % {"short": short, "pieces": pieces(bought)}
    advice = gettext("Get the pieces or agree with the customer. Then resolve the flag.")
    return Verdict(tone="bad", text=f"{what} {advice}", step=Step(slug="settle", of="flag", pk=flag.pk))


def _in_checkout(session: SessionFacts, facts: BasketFacts) -> Verdict:
    at = facts.at
    if session.test_mode:
        return Verdict(tone="busy", text=gettext("A test checkout is active. It holds and sells nothing."))
    held = sum(max(line.stocked or 0, 0) for line in session.lines)
    if session.expires_at <= at:
        if held:
            text = gettext("The hold ended %(ago)s, and the checkout is not swept yet: the customer still has %(pieces)s on hold.")
        else:
            text = gettext("The hold ended %(ago)s, and the checkout is not swept yet: the customer still has products that need no stock.")
        text %= {"ago": ago(at - session.expires_at), "pieces": pieces(held)}
        advice = gettext("If the payment has arrived, finish as ordered. Otherwise the sweep returns the items to the cart.")
        return Verdict(tone="bad", text=f"{text} {advice}", step=Step(slug="finish-as-ordered", of="session", pk=session.pk))
    if held:
        text = gettext("The customer is in checkout and has %(pieces)s on hold for %(span)s more.")
    else:
        text = gettext("The customer is in checkout and has products that need no stock for %(span)s more.")
    text %= {"pieces": pieces(held), "span": span(session.expires_at - at)}
    failed = [line for line in session.lines if line.failed]
    if failed:
        not_held = gettext("%(pieces)s could not be held at the start.") % {"pieces": pieces(sum(line.count for line in failed))}
        text = f"{text} {not_held}"
        if any(line.obtainable is None or line.obtainable >= line.count for line in failed):
            text = _join(text, gettext("There is stock now: hold again what failed."))
            return Verdict(tone="busy", text=text, step=Step(slug="hold-again", of="session", pk=session.pk))
    if session.expires_at - at >= facts.extension:
        return Verdict(tone="busy", text=_join(text, gettext("Nothing needs to be done.")))
    advice = gettext("Nothing needs to be done, unless the customer needs more time to pay: then extend the hold.")
    return Verdict(tone="busy", text=f"{text} {advice}", step=Step(slug="extend-hold", of="session", pk=session.pk))


def _closed(facts: BasketFacts) -> Verdict:
    is_deleted = facts.state == State.DELETED
    if facts.closed_at is None:
        text = gettext("The basket was deleted.") if is_deleted else gettext("The basket expired.")
    else:
        text = gettext("The basket was deleted %(ago)s.") if is_deleted else gettext("The basket expired %(ago)s.")
        text %= {"ago": ago(facts.at - facts.closed_at)}
    text = _join(text, gettext("The customer sees an empty one; orders and the timeline stay."))
    if facts.latest:
        text = f"{text} {_ended(facts.latest, facts.at).text}"
    if facts.state == State.PAST_ITS_TIME:
        return Verdict(tone="plain", text=text)
    text = _join(text, gettext("If the customer misses it, restore the basket."))
    return Verdict(tone="plain", text=text, step=Step(slug="restore", of="basket"))


def _ended(session: SessionFacts, at: datetime) -> Verdict:
    """The last checkout has ended, and no flag is open."""
    values = {"ago": ago(at - (session.finished_at or session.expires_at)), "price": session.total}
    if session.status == Status.ORDERED:
        return _ordered(session, at, values)
    if session.status == Status.EXPIRED:
        text = gettext("The last checkout expired %(ago)s without an order, and its items went back to the cart.") % values
    else:
        text = gettext("The last checkout was aborted %(ago)s without an order, and its items went back to the cart.") % values
    return unpaid(session, text)


def unpaid(session: SessionFacts, text: str) -> Verdict:
    """Add to the end of a checkout without an order what can be done if the customer has paid after all."""
    stock = session.late_stock
    if stock.missing:
        advice = gettext("If the customer has paid, order late with %(pieces)s short, or refund.") % {"pieces": pieces(stock.missing)}
    else:
        advice = gettext("If the payment is real, press Order late.")
    return Verdict(tone="plain", text=f"{text} {stock} {advice}", step=_order_late(session))


def _ordered(session: SessionFacts, at: datetime, values: dict[str, str]) -> Verdict:
    """The last checkout was ordered. Where prices are not kept, the sentence names none."""
    if session.test_mode:
        return Verdict(tone="plain", text=gettext("The last checkout was a test and was ordered %(ago)s. It sold nothing.") % values)
    values |= {"pieces": pieces(sum(line.count for line in session.lines if line.is_bought))}
    if session.reversed_at:
        values |= {"ago": ago(at - session.reversed_at)}
        if session.total:
            text = gettext("The last order, %(pieces)s for %(price)s, was reversed %(ago)s.") % values
        else:
            text = gettext("The last order, %(pieces)s, was reversed %(ago)s.") % values
        return Verdict(tone="plain", text=text)
    if session.total and session.late:
        text = gettext("The customer bought %(pieces)s for %(price)s %(ago)s, late.")
    elif session.total:
        text = gettext("The customer bought %(pieces)s for %(price)s %(ago)s.")
    elif session.late:
        text = gettext("The customer bought %(pieces)s %(ago)s, late.")
    else:
        text = gettext("The customer bought %(pieces)s %(ago)s.")
    named = [gettext("This is order %(order)s.") % {"order": session.order_no}] if session.order_no else []
    return Verdict(tone="good", text=_join(text % values, *named, gettext("Nothing needs to be done.")))


def _order_late(session: SessionFacts) -> Step:
    return Step(slug="order-late", of="session", pk=session.pk)


def _shopping(facts: BasketFacts) -> Verdict:
    cart = ngettext("%(number)s product in the cart", "%(number)s products in the cart", facts.cart) % {"number": facts.cart}
    saved = ngettext("%(number)s product saved", "%(number)s products saved", facts.saved) % {"number": facts.saved}
    if facts.cart and facts.saved:
        text = gettext("The customer has %(cart)s and %(saved)s, and has not started a checkout.") % {"cart": cart, "saved": saved}
    elif facts.cart or facts.saved:
        text = gettext("The customer has %(products)s, and has not started a checkout.") % {"products": cart if facts.cart else saved}
    else:
        text = gettext("The basket is empty, and no checkout was ever started.")
    return Verdict(tone="plain", text=text)

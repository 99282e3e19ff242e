"""The verdict on a basket: what happened, what the customer has, what can be done, and the recommended next step.

Pure: facts in, sentences out. `basket_detail` reads the facts, and offers the step to staff who may take it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

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
    """

    at: datetime
    state: State
    closed_at: datetime | None = None
    cart: int = 0
    saved: int = 0
    extension: timedelta = timedelta()
    latest: SessionFacts | None = None
    flags: Sequence[FlagFacts] = ()


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
    refused = [flag for flag in facts.flags if flag.reason != Reason.SHORT]
    if refused:
        found = _refused(refused[0])
    elif facts.flags:
        found = _short(facts.flags[0])
    elif facts.state == State.ERASED:
        return Verdict(tone="plain", text="The user's data were erased. Orders and the timeline stay under a random name.")
    elif facts.latest and facts.latest.status == Status.ACTIVE:
        return _in_checkout(facts.latest, facts)
    elif facts.state != State.OPEN:
        return _closed(facts)
    else:
        return _ended(facts.latest, facts.at) if facts.latest else _shopping(facts)
    more = len(facts.flags) - 1
    others = f" {more} more {'flag is' if more == 1 else 'flags are'} open." if more else ""
    return Verdict(tone="bad", text=f"{found.text}{others}", step=found.step)


def span(length: timedelta) -> str:
    """Write a length of time to the precision that staff need: `62 s`, `5 min`, `3 h`, `2 days`."""
    seconds = max(int(length.total_seconds()), 0)
    for unit, size in ((" days", 86400), (" h", 3600), (" min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds} s"


def _refused(flag: FlagFacts) -> Verdict:
    """An order was reported and refused: the customer may have paid."""
    session = flag.session
    text = f"The customer may have paid: an order was reported {_when_refused(flag)}."
    if session.status == Status.ORDERED:
        text += " The last checkout before it was ordered, so the report may repeat that order. Compare the payment, then resolve the flag."
        return Verdict(tone="bad", text=text, step=Step(slug="settle", of="flag", pk=flag.pk))
    text += " Its items went back to the cart."
    if flag.candidates > 1:
        text += f" The report named no order number and may be about any of {flag.candidates} checkouts. Compare the payment first."
        step = None if flag.is_assigned else Step(slug="take", of="flag", pk=flag.pk)
        return Verdict(tone="bad", text=text, step=step)
    stock = session.late_stock
    if not stock.missing:
        return Verdict(tone="bad", text=f"{text} {stock} Order late.", step=_order_late(session))
    if stock.available:
        text += f" {stock} Order late with {pieces(stock.missing)} short, or refund and resolve the flag."
        return Verdict(tone="bad", text=text, step=_order_late(session))
    text += f" {stock} Refund and resolve the flag, or order late without stock."
    return Verdict(tone="bad", text=text, step=Step(slug="settle", of="flag", pk=flag.pk))


def _when_refused(flag: FlagFacts) -> str:
    session = flag.session
    if flag.reason == Reason.BASKET_CHANGED:
        return "without an order number, after the basket had changed"
    ended = f"{span(flag.created_at - _end(session))} after {'the hold ended' if session.status == Status.EXPIRED else 'the abort'}"
    if flag.reason == Reason.ABORTED:
        return f"without an order number, {ended}"
    if flag.reason == Reason.OUT_OF_STOCK:
        return f"{ended}, and its pieces had gone to other customers"
    return f"{ended}, later than the grace period allows"


def _end(session: SessionFacts) -> datetime:
    """The end of the right to the pieces: of an aborted checkout its abort, otherwise the end of the hold."""
    return session.released_at if session.status == Status.ABORTED and session.released_at else session.expires_at


def _short(flag: FlagFacts) -> Verdict:
    """A late order was accepted without enough stock."""
    bought = sum(line.count for line in flag.session.lines if line.is_bought)
    short = sum(line.short for line in flag.session.lines)
    text = (
        f"The customer has an order in which {short} of {pieces(bought)} {'has' if short == 1 else 'have'} no stock."
        " Get the pieces or agree with the customer. Then resolve the flag."
    )
    return Verdict(tone="bad", text=text, step=Step(slug="settle", of="flag", pk=flag.pk))


def _in_checkout(session: SessionFacts, facts: BasketFacts) -> Verdict:
    at = facts.at
    if session.test_mode:
        return Verdict(tone="busy", text="A test checkout is active. It holds and sells nothing.")
    held = sum(max(line.stocked or 0, 0) for line in session.lines)
    if session.expires_at <= at:
        text = (
            f"The hold ended {span(at - session.expires_at)} ago, and the checkout is not swept yet: the customer still has"
            f" {_held(held)}. If the payment has arrived, finish as ordered. Otherwise the sweep returns the items to the cart."
        )
        return Verdict(tone="bad", text=text, step=Step(slug="finish-as-ordered", of="session", pk=session.pk))
    text = f"The customer is in checkout and has {_held(held)} for {span(session.expires_at - at)} more."
    failed = [line for line in session.lines if line.failed]
    if failed:
        text += f" {pieces(sum(line.count for line in failed))} could not be held at the start."
        if any(line.obtainable is None or line.obtainable >= line.count for line in failed):
            text += " There is stock now: hold again what failed."
            return Verdict(tone="busy", text=text, step=Step(slug="hold-again", of="session", pk=session.pk))
    if session.expires_at - at >= facts.extension:
        return Verdict(tone="busy", text=f"{text} Nothing needs to be done.")
    text += " Nothing needs to be done, unless the customer needs more time to pay: then extend the hold."
    return Verdict(tone="busy", text=text, step=Step(slug="extend-hold", of="session", pk=session.pk))


def _held(number: int) -> str:
    return f"{pieces(number)} on hold" if number else "products that need no stock"


def _closed(facts: BasketFacts) -> Verdict:
    how = "was deleted" if facts.state == State.DELETED else "expired"
    ago = f" {span(facts.at - facts.closed_at)} ago" if facts.closed_at else ""
    text = f"The basket {how}{ago}. The customer sees an empty one; orders and the timeline stay."
    if facts.latest:
        text += f" {_ended(facts.latest, facts.at).text}"
    if facts.state == State.PAST_ITS_TIME:
        return Verdict(tone="plain", text=text)
    return Verdict(tone="plain", text=f"{text} If the customer misses it, restore the basket.", step=Step(slug="restore", of="basket"))


def _ended(session: SessionFacts, at: datetime) -> Verdict:
    """The last checkout has ended, and no flag is open."""
    ago = f"{span(at - (session.finished_at or session.expires_at))} ago"
    if session.status == Status.ORDERED:
        bought = pieces(sum(line.count for line in session.lines if line.is_bought))
        price = f" for {session.total}" if session.total else ""
        if session.test_mode:
            return Verdict(tone="plain", text=f"The last checkout was a test and was ordered {ago}. It sold nothing.")
        if session.reversed_at:
            return Verdict(tone="plain", text=f"The last order, {bought}{price}, was reversed {span(at - session.reversed_at)} ago.")
        late = ", late" if session.late else ""
        return Verdict(tone="good", text=f"The customer bought {bought}{price} {ago}{late}. Nothing needs to be done.")
    how = "expired" if session.status == Status.EXPIRED else "was aborted"
    text = f"The last checkout {how} {ago} without an order, and its items went back to the cart."
    stock = session.late_stock
    remedy = f"order late with {pieces(stock.missing)} short, or refund" if stock.missing else "order late"
    text += f" {stock} If the customer has paid, {remedy}."
    return Verdict(tone="plain", text=text, step=_order_late(session))


def _order_late(session: SessionFacts) -> Step:
    return Step(slug="order-late", of="session", pk=session.pk)


def _shopping(facts: BasketFacts) -> Verdict:
    if not facts.cart and not facts.saved:
        return Verdict(tone="plain", text="The basket is empty, and no checkout was ever started.")
    lists = [f"{number} {'product' if number == 1 else 'products'} {where}" for number, where in _lists(facts) if number]
    return Verdict(tone="plain", text=f"The customer has {' and '.join(lists)}, and has not started a checkout.")


def _lists(facts: BasketFacts) -> tuple[tuple[int, str], ...]:
    return (facts.cart, "in the cart"), (facts.saved, "saved")

"""What the model of the contract keeps: products, baskets, their sessions, and the time. What is done with them is in `shop`.

Time is a number of seconds that the machine moves; nothing here reads a clock.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

LIFETIME = 30 * 24 * 3600
REFUSED = {"checkout_aborted", "checkout_expired", "out_of_stock", "basket_changed"}
# The service keeps more open; the machine makes it keep as few, so that short examples get there.
MAX_OPEN = 2
MAX_CANDIDATES = 5


class Refused(Exception):
    """The call is refused. `details` comes beside the reason, `basket_shown` is the basket in the response."""

    basket_shown: Any = ...

    def __init__(self, reason: str, details: Any = None) -> None:
        super().__init__(reason, details)
        self.reason = reason
        self.details = details


# A moment: seconds, and a number that tells apart what happens within one of them.
Moment = tuple[int, int]


@dataclass
class Product:
    """One product, and what happened to its pieces in the world, each with its moment. Nothing is kept as a counter.

    `latest` is the report that counts, `counted` the last that counted and had a number: while the product is unlimited, holds
    of its limited time still end. `happened` has pieces that were sold, came back, came in or were taken out. `unheld` has
    pieces that were ordered while the product was unlimited and no report has a say on yet. `forgotten` is the moment of
    the last sale of which a purge has left nothing.

    What only products of the sandbox have: `most` pieces for one checkout, `unlisted_at_start`, and `gone_when_late`.
    """

    listed: bool = True
    sandbox: bool = False
    most: int | None = None
    unlisted_at_start: bool = False
    gone_when_late: bool = False
    price: int | None = 100
    latest: tuple[Moment, int | None] | None = None
    counted: tuple[Moment, int] | None = None
    happened: list[tuple[Moment, int]] = field(default_factory=list)
    unheld: list[tuple[Moment, int]] = field(default_factory=list)
    forgotten: Moment | None = None

    @property
    def limited(self) -> bool:
        return self.latest is not None and self.latest[1] is not None


@dataclass
class Item:
    """One product in a list. `place` is when it was first added; a smaller one comes first."""

    count: int
    place: int
    stocked: int | None = None
    released: bool = False

    @property
    def failed(self) -> bool:
        return self.stocked is not None and self.stocked < 0


@dataclass
class Flag:
    """A warning to staff. `raised` counts all warnings; `candidates` is what a report without a number may be about."""

    raised: int
    candidates: list[tuple[str, str]] | None
    settled: bool = False


@dataclass
class Session:
    """One attempt to buy: what it is buying, what of it is held, and what became of it."""

    number: int
    expires: int
    test: bool
    items: dict[str, Item]
    status: str = "ACTIVE"
    late: bool = False
    released: int | None = None
    ended_revision: int | None = None
    ended: int = 0
    finished: int = 0
    order_no: str = ""
    held: Counter[str] = field(default_factory=Counter)
    sold: Counter[str] = field(default_factory=Counter)
    short: Counter[str] = field(default_factory=Counter)
    sold_at: Moment = (0, 0)
    reversed: bool = False
    flags: dict[str, Flag] = field(default_factory=dict)

    def open(self) -> list[str]:
        """Why staff should look at it."""
        return [reason for reason, flag in self.flags.items() if not flag.settled]


@dataclass
class Basket:
    """Everything held for one user of one partner.

    `timeline` has the moment, the revision and the session of each event that no purge has removed.
    """

    expires: int
    guest: bool = False
    erased: bool = False
    revision: int = 0
    purged: int = 0
    timeline: list[tuple[int, int, Session | None]] = field(default_factory=list)
    hidden: bool = False
    hidden_since: int = 0
    places: int = 0
    cart: dict[str, Item] = field(default_factory=dict)
    saved: dict[str, Item] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)

    @property
    def active(self) -> Session | None:
        return next((session for session in self.sessions if session.status == "ACTIVE"), None)

    def lists(self) -> Any:
        checkout = self.active.items if self.active else {}

        def shown(items: Mapping[str, Item]) -> list[tuple[str, Item]]:
            return sorted(items.items(), key=lambda pair: (pair[1].place, pair[0]))

        return {
            "cart": [(product, item.count) for product, item in shown(self.cart)],
            "saved": [(product, item.count) for product, item in shown(self.saved)],
            "checkout": [(product, item.count, item.stocked) for product, item in shown(checkout)],
        }


Key = tuple[int, str]


@dataclass
class State:
    """All that is kept, and how it is looked at."""

    accepting: frozenset[int]
    sandboxes: frozenset[int]
    now: int = 0
    products: dict[str, Product] = field(default_factory=dict)
    baskets: dict[Key, Basket] = field(default_factory=dict)
    sessions: list[tuple[Key, Session]] = field(default_factory=list)
    starts: int = 0
    endings: int = 0
    warnings: int = 0
    moments: int = 0

    def moment(self, ago: int = 0) -> Moment:
        """Return a moment after all earlier ones, or so many seconds ago."""
        self.moments += 1
        return self.now - ago, self.moments

    def held(self, product: str) -> int:
        return sum(session.held[product] for _, session in self.sessions)

    def free(self, product: str) -> int:
        """What the report that counts leaves for new holds, summed up from what has happened; below zero, so many are missing."""
        known = self.products[product]
        since, number = known.counted or ((0, 0), 0)
        return number - self.held(product) + sum(pieces for at, pieces in known.happened if at > since)

    def available(self, product: str) -> int:
        return max(self.free(product), 0)

    def supply(self, product: str) -> int:
        return self.free(product) + self.held(product) + sum(session.sold[product] for _, session in self.sessions)

    def present(self, key: Key) -> bool:
        basket = self.baskets.get(key)
        return basket is not None and not basket.hidden and (basket.active is not None or basket.expires > self.now)

    def shown(self, key: Key) -> Any:
        """What GET shows: None where there is no basket."""
        return self.baskets[key].lists() if self.present(key) else None

    def lapsed(self, session: Session) -> bool:
        return session.status == "ACTIVE" and session.expires <= self.now

    def _changed(self, basket: Basket, session: Session | None = None) -> None:
        """Its lists differ. A guest's basket lasts as long as it did, unless it comes back."""
        basket.revision += 1
        if not basket.guest or basket.hidden:
            basket.expires = self.now + LIFETIME
        self._record_event(basket, session)

    def _record_event(self, basket: Basket, session: Session | None = None) -> None:
        """A line in the timeline; no list differs for it."""
        basket.timeline.append((self.now, basket.revision, session))

    def _hide(self, basket: Basket) -> None:
        basket.cart, basket.saved = {}, {}
        self._changed(basket)
        basket.hidden, basket.hidden_since = True, self.now

    def _flag(self, basket: Basket, session: Session, reason: str, *, candidates: list[tuple[str, str]] | None = None) -> None:
        """Once for each session and reason."""
        if reason not in session.flags:
            self.warnings += 1
            session.flags[reason] = Flag(self.warnings, candidates)
            self._record_event(basket, session)

    def _flag_refused(self, basket: Basket, session: Session, reason: str, *, order_no: str | None) -> None:
        """A customer may have paid. Without a number, flag any of the last ended sessions, up to the limit of open flags."""
        ended = [(s.ended_revision, s.ended, s.order_no, s.status) for s in basket.sessions if s.status != "ACTIVE"]
        last = [(number, status) for *_, number, status in sorted(ended, reverse=True)][:MAX_CANDIDATES]
        self._flag(basket, session, reason, candidates=last if order_no is None else None)
        warnings = sorted(
            (s.flags[reason].raised, s.number, s, reason) for s in basket.sessions for reason in s.open() if reason != "short"
        )
        for *_, warned, about in warnings[:-MAX_OPEN]:
            self._settle(basket, warned, {about})

    def _settle(self, basket: Basket, session: Session, reasons: Collection[str]) -> bool:
        """Settle what is open for these reasons; the timeline says so once."""
        done = [reason for reason in session.open() if reason in reasons]
        for reason in done:
            session.flags[reason].settled = True
        if done:
            self._record_event(basket, session)
        return bool(done)

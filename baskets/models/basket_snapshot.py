"""One basket as a whole, read by one statement: what GET shows and what every write decides from."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from baskets.db.pipeline import Statement, execute
from baskets.models.baskets import basket_key


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose basket is meant: user ids belong to their partner."""

    partner_id: int
    user_id: str

    @cached_property
    def basket_id(self) -> uuid.UUID:
        """The primary key of the owner's basket, whether it exists or not."""
        return basket_key(partner_id=self.partner_id, user_id=self.user_id)


@dataclass(frozen=True, kw_only=True)
class BasketLine:
    """One product in one list. `position` orders the list; `stocked` speaks in checkout only."""

    product_id: str
    count: int
    position: int
    stocked: int | None = None
    variant: str = ""
    main_product_id: str = ""

    @property
    def failed(self) -> bool:
        """Tell whether its reservation failed."""
        return self.stocked is not None and self.stocked < 0


@dataclass(frozen=True, kw_only=True)
class ActiveSession:
    """The session whose items are the checkout list."""

    id: int
    order_no: str
    test_mode: bool
    started_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class BasketSnapshot:
    """A basket's row, its three lists in order, and the clock of the statement that read them.

    `at` is the database's time of reading, never before `last_changed_at`.
    """

    basket_id: uuid.UUID
    at: datetime
    revision: int
    events: int
    created_at: datetime
    last_changed_at: datetime
    expires_at: datetime
    hidden_at: datetime | None
    guest: bool
    hold_override: timedelta | None
    late_orders: str
    session: ActiveSession | None = None
    cart: tuple[BasketLine, ...] = ()
    saved: tuple[BasketLine, ...] = ()
    checkout: tuple[BasketLine, ...] = ()

    @property
    def is_open(self) -> bool:
        """Tell whether the user has a basket: not hidden, and not past its time unless a checkout is active.

        An active checkout keeps its basket, because a held reservation is a right.
        """
        return self.hidden_at is None and (self.session is not None or self.expires_at > self.at)

    @property
    def lapsed(self) -> bool:
        """Tell whether the active session is past the end of its hold."""
        return self.session is not None and self.session.expires_at <= self.at

    def lines(self) -> Iterator[BasketLine]:
        """All lines of the three lists."""
        yield from self.cart
        yield from self.saved
        yield from self.checkout

    def cleared(self) -> "BasketSnapshot":
        """The same basket with nothing in it."""
        return replace(self, cart=(), saved=(), checkout=(), session=None)


# Note [One statement for a basket]
# The row, the lists and the clock come from one statement, so they are of one snapshot: no reader sees an item in two
# lists or in none. Under the basket's lock it is also the first statement after the lock was won, so its clock is the
# clock by which expiry is decided. GREATEST keeps time from going back within one basket.
BASKETS = """
SELECT b.revision, b.events, b.created_at, b.last_changed_at, b.expires_at, b.hidden_at, b.guest,
       greatest(statement_timestamp(), b.last_changed_at) AS at,
       partner.hold_seconds, partner.late_orders,
       s.id, s.order_no, s.test_mode, s.started_at, s.expires_at,
       line.list, line.product_id, line.count, line.position, line.stocked, p.variant, p.main_product_id, b.id
FROM baskets_basket b
JOIN baskets_partner partner ON partner.id = b.partner_id
LEFT JOIN baskets_checkoutsession s ON s.basket_id = b.id AND s.status = 'ACTIVE'
LEFT JOIN LATERAL (
    SELECT i.list, i.product_id, i.count, i.position, NULL::bigint AS stocked
    FROM baskets_basketitem i WHERE i.basket_id = b.id
    UNION ALL
    SELECT 'checkout', c.product_id, c.count, c.position, c.stocked
    FROM baskets_checkoutitem c WHERE c.session_id = s.id
) line ON true
LEFT JOIN baskets_product p ON p.product_id = line.product_id
WHERE {which}
ORDER BY line.position, line.product_id
"""
READ_ONE = Statement("read_one", BASKETS.format(which="b.id = %s"))
READ_MANY = Statement("read_many", BASKETS.format(which="b.id = ANY(%s::uuid[])"))


def read_basket(basket_id: uuid.UUID) -> BasketSnapshot | None:
    """Read a basket whole, or None if it has no row. See Note [One statement for a basket]."""
    return snapshot_from_rows(execute(READ_ONE, [basket_id]))


def read_baskets(basket_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, BasketSnapshot]:
    """Read baskets whole, all in one statement, by their keys."""
    return {contents.basket_id: contents for contents in snapshots_from_rows(execute(READ_MANY, [list(basket_ids)]))}


def snapshot_from_rows(rows: Iterable[tuple[Any, ...]]) -> BasketSnapshot | None:
    """Put together what `READ` found of a basket."""
    return next(iter(snapshots_from_rows(rows)), None)


def snapshots_from_rows(rows: Iterable[tuple[Any, ...]]) -> list[BasketSnapshot]:
    """Put together what `READ_MANY` found, basket by basket, in the order of their keys."""
    by_basket: dict[uuid.UUID, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_basket.setdefault(row[22], []).append(row)
    return [_build_snapshot(by_basket[basket_id]) for basket_id in sorted(by_basket)]


def _build_snapshot(rows: list[tuple[Any, ...]]) -> BasketSnapshot:
    first = rows[0]
    lists: dict[str, list[BasketLine]] = {"cart": [], "saved": [], "checkout": []}
    for row in rows:
        if (name := row[15]) is not None:
            lists[name].append(
                BasketLine(
                    product_id=row[16],
                    count=row[17],
                    position=row[18],
                    stocked=row[19],
                    variant=row[20],
                    main_product_id=row[21],
                )
            )
    session = None
    if first[10] is not None:
        session = ActiveSession(id=first[10], order_no=first[11], test_mode=first[12], started_at=first[13], expires_at=first[14])
    return BasketSnapshot(
        basket_id=first[22],
        revision=first[0],
        events=first[1],
        created_at=first[2],
        last_changed_at=first[3],
        expires_at=first[4],
        hidden_at=first[5],
        guest=first[6],
        at=first[7],
        hold_override=None if first[8] is None else timedelta(seconds=first[8]),
        late_orders=first[9],
        session=session,
        cart=tuple(lists["cart"]),
        saved=tuple(lists["saved"]),
        checkout=tuple(lists["checkout"]),
    )

"""One basket as a whole, read by one statement: GET shows this snapshot, and every write decides from it."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeAlias

from django.utils.functional import cached_property

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.models.baskets import basket_key


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The owner of a basket: a user of a partner. User ids are unique within their partner only."""

    partner_id: int
    user_id: str

    @cached_property
    def basket_id(self) -> uuid.UUID:
        """The primary key of the owner's basket, whether it exists or not."""
        return basket_key(partner_id=self.partner_id, user_id=self.user_id)


class BasketLine(NamedTuple):
    """One product in one list.

    :param count: pieces.
    :param position: orders the list.
    :param stocked: in checkout only: pieces held; below zero the pieces that are short; None where the product is unlimited.
    """

    product_id: str
    count: int  # type: ignore[assignment] # Hides the method of tuples.
    position: int
    stocked: int | None = None
    variant: str = ""
    main_product_id: str = ""

    @property
    def failed(self) -> bool:
        """Return whether its reservation failed."""
        return self.stocked is not None and self.stocked < 0


class ActiveSession(NamedTuple):
    """The session whose items are the checkout list."""

    id: int
    order_no: str
    test_mode: bool
    started_at: datetime
    expires_at: datetime


class BasketSnapshot(NamedTuple):
    """A basket's row, its three lists in order, and the clock of the statement that read them.

    :param at: the database's time of reading, never before `last_changed_at`.
    :param events: number of the latest event.
    :param hold_override: the partner's length of a hold; None is the setting of the service.
    :param share_override: the partner's share of a product in percent, 0 for no limit; None is the setting of the service.
    :param late_orders: the partner's setting, one of `Partner.LateOrders`.
    :param sandbox: whether the partner is a sandbox.
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
    share_override: int | None = None
    sandbox: bool = False
    session: ActiveSession | None = None
    cart: tuple[BasketLine, ...] = ()
    saved: tuple[BasketLine, ...] = ()
    checkout: tuple[BasketLine, ...] = ()

    @property
    def is_open(self) -> bool:
        """Return whether the user has a basket: not closed, and not expired, unless a checkout is active.

        An active checkout keeps its basket, because a held reservation is a right.
        """
        return self.hidden_at is None and (self.session is not None or self.expires_at > self.at)

    @property
    def lapsed(self) -> bool:
        """Return whether the active session is past the end of its hold."""
        return self.session is not None and self.session.expires_at <= self.at

    def lines(self) -> Iterator[BasketLine]:
        """All lines of the three lists."""
        yield from self.cart
        yield from self.saved
        yield from self.checkout

    def cleared(self) -> "BasketSnapshot":
        """The same basket with nothing in it."""
        return self._replace(cart=(), saved=(), checkout=(), session=None)


class WrittenBasket(NamedTuple):
    """What a response shows of a basket that a direct call has just changed.

    :param at: the moment of the change.
    """

    at: datetime
    expires_at: datetime
    hidden_at: datetime | None
    session: ActiveSession | None
    cart: tuple[BasketLine, ...]
    saved: tuple[BasketLine, ...]
    checkout: tuple[BasketLine, ...]

    @property
    def last_changed_at(self) -> datetime:
        """The moment of the change."""
        return self.at

    @property
    def is_open(self) -> bool:
        """Return whether the user has a basket; one with a session was open before the change."""
        return self.hidden_at is None and self.expires_at > self.at


ShownBasket: TypeAlias = BasketSnapshot | WrittenBasket


# Note [One statement for a basket]
# One statement reads the row, the lists and the clock, so they are of one snapshot: no reader sees an item in two lists or in
# none. Under the basket's lock it is also the first statement after the lock was won, so its clock decides about expiry.
# GREATEST keeps time from going back within one basket. The active session is the one without an end, by a constraint: a comparison of its
# status would let a plan that was made while no session was active read the whole index of active sessions, which is long in a crowd.
BASKETS = """SELECT b.revision, b.events, b.created_at, b.last_changed_at, b.expires_at, b.hidden_at, b.guest,
       greatest(statement_timestamp(), b.last_changed_at) AS at,
       partner.hold_seconds, partner.late_orders,
       s.id, s.order_no, s.test_mode, s.started_at, s.expires_at,
       line.list, line.product_id, line.count, line.position, line.stocked, p.variant, p.main_product_id, b.id,
       partner.sandbox_of_id IS NOT NULL, partner.share_percent
FROM baskets_basket b
JOIN baskets_partner partner ON partner.id = b.partner_id
LEFT JOIN baskets_checkoutsession s ON s.basket_id = b.id AND s.finished_at IS NULL
LEFT JOIN LATERAL (
    SELECT i.list, i.product_id, i.count, i.position, NULL::bigint AS stocked
    FROM baskets_basketitem i WHERE i.basket_id = b.id
    UNION ALL
    SELECT 'checkout', c.product_id, c.count, c.position, c.stocked
    FROM baskets_checkoutitem c WHERE c.session_id = s.id AND c.basket_id = b.id
) line ON true
LEFT JOIN baskets_product p ON p.product_id = line.product_id
WHERE """
READ_ONE = Statement("read_one", f"{BASKETS}b.id = %s")
READ_MANY = Statement("read_many", f"{BASKETS}b.id = ANY(%s::uuid[])")


class _Row(NamedTuple):
    """One row of `BASKETS`, column by column: the basket, its active session if any, and one line if any."""

    revision: int
    events: int
    created_at: datetime
    last_changed_at: datetime
    expires_at: datetime
    hidden_at: datetime | None
    guest: bool
    at: datetime
    hold_seconds: int | None
    late_orders: str
    session_id: int | None
    order_no: str
    test_mode: bool
    started_at: datetime
    session_expires_at: datetime
    list: Literal["cart", "saved", "checkout"] | None
    product_id: str
    pieces: int
    position: int
    stocked: int | None
    variant: str
    main_product_id: str
    basket_id: uuid.UUID
    sandbox: bool
    share_percent: int | None


class _WrittenRow(NamedTuple):
    """What a response shows of a basket that was just written, and one line of it if any; `at` is the time of that change."""

    at: datetime
    expires_at: datetime
    hidden_at: datetime | None
    list: Literal["cart", "saved", "checkout"] | None
    product_id: str
    pieces: int
    position: int
    variant: str
    main_product_id: str
    stocked: int | None = None


def read_basket(basket_id: uuid.UUID) -> BasketSnapshot | None:
    """Read a basket whole, or None if it has no row. See Note [One statement for a basket]."""
    return snapshot_from_rows(execute(READ_ONE, [basket_id]))


def read_baskets(basket_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, BasketSnapshot]:
    """Read baskets whole, all in one statement.

    :returns: the baskets that have a row, by their keys.
    """
    return {basket.basket_id: basket for basket in snapshots_from_rows(execute(READ_MANY, [list(basket_ids)]))}


def snapshot_from_rows(rows: Iterable[tuple[Any, ...]]) -> BasketSnapshot | None:
    """Build the snapshot of one basket from the rows of `READ_ONE`, or None where there are no rows."""
    found = list(map(_Row._make, rows))
    return _build_snapshot(found) if found else None


def written_from_rows(rows: Iterable[tuple[Any, ...]], *, session: ActiveSession | None) -> WrittenBasket:
    """Build what a response shows of a basket from the rows of a statement that has just written it.

    :param rows: at least one: last change, expiry, closure; list, product, count, position, variant, main product of a line; pieces held.
    """
    found = [_WrittenRow(*row) for row in rows]
    first = found[0]
    return WrittenBasket(at=first.at, expires_at=first.expires_at, hidden_at=first.hidden_at, session=session, **_build_lists(found))


def snapshots_from_rows(rows: Iterable[tuple[Any, ...]]) -> list[BasketSnapshot]:
    """Build the snapshots of baskets from the rows of `READ_MANY`, in the order of their keys."""
    by_basket: dict[uuid.UUID, list[_Row]] = {}
    for row in map(_Row._make, rows):
        by_basket.setdefault(row.basket_id, []).append(row)
    return [_build_snapshot(by_basket[basket_id]) for basket_id in sorted(by_basket)]


def _build_snapshot(rows: Sequence[_Row]) -> BasketSnapshot:
    first = rows[0]
    session = None
    if first.session_id is not None:
        session = ActiveSession(
            id=first.session_id,
            order_no=first.order_no,
            test_mode=first.test_mode,
            started_at=first.started_at,
            expires_at=first.session_expires_at,
        )
    return BasketSnapshot(
        basket_id=first.basket_id,
        revision=first.revision,
        events=first.events,
        created_at=first.created_at,
        last_changed_at=first.last_changed_at,
        expires_at=first.expires_at,
        hidden_at=first.hidden_at,
        guest=first.guest,
        at=first.at,
        hold_override=None if first.hold_seconds is None else timedelta(seconds=first.hold_seconds),
        late_orders=first.late_orders,
        share_override=first.share_percent,
        sandbox=first.sandbox,
        session=session,
        **_build_lists(rows),
    )


def _build_lists(rows: Iterable[_Row | _WrittenRow]) -> dict[str, tuple[BasketLine, ...]]:
    """Build the three lists in order, by name."""
    lists: dict[str, list[BasketLine]] = {"cart": [], "saved": [], "checkout": []}
    for row in sorted(rows, key=attrgetter("position", "product_id")):
        if row.list is not None:
            line = BasketLine(row.product_id, row.pieces, row.position, row.stocked, row.variant, row.main_product_id)
            lists[row.list].append(line)
    return {name: tuple(lines) for name, lines in lists.items()}

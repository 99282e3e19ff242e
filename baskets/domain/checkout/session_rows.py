"""Writes the rows of a session: itself, its items and its reservations. `planning` decides what they hold at the start."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import Statement
from baskets.domain.checkout.pricing import CatalogEntry, total_price
from baskets.domain.errors import Shortage
from baskets.models import CheckoutSession, StockReservation
from baskets.models.basket_snapshot import ActiveSession, BasketLine, ShownBasket

# Enqueued before its use, so that the start does not wait for the insert. A refused start leaves a gap.
NEXT_SESSION_ID = Statement(
    "next_session_id",
    """
SELECT nextval('baskets_checkoutsession_id_seq')
""",
)
# One reservation for each item that has something to hold, or that failed to.
INSERT_SESSION = Statement(
    "insert_session",
    """
WITH session AS (
    INSERT INTO baskets_checkoutsession
        (id, basket_id, partner_id, order_no, status, test_mode, late, started_at, expires_at,
         language, country, stripe_using_sdk, currency, full_price, started_by_key)
    VALUES (%(id)s, %(basket_id)s, %(partner_id)s, %(order_no)s, 'ACTIVE', %(test_mode)s, false, %(started_at)s, %(expires_at)s,
            %(language)s, %(country)s, %(stripe_using_sdk)s, %(currency)s, %(full_price)s, %(started_by_key)s)
), line AS (
    SELECT * FROM unnest(%(product_ids)s::text[], %(counts)s::bigint[], %(stocked)s::bigint[], %(positions)s::bigint[],
                         %(prices)s::bigint[], %(currencies)s::text[])
                  AS line (product_id, count, stocked, position, price, currency)
), item AS (
    INSERT INTO baskets_checkoutitem (basket_id, session_id, product_id, count, stocked, position, price, currency)
    SELECT %(basket_id)s, %(id)s, product_id, count, stocked, position, price, currency FROM line
)
INSERT INTO baskets_stockreservation
    (basket_id, session_id, product_id, pieces, status, created_at, expires_at, ended_at)
SELECT %(basket_id)s, %(id)s, product_id, count, CASE WHEN stocked < 0 THEN 'FAILED' ELSE 'HELD' END,
       %(started_at)s, %(expires_at)s, CASE WHEN stocked < 0 THEN %(started_at)s END
FROM line WHERE stocked IS NOT NULL
""",
)
# No other transaction saw these rows as held: this transaction inserted them.
CORRECT_SESSION = Statement(
    "correct_session",
    """
WITH failed AS (
    SELECT * FROM unnest(%(product_ids)s::text[], %(stocked)s::bigint[]) AS failed (product_id, stocked)
), reservation AS (
    UPDATE baskets_stockreservation r SET status = 'FAILED', ended_at = r.created_at
    FROM failed WHERE r.session_id = %(session)s AND r.basket_id = %(basket)s AND r.product_id = failed.product_id
), item AS (
    UPDATE baskets_checkoutitem i SET stocked = failed.stocked
    FROM failed WHERE i.session_id = %(session)s AND i.basket_id = %(basket)s AND i.product_id = failed.product_id
)
UPDATE baskets_checkoutsession SET full_price = %(full_price)s, currency = %(currency)s
WHERE id = %(session)s AND basket_id = %(basket)s
""",
)


class NewSession(NamedTuple):
    """A session at its start, when it is ACTIVE. `CheckoutSession` says what the columns mean."""

    id: int
    basket_id: UUID
    partner_id: int
    order_no: str
    test_mode: bool
    started_at: datetime
    expires_at: datetime
    language: str
    country: str
    stripe_using_sdk: bool
    currency: str
    full_price: int | None
    started_by_key: str

    @property
    def active(self) -> ActiveSession:
        """The session as its basket shows it."""
        return ActiveSession(
            id=self.id,
            order_no=self.order_no,
            test_mode=self.test_mode,
            started_at=self.started_at,
            expires_at=self.expires_at,
        )


@dataclass(frozen=True, kw_only=True)
class StartedSession:
    """A new session, and its basket after the start."""

    session: NewSession
    snapshot: ShownBasket


def read_new_session(basket_id: UUID, order_no: str) -> NewSession | None:
    """Read a session of a basket as it was at its start, or None."""
    columns = CheckoutSession.objects.filter(basket_id=basket_id, order_no=order_no).values_list(*NewSession._fields).first()
    return columns and NewSession._make(columns)


def enqueue_next_id() -> PendingResult:
    """Enqueue the next session id.

    :returns: one row with one column; a refused start leaves a gap.
    """
    return execute(NEXT_SESSION_ID, [])


def insert_session(session: NewSession, lines: tuple[BasketLine, ...], entries: Mapping[str, CatalogEntry]) -> None:
    """Insert a session with its items and reservations, as they are if all the stock is available."""
    bought = [entries[line.product_id] for line in lines]
    items = {
        "product_ids": [line.product_id for line in lines],
        "counts": [line.count for line in lines],
        "stocked": [line.stocked for line in lines],
        "positions": [line.position for line in lines],
        "prices": [entry.price for entry in bought],
        "currencies": [entry.currency for entry in bought],
    }
    execute(INSERT_SESSION, session._asdict() | items)


def insert_reservations(session: CheckoutSession, pieces_by_status: Mapping[str, Mapping[str, int]], *, at: datetime) -> None:
    """Insert reservations of a session after its start.

    :param pieces_by_status: pieces by product, by status; a product with 0 pieces gets no row.
    :param at: when they begin, and when those end that are not HELD.
    """
    StockReservation.objects.bulk_create(
        [
            StockReservation(
                basket_id=session.basket_id,
                session=session,
                product_id=product_id,
                status=status,
                pieces=pieces,
                created_at=at,
                expires_at=session.expires_at,
                ended_at=None if status == StockReservation.Status.HELD else at,
            )
            for status, by_product in pieces_by_status.items()
            for product_id, pieces in by_product.items()
            if pieces
        ]
    )


def correct_session(
    session: NewSession, lines: tuple[BasketLine, ...], entries: Mapping[str, CatalogEntry], shortages: Mapping[str, Shortage]
) -> tuple[NewSession, tuple[BasketLine, ...]]:
    """Correct the rows of products that were short: reservations, items, and the price.

    :returns: the session and the lines as corrected.
    """
    stocked = {product_id: shortage.available - shortage.wanted for product_id, shortage in shortages.items()}
    lines = tuple(line._replace(stocked=stocked.get(line.product_id, line.stocked)) for line in lines)
    full_price, currency = total_price(lines, entries)
    parameters = {
        "session": session.id,
        "basket": session.basket_id,
        "product_ids": list(stocked),
        "stocked": list(stocked.values()),
        "full_price": full_price,
        "currency": currency,
    }
    execute(CORRECT_SESSION, parameters)
    return session._replace(full_price=full_price, currency=currency), lines

"""Starts a checkout in one round trip, where nothing needs a decision. `sessions.start_session` does all the rest.

Note [Direct starts]
Nearly every start finds an open basket without a checkout, and all its pieces in stock. What it writes depends on the rows alone, so three
statements share a round trip with the key check and COMMIT: the lock of the basket, `START`, which writes what `sessions.start_session`
would write and returns the basket, and `RESERVE`. In any other state they write nothing. Where a limit may apply, nothing
is sent: see `may_start_directly`. With an Idempotency-Key nothing is sent either: `ApiViewSet.execute` decides that.

`START` reads the stock without a lock. If a product has too few pieces by then, `RESERVE` fails the transaction, and the next try sees the
new stock. COMMIT is sent with it, so no round trip passes while the stock rows are locked.

The rule is `sessions.start_session`. `tests/domain/checkout/test_twins.py` runs both and compares all rows that they leave, in states
derived from the models and the settings: it fails if a new rule stands in one of them only. README names the rules that it cannot find.
Source: ADR 74.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from baskets import conf
from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import Statement
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import LOCK_BASKET, NEXT_REVISION, join_by_key, write_baskets_of
from baskets.domain.baskets.timeline import AUTHOR, INSERT_INTO_EVENT, author
from baskets.domain.checkout.session_rows import NewSession, StartedSession
from baskets.domain.retries import StockChanged
from baskets.models.basket_snapshot import Owner, written_from_rows

# `planning` decides in the same way for a line whose product is listed, and has enough pieces or no limit. The active session is the one
# without an end: see Note [One statement for a basket]. `CASE WHEN a THEN b END > c` means `a AND b > c`, and leaves a plan no index but
# the primary key. The second one asks for no sandbox, and for no limit of a partner's share. Tables show the items as they were before the
# statement.
START = Statement(
    "start_directly",
    f"""
WITH opened AS (
    SELECT {NEXT_REVISION}, b.partner_id, coalesce(make_interval(secs => partner.hold_seconds), %(hold_time)s::interval) AS hold_time
    FROM baskets_basket b JOIN baskets_partner partner ON partner.id = b.partner_id
    WHERE b.id = %(basket_id)s
      AND CASE WHEN b.hidden_at IS NULL THEN b.expires_at END > greatest(statement_timestamp(), b.last_changed_at)
      AND CASE WHEN partner.sandbox_of_id IS NULL THEN coalesce(partner.share_percent, %(share_percent)s::int) END = 0
      AND NOT EXISTS (SELECT FROM baskets_checkoutsession active WHERE active.basket_id = b.id AND active.finished_at IS NULL)
), line AS (
    SELECT item.product_id, item.count, item.position, CASE WHEN stock.limited THEN item.count END AS stocked,
           p.price, p.currency, p.variant, p.main_product_id,
           p.listed IS TRUE AND (stock.limited IS NOT TRUE OR stock.available >= item.count) AS obtainable
    FROM baskets_basketitem item
    {join_by_key("baskets_product", "p")}
    {join_by_key("baskets_stock", "stock")}
    WHERE item.basket_id = %(basket_id)s AND item.list = 'cart'
), planned AS (
    SELECT opened.*, nextval('baskets_checkoutsession_id_seq') AS session_id, opened.at + opened.hold_time AS ends_at, cart.items, price.*
    FROM opened CROSS JOIN (
        SELECT bool_and(obtainable) AS obtainable, sum(price * line.count)::bigint AS total, min(currency) AS currency,
               count(price) = count(*) AND min(currency) = max(currency) AS has_price,
               jsonb_agg(shown ORDER BY position, product_id) AS items
        FROM line, LATERAL (SELECT line.product_id AS "productId", line.count, line.stocked) shown
    ) cart CROSS JOIN LATERAL (
        SELECT CASE WHEN has_price THEN cart.total END AS full_price, CASE WHEN has_price THEN cart.currency ELSE '' END AS currency
    ) price
    WHERE cart.obtainable
), session AS (
    INSERT INTO baskets_checkoutsession
        (id, basket_id, partner_id, order_no, status, test_mode, late, started_at, expires_at,
         language, country, stripe_using_sdk, currency, full_price, started_by_key)
    SELECT session_id, id, partner_id, %(order_no)s, 'ACTIVE', false, false, at, ends_at,
           %(language)s, %(country)s, %(stripe_using_sdk)s::boolean, currency, full_price, %(started_by_key)s
    FROM planned
), checkout_item AS (
    INSERT INTO baskets_checkoutitem (basket_id, session_id, product_id, count, stocked, position, price, currency)
    SELECT planned.id, session_id, product_id, count, stocked, position, line.price, line.currency FROM planned, line
), reservation AS (
    INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, pieces, status, created_at, expires_at)
    SELECT id, session_id, product_id, stocked, 'HELD', at, ends_at FROM planned, line WHERE stocked IS NOT NULL
), gone AS (
    DELETE FROM baskets_basketitem WHERE basket_id = (SELECT id FROM planned) AND list = 'cart'
), basket AS (
    {write_baskets_of("planned")}
), event AS (
    {INSERT_INTO_EVENT}SELECT id, events, revision, 'checkout_started', session_id, at, {AUTHOR},
        jsonb_build_object('orderNo', %(order_no)s::text, 'testMode', false, 'items', items)
    FROM planned
)
SELECT planned.at, planned.expires_at, NULL::timestamptz, shown.*, planned.session_id, planned.ends_at, planned.currency, planned.full_price
FROM planned, LATERAL (
    SELECT item.list, item.product_id, item.count, item.position, p.variant, p.main_product_id, NULL::bigint AS stocked
    FROM baskets_basketitem item {join_by_key("baskets_product", "p")}
    WHERE item.basket_id = planned.id AND item.list = 'saved'
    UNION ALL SELECT 'checkout', product_id, count, position, variant, main_product_id, stocked FROM line
) shown
""",  # noqa: S608 (its parts are constants)
)

# The stock rows are locked as Note [Stock rows are locked in order] in `stock.counters` says, by the last statement. As a part of `START`
# this would be slow in a crowd: for each stock row that another start has changed, PostgreSQL sets up the whole statement again. The
# update sees a row as it is under the lock, and divides by zero where it has too few pieces by then.
RESERVE = Statement(
    "reserve_of_start",
    """
WITH wanted AS (
    SELECT product_id, reservation.pieces FROM baskets_stockreservation reservation JOIN baskets_stock stock USING (product_id)
    WHERE reservation.basket_id = %(basket_id)s AND reservation.session_id = (
        SELECT id FROM baskets_checkoutsession WHERE order_no = %(order_no)s AND basket_id = %(basket_id)s
    )
    ORDER BY product_id FOR NO KEY UPDATE OF stock
)
UPDATE baskets_stock stock SET available = (stock.available - wanted.pieces) / (stock.available >= wanted.pieces)::int
FROM wanted WHERE stock.product_id = wanted.product_id
""",
)


@dataclass(frozen=True)
class PendingStart:
    """A direct start that is enqueued.

    :param pending: None if nothing is enqueued.
    :param given: what the caller knows of the session.
    """

    pending: PendingResult | None
    given: dict[str, Any]

    def result(self) -> StartedSession | None:
        """Return the new session and the basket after the start; None if nothing was written."""
        rows = self.pending.fetchall() if self.pending else []
        if not rows:
            return None
        at, *_, session_id, ends_at, currency, full_price = rows[0]
        stored = {"id": session_id, "started_at": at, "expires_at": ends_at, "currency": currency, "full_price": full_price}
        session = NewSession(test_mode=False, **stored | self.given)
        snapshot = written_from_rows((row[:-4] for row in rows), session=session.active)
        return StartedSession(session=session, snapshot=snapshot)


def may_start_directly(*, test_mode: bool, by_client_key: bool) -> bool:
    """Return whether a direct start can be tried: it knows no test mode, no limits of client keys and no limits of one user."""
    return not (test_mode or by_client_key or conf.starts_per_hour() or conf.pieces_per_checkout())


@transaction.atomic(savepoint=False)
def start_directly(
    *,
    owner: Owner,
    language: str = "",
    country: str = "",
    stripe_using_sdk: bool = False,
    limits: ClientLimits | None = None,
    order_no: str,
    actor: Actor,
) -> PendingStart:
    """Start a checkout of the whole cart if nothing needs a decision. See Note [Direct starts].

    Locks the basket, then stock rows by primary key. Waits for nothing, so that COMMIT is sent with the statements.

    :param language: two letters, or empty.
    :param country: two letters, or empty.
    :param limits: given if the key has become a client key since the call began; then nothing is started.
    :param order_no: an unused order number.
    :raises StockChanged: pieces that appeared to be available are sold.
    """
    if limits:
        return PendingStart(None, {})
    given = {
        "basket_id": owner.basket_id,
        "partner_id": owner.partner_id,
        "order_no": order_no,
        "language": language,
        "country": country,
        "stripe_using_sdk": stripe_using_sdk,
        "started_by_key": actor.key_prefix,
    }
    settings = {"hold_time": conf.hold_duration(), "lifetime": conf.basket_lifetime(), "share_percent": conf.partner_share_percent()}
    execute(LOCK_BASKET, [owner.basket_id])
    pending = execute(START, given | settings | author(actor))
    execute(RESERVE, {"order_no": order_no, "basket_id": owner.basket_id}, on_no_rows=StockChanged())
    return PendingStart(pending, given)

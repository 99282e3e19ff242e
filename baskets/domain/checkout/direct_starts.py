"""Starts a checkout in one round trip, where nothing needs a decision. `sessions.start_session` does all the rest.

Note [Direct starts]
Nearly every start finds an open basket without a checkout, and all its pieces in stock. What it writes depends on the rows alone, so four
statements share a round trip with the key check and COMMIT: the lock of the basket, `START`, which writes what `sessions.start_session`
would write and returns the basket, `LOCK_STOCK` and `RESERVE`. In any other state they write nothing. Where a limit may apply, nothing
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
from baskets.domain.baskets.store import LOCK_BASKET, write_baskets_of
from baskets.domain.baskets.timeline import AUTHOR, INSERT_INTO_EVENT, author
from baskets.domain.checkout.session_rows import NewSession, StartedSession
from baskets.domain.retries import StockChanged
from baskets.models.basket_snapshot import LISTS, Owner, read_written, snapshot_from_rows

# `planning` decides in the same way for a line whose product is listed, and has enough pieces or no limit. The active session is the one
# without an end: see Note [One statement for a basket]. `CASE WHEN a THEN b END > c` means `a AND b > c`, and leaves a plan no index but
# the primary key. The second one asks for no sandbox, and for no limit of a partner's share.
START = Statement(
    "start_directly",
    f"""
WITH opened AS (
    SELECT b.id, b.partner_id, b.revision + 1 AS revision, b.events + 1 AS events,
           greatest(statement_timestamp(), b.last_changed_at) AS at,
           coalesce(make_interval(secs => partner.hold_seconds), %(hold)s::interval) AS hold
    FROM baskets_basket b JOIN baskets_partner partner ON partner.id = b.partner_id
    WHERE b.id = %(basket_id)s
      AND CASE WHEN b.hidden_at IS NULL THEN b.expires_at END > greatest(statement_timestamp(), b.last_changed_at)
      AND CASE WHEN partner.sandbox_of_id IS NULL THEN coalesce(partner.share_percent, %(share_percent)s::int) END = 0
      AND NOT EXISTS (SELECT FROM baskets_checkoutsession active WHERE active.basket_id = b.id AND active.finished_at IS NULL)
), line AS (
    SELECT item.product_id, item.count, item.position, CASE WHEN stock.limited THEN item.count END AS stocked, p.price, p.currency,
           p.listed IS TRUE AND (stock.limited IS NOT TRUE OR stock.available >= item.count) AS obtainable
    FROM opened JOIN baskets_basketitem item ON item.basket_id = opened.id AND item.list = 'cart'
    LEFT JOIN baskets_product p USING (product_id) LEFT JOIN baskets_stock stock USING (product_id)
), started AS (
    SELECT opened.*, nextval('baskets_checkoutsession_id_seq') AS session_id, opened.at + opened.hold AS ends_at, cart.items, price.*
    FROM opened CROSS JOIN (
        SELECT bool_and(obtainable) AS obtainable, sum(price * count)::bigint AS total, min(currency) AS currency,
               count(price) = count(*) AND min(currency) = max(currency) AS has_price,
               jsonb_agg(jsonb_build_object('productId', product_id, 'count', count, 'stocked', stocked)
                         ORDER BY position, product_id) AS items
        FROM line
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
    FROM started
), item AS (
    INSERT INTO baskets_checkoutitem (basket_id, session_id, product_id, count, stocked, position, price, currency)
    SELECT started.id, session_id, product_id, count, stocked, position, line.price, line.currency FROM started, line
), hold AS (
    INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, pieces, status, created_at, expires_at)
    SELECT id, session_id, product_id, stocked, 'HELD', at, ends_at FROM started, line WHERE stocked IS NOT NULL
), gone AS (
    DELETE FROM baskets_basketitem item USING started WHERE item.basket_id = started.id AND item.list = 'cart'
), basket AS (
    {write_baskets_of("started")} RETURNING b.*
), event AS (
    {INSERT_INTO_EVENT}SELECT id, events, revision, 'checkout_started', session_id, at, {AUTHOR},
        jsonb_build_object('orderNo', %(order_no)s::text, 'testMode', false, 'items', items)
    FROM started
)
{
        read_written(
            "basket",
            join="CROSS JOIN started",
            session="started.session_id, %(order_no)s::text, false, started.at, started.ends_at",
            lines=f"{LISTS} AND i.list = 'saved' UNION ALL SELECT 'checkout', product_id, count, position, stocked FROM line",
            more=", started.currency, started.full_price",
        )
    }""",  # noqa: S608 (its parts are constants)
)

# The stock rows are locked and then updated, as Note [Stock rows are locked in order] in `stock.counters` says: by two statements, the
# last ones. As parts of `START` they would be slow in a crowd: for each stock row that another start has changed, PostgreSQL sets up the
# whole statement again.
HOLDS = """SELECT hold.product_id, hold.pieces
    FROM baskets_checkoutsession session
    JOIN baskets_stockreservation hold ON hold.session_id = session.id AND hold.basket_id = session.basket_id
    WHERE session.order_no = %(order_no)s AND session.basket_id = %(basket_id)s"""
LOCK_STOCK = Statement(
    "lock_stock_of_start",
    f"""
SELECT 1 FROM baskets_stock WHERE product_id = ANY (ARRAY(SELECT product_id FROM ({HOLDS}) AS hold))
ORDER BY product_id FOR NO KEY UPDATE
""",  # noqa: S608 (a constant of ours)
)
RESERVE = Statement(
    "reserve_of_start",
    f"""
WITH hold AS MATERIALIZED (
    {HOLDS}
), taken AS (
    UPDATE baskets_stock stock SET available = stock.available - hold.pieces
    FROM hold WHERE stock.product_id = hold.product_id AND stock.available >= hold.pieces
    RETURNING stock.product_id
)
SELECT 1 / ((SELECT count(*) FROM taken) = (SELECT count(*) FROM hold))::int
""",  # noqa: S608 (a constant of ours)
)


@dataclass(frozen=True)
class PendingStart:
    """A direct start that is enqueued.

    :param started: None if nothing is enqueued.
    :param given: what the caller knows of the session.
    """

    started: PendingResult | None
    given: dict[str, Any]

    def result(self) -> StartedSession | None:
        """Return the new session and the basket after the start; None if nothing was written."""
        rows = self.started.fetchall() if self.started else []
        snapshot = snapshot_from_rows(row[:-2] for row in rows)
        if snapshot is None or snapshot.session is None:
            return None
        new, (*_, currency, full_price) = snapshot.session, rows[0]
        stored = {"id": new.id, "started_at": new.started_at, "expires_at": new.expires_at, "currency": currency, "full_price": full_price}
        session = NewSession(test_mode=False, **stored | self.given)
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
    settings = {"hold": conf.hold_duration(), "lifetime": conf.basket_lifetime(), "share_percent": conf.partner_share_percent()}
    execute(LOCK_BASKET, [owner.basket_id])
    started = execute(START, given | settings | author(actor))
    execute(LOCK_STOCK, {"order_no": order_no, "basket_id": owner.basket_id})
    execute(RESERVE, {"order_no": order_no, "basket_id": owner.basket_id}, on_no_rows=StockChanged())
    return PendingStart(started, given)

"""Fills the database for the benchmark, by rows and in bulk: what a million domain calls would do in an hour. `check_baskets` agrees."""

import secrets
from collections.abc import Sequence

import psycopg

from baskets.models.baskets import basket_key

TABLES = "baskets_basket, baskets_basketitem, baskets_checkoutsession, baskets_checkoutitem, baskets_stockreservation, baskets_event"
PRODUCTS = 1000
SUPPLY = 10_000_000

STAGE = "CREATE TEMP TABLE staged (id uuid PRIMARY KEY, user_id text, order_no text, products int[]) ON COMMIT DROP"
BASKETS = """
INSERT INTO baskets_basket (id, partner_id, user_id, guest, revision, events, created_at, last_changed_at, expires_at)
SELECT id, %(partner)s, user_id, false, %(revision)s, %(revision)s, %(then)s, %(then)s, now() + interval '30 days' FROM staged
"""
CART = """
INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
SELECT id, 'bench-' || product, 'cart', 1, place FROM staged, unnest(products) WITH ORDINALITY AS line (product, place)
"""
SESSIONS = """
INSERT INTO baskets_checkoutsession
    (basket_id, partner_id, order_no, status, test_mode, late, started_at, expires_at,
     language, country, stripe_using_sdk, currency, full_price)
SELECT id, %(partner)s, order_no, 'ACTIVE', false, false, %(then)s,
       -- As in production, no two holds end at the same moment.
       %(hold)s + row_number() OVER () * interval '1 microsecond', '', '', false, 'EUR', 1999 * cardinality(products) FROM staged
"""
ITEMS = """
INSERT INTO baskets_checkoutitem (basket_id, session_id, product_id, count, stocked, position, price, currency)
SELECT staged.id, session.id, 'bench-' || product, 1, 1, place, 1999, 'EUR'
FROM staged JOIN baskets_checkoutsession session ON session.basket_id = staged.id,
     unnest(products) WITH ORDINALITY AS line (product, place)
"""
HOLDS = """
INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at)
SELECT staged.id, session.id, 'bench-' || product, 'HELD', 1, session.started_at, session.expires_at
FROM staged JOIN baskets_checkoutsession session ON session.basket_id = staged.id, unnest(products) AS line (product)
"""
EVENTS = """
INSERT INTO baskets_event (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT staged.id, number, number, 'item_placed', NULL, %(then)s, 'system', 'bench', '', '{}', '{}'
FROM staged, generate_series(1, %(items)s) AS number
"""
STARTED = """
INSERT INTO baskets_event (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT staged.id, %(revision)s, %(revision)s, 'checkout_started', session.id, %(then)s, 'system', 'bench', '', '{}',
       jsonb_build_object('orderNo', session.order_no, 'testMode', false, 'items', (
           SELECT jsonb_agg(jsonb_build_object('productId', 'bench-' || product, 'count', 1, 'stocked', 1))
           FROM unnest(staged.products) AS line (product)
       ))
FROM staged JOIN baskets_checkoutsession session ON session.basket_id = staged.id
"""
TAKE = """
UPDATE baskets_stock stock SET available = available - taken.pieces
FROM (SELECT 'bench-' || product AS product_id, count(*) AS pieces FROM staged, unnest(products) AS line (product) GROUP BY 1) AS taken
WHERE stock.product_id = taken.product_id
"""
PAGES = """
SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0))
FROM pg_statio_user_tables WHERE relname LIKE 'baskets_%'
"""
CATALOG = """
WITH product AS (
    INSERT INTO baskets_product (product_id, name, brand, variant, main_product_id, price, currency, listed)
    SELECT 'bench-' || n, 'Product ' || n, '', '', '', 1999, 'EUR', true FROM generate_series(0, %(last)s) AS n
    RETURNING product_id
), stock AS (
    INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported, reported_as_of)
    SELECT product_id, true, %(supply)s, 0, %(supply)s, now() FROM product
)
INSERT INTO baskets_stockadjustment (product_id, kind, delta, reported, as_of, reason, actor, created_at)
SELECT product_id, 'unsold', %(supply)s, %(supply)s, now(), 'benchmark', 'bench', now() FROM product
"""


def catalog(database_url: str) -> None:
    """Make the products `bench-0`, the hot one, to `bench-999`, with ample stock."""
    with psycopg.connect(database_url) as connection:
        connection.execute(CATALOG, {"last": PRODUCTS - 1, "supply": SUPPLY})


def fill(
    database_url: str,
    *,
    partner: int,
    users: Sequence[str],
    items: int,
    hot: bool = False,
    checkout: bool,
    lapsed: bool = False,
    vacuum: bool = True,
) -> None:
    """Give each user a basket with so many products: in the cart, or in an active checkout that holds a piece of each.

    :param hot: whether the first product is the same for all.
    :param lapsed: whether the hold has ended.
    :param vacuum: whether to vacuum and analyze the tables afterwards.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute(STAGE)
        with connection.cursor().copy("COPY staged FROM STDIN") as copy:
            for number, user in enumerate(users):
                # Neighbours share no product, and one user's products are far from each other.
                products = [1 + (number * 7 + place * 47) % (PRODUCTS - 1) for place in range(items)]
                if hot:
                    products[0] = 0
                copy.write_row((basket_key(partner_id=partner, user_id=user), user, secrets.token_hex(8).upper(), products))
        connection.execute("ANALYZE staged")
        then, hold = connection.execute(
            "SELECT now() - %s * interval '1 hour', now() + %s * interval '30 minutes'", [2 if lapsed else 0, -1 if lapsed else 1]
        ).fetchone() or (None, None)
        values = {"partner": partner, "items": items, "revision": items + checkout, "then": then, "hold": hold}
        connection.execute(BASKETS, values)
        connection.execute(EVENTS, values)  # Before that of the start: the ids of a basket's events have the order of their numbers.
        for statement in (SESSIONS, ITEMS, HOLDS, TAKE, STARTED) if checkout else (CART,):
            connection.execute(statement, values if "%(" in statement else None)
    if vacuum:
        vacuum_and_analyze(database_url)


def vacuum_and_analyze(database_url: str) -> None:
    """Vacuum and analyze the tables, as autovacuum does some time after so many changes."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"VACUUM ANALYZE {TABLES}")


def stop_autovacuum(database_url: str) -> None:
    """Let the statistics of the planner become old."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in TABLES.split(", "):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


def pages_read(database_url: str) -> int:
    """The pages of tables and indexes that statements have read so far, from memory or not; known some seconds late."""
    with psycopg.connect(database_url) as connection:
        (pages,) = connection.execute(PAGES).fetchone() or (0,)
    return int(pages)

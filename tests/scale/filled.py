"""Fills a database with sound baskets by the million: in SQL, because domain calls would take a day. For measuring, and for nothing else.

Of four baskets, one has a cart, one is in checkout, one has ordered, one has aborted. Only the keys of baskets come from
Python, since PostgreSQL has no SHA-1.
"""

from django.db import connection

from baskets.models import basket_key
from tests.factories import PartnerFactory

PRODUCTS = 1000

# What each kind of basket has been through: the kind of basket, the number of the event, what happened.
STEPS = """
(VALUES (0, 1, 'item_placed'), (0, 2, 'item_placed'),
        (1, 1, 'item_placed'), (1, 2, 'checkout_started'),
        (2, 1, 'item_placed'), (2, 2, 'checkout_started'), (2, 3, 'checkout_ordered'),
        (3, 1, 'item_placed'), (3, 2, 'checkout_started'), (3, 3, 'checkout_aborted')) AS step (type, number, kind)
"""
FILL = f"""
INSERT INTO baskets_product (product_id, name, brand, variant, main_product_id, price, currency, listed, created_at, updated_at)
SELECT 'p' || n, 'product', '', '', '', 100, 'EUR', true, start, start
FROM generate_series(0, {PRODUCTS} - 1) n, moment;

INSERT INTO baskets_basket (id, partner_id, user_id, guest, revision, events, created_at, last_changed_at, expires_at)
SELECT id, partner_id, user_id, false, steps, steps, start, start + steps * interval '1 second', start + interval '30 days'
FROM filled, moment;

INSERT INTO baskets_checkoutsession
    (basket_id, partner_id, order_no, status, test_mode, late, started_at, expires_at, released_at, finished_at, ended_revision,
     language, country, stripe_using_sdk, currency, full_price)
SELECT id, partner_id, 'N' || n, CASE type WHEN 1 THEN 'ACTIVE' WHEN 2 THEN 'ORDERED' ELSE 'ABORTED' END, false, false,
       start + interval '2 seconds', start + interval '1 day', CASE WHEN type = 3 THEN start + interval '3 seconds' END,
       CASE WHEN type > 1 THEN start + interval '3 seconds' END, CASE WHEN type > 1 THEN 3 END, '', '', false, 'EUR', 200
FROM filled, moment WHERE type > 0;

INSERT INTO baskets_checkoutitem (basket_id, session_id, product_id, count, stocked, position, price, currency)
SELECT f.id, s.id, product_id, 2, 2, 1, 100, 'EUR' FROM filled f JOIN baskets_checkoutsession s ON s.basket_id = f.id;

INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at)
SELECT f.id, s.id, product_id, CASE type WHEN 1 THEN 'HELD' WHEN 2 THEN 'SOLD' ELSE 'RELEASED' END, 2,
       s.started_at, s.expires_at, s.finished_at
FROM filled f JOIN baskets_checkoutsession s ON s.basket_id = f.id;

INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
SELECT id, product_id, 'cart', 2, 1 FROM filled WHERE type IN (0, 3)
UNION ALL SELECT id, 'p' || (n + 1) %% {PRODUCTS}, 'cart', 1, 2 FROM filled WHERE type = 0;

INSERT INTO baskets_event (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT f.id, number, number, kind, CASE WHEN kind LIKE 'checkout%%' THEN s.id END, start + number * interval '1 second',
       'key', 'measured', '', '{{}}',
       jsonb_build_object('items', jsonb_build_array(jsonb_build_object('productId', product_id, 'count', 2)))
FROM filled f CROSS JOIN moment JOIN {STEPS} USING (type) LEFT JOIN baskets_checkoutsession s ON s.basket_id = f.id;

INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported, reported_as_of)
SELECT p.product_id, true, 1000000 - coalesce(sum(r.pieces) FILTER (WHERE r.status IN ('HELD', 'SOLD')), 0), 0, 1000000, moment.start
FROM moment, baskets_product p LEFT JOIN baskets_stockreservation r USING (product_id) GROUP BY p.product_id, moment.start;

INSERT INTO baskets_stockadjustment (product_id, kind, delta, reported, as_of, reason, actor, created_at)
SELECT product_id, 'unsold', 1000000, 1000000, start, 'measured', 'measured', start FROM baskets_stock, moment;
"""  # noqa: S608 (made of constants of this module)


def fill(baskets: int) -> None:
    """Fill the empty tables with so many baskets."""
    partner = PartnerFactory()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("CREATE TEMPORARY TABLE moment AS SELECT statement_timestamp() - interval '2 hours' AS start")
        cursor.execute(
            "CREATE TEMPORARY TABLE filled "
            '(n bigint, id uuid, partner_id bigint, user_id text, type int, steps int, product_id varchar(255) COLLATE "C")'
        )
        with cursor.copy("COPY filled (n, id, partner_id, user_id, type, steps, product_id) FROM STDIN") as copy:
            for n in range(baskets):
                user = f"user-{n}"
                kind = n % 4
                copy.write_row(
                    (n, basket_key(partner_id=partner.pk, user_id=user), partner.pk, user, kind, 2 if kind < 2 else 3, f"p{n % PRODUCTS}")
                )
        cursor.execute("ANALYZE filled")
        for statement in FILL.replace("%%", "%").split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("DROP TABLE filled, moment")
        cursor.execute("ANALYZE")
        cursor.execute("RESET statement_timeout")

"""Invariants of baskets, their lists, and stored responses."""

from baskets.domain.maintenance.invariants.invariant import Invariant
from baskets.models.products import PRODUCT_ID_PATTERN, SANDBOX_PREFIX

INVARIANTS = (
    Invariant(
        slug="one_basket_per_user",
        rule=3,
        sentence="A user of a partner has one basket.",
        sql="""
        SELECT partner_id AS partner, min(id::text) AS basket, count(*) AS baskets
        FROM baskets_basket GROUP BY partner_id, user_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        slug="one_list_per_product",
        rule=3,
        sentence="A product is in a basket's cart or saved list once.",
        sql="""
        SELECT basket_id AS basket, product_id, count(*) AS times
        FROM baskets_basketitem GROUP BY basket_id, product_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        slug="items_whole",
        rule=2,
        sentence="An item has pieces, is in a known list, and has its basket.",
        sql="""
        SELECT i.basket_id AS basket, i.product_id, i.list, i.count
        FROM baskets_basketitem i LEFT JOIN baskets_basket b ON b.id = i.basket_id
        WHERE (i.count > 0 AND i.list IN ('cart', 'saved') AND b.id IS NOT NULL) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="items_have_their_product",
        rule=2,
        sentence="An item of a list or a checkout is of a product of the catalog.",
        sql="""
        SELECT item.kind, item.id, item.basket_id AS basket, item.product_id
        FROM (
            SELECT 'list' AS kind, id, basket_id, product_id FROM baskets_basketitem
            UNION ALL SELECT 'checkout', id, basket_id, product_id FROM baskets_checkoutitem
        ) item
        LEFT JOIN baskets_product p ON p.product_id = item.product_id
        WHERE p.product_id IS NULL
        """,
    ),
    Invariant(
        slug="items_can_be_named",
        rule=2,
        sentence="An item in the cart or the saved list has a product id that every call can name.",
        sql="""
        SELECT basket_id AS basket, list, product_id FROM baskets_basketitem
        WHERE product_id IN (SELECT product_id FROM baskets_product WHERE product_id !~ %s)
        """,
        parameters=lambda: [PRODUCT_ID_PATTERN],
    ),
    Invariant(
        slug="sandbox_is_apart",
        rule=1,
        sentence="Baskets of a sandbox contain and buy only products of the sandbox, and no other basket does.",
        sql="""
        SELECT b.id AS basket, part.product_id FROM baskets_basket b
        JOIN baskets_partner p ON p.id = b.partner_id
        JOIN (
            SELECT basket_id, product_id FROM baskets_basketitem
            UNION ALL SELECT basket_id, product_id FROM baskets_checkoutitem
        ) part ON part.basket_id = b.id
        WHERE starts_with(part.product_id, %s) <> (p.sandbox_of_id IS NOT NULL)
        """,
        parameters=lambda: [SANDBOX_PREFIX],
    ),
    Invariant(
        slug="closed_baskets_are_empty",
        rule=2,
        sentence="A deleted or expired basket is empty and has no active checkout.",
        sql="""
        SELECT b.id AS basket, b.hidden_at FROM baskets_basket b
        WHERE b.hidden_at IS NOT NULL AND (
            EXISTS (SELECT FROM baskets_basketitem i WHERE i.basket_id = b.id)
            OR EXISTS (SELECT FROM baskets_checkoutsession s WHERE s.basket_id = b.id AND s.status = 'ACTIVE')
        )
        """,
    ),
    Invariant(
        slug="stored_responses_are_complete",
        rule=5,
        sentence="A stored response is complete, of a call that succeeded, and the only one of its basket and key.",
        sql="""
        SELECT basket_id AS basket, id AS record, status
        FROM (SELECT *, count(*) OVER (PARTITION BY basket_id, key) AS alike FROM baskets_idempotencyrecord) r
        WHERE (
            alike = 1 AND status BETWEEN 200 AND 299 AND body IS NOT NULL AND octet_length(fingerprint) = 32
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="times_in_order",
        rule=8,
        sentence="Nothing ends before it begins.",
        sql="""
        SELECT part.kind, part.id, part.basket FROM (
            SELECT 'basket' AS kind, id::text, id AS basket,
                   created_at <= last_changed_at AND created_at < expires_at
                   AND (guest OR last_changed_at < expires_at)
                   AND (hidden_at IS NULL OR hidden_at >= created_at) AS sane
            FROM baskets_basket
            UNION ALL
            SELECT 'session', id::text, basket_id,
                   started_at < expires_at AND (finished_at IS NULL OR finished_at >= started_at)
                   AND (released_at IS NULL OR released_at BETWEEN started_at AND finished_at)
                   AND (reversed_at IS NULL OR reversed_at >= finished_at)
            FROM baskets_checkoutsession
            UNION ALL
            SELECT 'reservation', id::text, basket_id, ended_at IS NULL OR ended_at >= created_at
            FROM baskets_stockreservation
            UNION ALL
            SELECT 'attention', id::text, basket_id, settled_at IS NULL OR settled_at >= created_at
            FROM baskets_attention
        ) part
        WHERE part.sane IS NOT TRUE
        """,
    ),
    Invariant(
        slug="nothing_from_the_future",
        rule=8,
        sentence="Nothing has happened later than now, by the database's clock.",
        sql="""
        SELECT part.kind, part.id, part.at FROM (
            SELECT 'basket' AS kind, id::text, greatest(created_at, last_changed_at, hidden_at) AS at FROM baskets_basket
            UNION ALL SELECT 'session', id::text, greatest(started_at, released_at, finished_at, reversed_at)
                FROM baskets_checkoutsession
            UNION ALL SELECT 'reservation', id::text, greatest(created_at, ended_at) FROM baskets_stockreservation
            UNION ALL SELECT 'event', id::text, at FROM baskets_event
            UNION ALL SELECT 'attention', id::text, greatest(created_at, settled_at) FROM baskets_attention
            UNION ALL SELECT 'adjustment', id::text, greatest(created_at, as_of) FROM baskets_stockadjustment
            UNION ALL SELECT 'answer', id::text, created_at FROM baskets_idempotencyrecord
        ) part
        WHERE (part.at <= statement_timestamp() + interval '1 second') IS NOT TRUE
        """,
    ),
    Invariant(
        slug="moved_baskets_have_arrived",
        rule=2,
        sentence="Baskets that have left for another cell have arrived there; else run `move_slot` again, with the same slots.",
        sql="SELECT id AS batch, cell, created_at FROM baskets_movingbatch WHERE baskets <> ''",
    ),
)

"""Invariants of checkout sessions: one active session per basket, and every item and hold accounted for."""

from baskets.domain.checkout import attention
from baskets.domain.maintenance.invariants.invariant import Invariant

# What each checkout item's reservations add up to, by state.
RESERVED = """
SELECT session_id, product_id,
       coalesce(sum(pieces) FILTER (WHERE status = 'HELD'), 0) AS held,
       coalesce(sum(pieces) FILTER (WHERE status = 'SOLD'), 0) AS sold,
       coalesce(sum(pieces) FILTER (WHERE status = 'RELEASED'), 0) AS released,
       coalesce(sum(pieces) FILTER (WHERE status = 'FAILED'), 0) AS failed,
       coalesce(sum(pieces) FILTER (WHERE status = 'SHORT'), 0) AS short
FROM baskets_stockreservation
GROUP BY session_id, product_id
"""
# How often staff released the hold of an item, held a failed one again, or found that nothing has to be held any more.
REPAIRED = """
SELECT session_id, product_id, sum(freed)::bigint AS freed, sum(again)::bigint AS again, sum(unlimited)::bigint AS unlimited
FROM (
    SELECT session_id, data ->> 'productId' AS product_id, 1 AS freed, 0 AS again, 0 AS unlimited
    FROM baskets_event WHERE kind = 'repaired' AND data ->> 'repair' = 'release'
    UNION ALL
    SELECT e.session_id, held.key, 0, 1, 0 FROM baskets_event e CROSS JOIN LATERAL jsonb_each(e.data -> 'held') held
    WHERE e.kind = 'repaired' AND e.data ->> 'repair' = 'hold_again'
    UNION ALL
    SELECT e.session_id, open.value, 0, 0, 1
    FROM baskets_event e CROSS JOIN LATERAL jsonb_array_elements_text(e.data -> 'unlimited') open
    WHERE e.kind = 'repaired' AND e.data ->> 'repair' = 'hold_again'
) recorded
GROUP BY session_id, product_id
"""

INVARIANTS = (
    Invariant(
        slug="one_active_checkout",
        rule=3,
        sentence="A basket has one active checkout at most.",
        sql="""
        SELECT basket_id AS basket, count(*) AS active FROM baskets_checkoutsession
        WHERE status = 'ACTIVE' GROUP BY basket_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        slug="sessions_whole",
        rule=5,
        sentence="A session has a known state and exactly the times that belong to it; only an order can be late or reversed.",
        sql="""
        SELECT id AS session, basket_id AS basket, order_no, status, late, released_at, finished_at, ended_revision, reversed_at
        FROM baskets_checkoutsession
        WHERE ((reversed_at IS NULL OR status = 'ORDERED') AND CASE
                   WHEN status = 'ACTIVE' THEN
                       NOT late AND released_at IS NULL AND finished_at IS NULL AND ended_revision IS NULL
                   WHEN status = 'ORDERED' THEN
                       late = (released_at IS NOT NULL) AND finished_at IS NOT NULL AND ended_revision IS NOT NULL
                   WHEN status IN ('ABORTED', 'EXPIRED') THEN
                       NOT late AND released_at IS NOT NULL AND finished_at IS NOT NULL AND ended_revision IS NOT NULL
                   ELSE false
               END) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="one_session_per_order_number",
        rule=5,
        sentence="An order number names one session.",
        sql="SELECT order_no, count(*) AS sessions FROM baskets_checkoutsession GROUP BY order_no HAVING count(*) > 1",
    ),
    Invariant(
        slug="session_ended_within_its_basket",
        rule=5,
        sentence="No session ended at a revision that its basket has not reached.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no, s.ended_revision, b.revision
        FROM baskets_checkoutsession s LEFT JOIN baskets_basket b ON b.id = s.basket_id
        WHERE s.ended_revision IS NOT NULL AND (s.ended_revision BETWEEN 1 AND b.revision) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="session_buys_something",
        rule=2,
        sentence="Every session buys at least one item, and has each product once.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no
        FROM baskets_checkoutsession s
        LEFT JOIN baskets_checkoutitem i ON i.session_id = s.id
        GROUP BY s.id
        HAVING count(*) FILTER (WHERE i.id IS NOT NULL AND coalesce(i.stocked, 1) > 0) = 0
            OR count(i.product_id) <> count(DISTINCT i.product_id)
        """,
    ),
    Invariant(
        slug="checkout_items_whole",
        rule=2,
        sentence="A checkout item has pieces, and records that its whole count is held, that nothing need be held, or what is missing.",
        sql="""
        SELECT id AS item, basket_id AS basket, product_id, count, stocked FROM baskets_checkoutitem
        WHERE (count > 0 AND (stocked IS NULL OR stocked = count OR stocked BETWEEN -count AND -1)) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="released_items_are_recorded",
        rule=2,
        sentence="An item is marked as released by staff exactly where the timeline records it, and since that moment.",
        sql="""
        SELECT i.id AS item, i.basket_id AS basket, i.product_id, i.count, i.stocked, i.released_at, recorded.at
        FROM baskets_checkoutitem i
        LEFT JOIN (
            SELECT session_id, data ->> 'productId' AS product_id, max(at) AS at FROM baskets_event
            WHERE kind = 'repaired' AND data ->> 'repair' = 'release' GROUP BY 1, 2
        ) recorded USING (session_id, product_id)
        WHERE i.released_at IS DISTINCT FROM CASE WHEN i.stocked < 0 THEN recorded.at END
        """,
    ),
    Invariant(
        slug="reservations_follow_their_session",
        rule=4,
        sentence=(
            "The reservations of an item follow its session: HELD while it is active, SOLD if ordered, RELEASED if aborted or "
            "expired; RELEASED, then SOLD and SHORT for its whole count, if ordered late; FAILED stays. The timeline records each "
            "hold that staff released or made again."
        ),
        sql=f"""
        SELECT i.session_id AS session, i.basket_id AS basket, s.order_no, s.status, s.late, i.product_id, i.count,
               i.stocked, r.held, r.sold, r.released, r.failed, r.short, t.freed, t.again
        FROM baskets_checkoutitem i
        JOIN baskets_checkoutsession s ON s.id = i.session_id
        LEFT JOIN ({RESERVED}) found ON found.session_id = i.session_id AND found.product_id = i.product_id
        LEFT JOIN ({REPAIRED}) recorded ON recorded.session_id = i.session_id AND recorded.product_id = i.product_id
        CROSS JOIN LATERAL (
            SELECT coalesce(found.held, 0) AS held, coalesce(found.sold, 0) AS sold,
                   coalesce(found.released, 0) AS released, coalesce(found.failed, 0) AS failed,
                   coalesce(found.short, 0) AS short, greatest(coalesce(i.stocked, 0), 0) AS stocked
        ) r
        CROSS JOIN LATERAL (
            SELECT coalesce(recorded.freed, 0) AS freed, coalesce(recorded.again, 0) AS again,
                   coalesce(recorded.unlimited, 0) + coalesce(i.stocked < 0, false)::int AS without
        ) t
        WHERE NOT s.test_mode AND (
            r.failed = i.count * (t.again - t.freed + t.without)
            AND r.released = i.count * t.freed + CASE WHEN s.late OR s.status IN ('ABORTED', 'EXPIRED') THEN r.stocked ELSE 0 END
            AND CASE
                    WHEN s.status = 'ACTIVE' THEN (r.held, r.sold, r.short) = (r.stocked, 0, 0)
                    WHEN s.status = 'ORDERED' AND NOT s.late THEN (r.held, r.sold, r.short) = (0, r.stocked, 0)
                    WHEN s.status = 'ORDERED' AND coalesce(i.stocked, 1) > 0 THEN r.held = 0 AND r.sold + r.short IN (0, i.count)
                    WHEN s.status IN ('ORDERED', 'ABORTED', 'EXPIRED') THEN (r.held, r.sold, r.short) = (0, 0, 0)
                END
        ) IS NOT TRUE
        """,  # noqa: S608 (a constant of this module)
    ),
    Invariant(
        slug="reservation_has_its_item",
        rule=4,
        sentence="Every reservation is of an item of its session.",
        sql="""
        SELECT r.id AS reservation, r.basket_id AS basket, r.session_id AS session, r.product_id, r.status
        FROM baskets_stockreservation r
        LEFT JOIN baskets_checkoutitem i ON i.session_id = r.session_id AND i.product_id = r.product_id
        WHERE i.id IS NULL
        """,
    ),
    Invariant(
        slug="hold_ends_with_its_session",
        rule=4,
        sentence="A hold ends when its session's does.",
        sql="""
        SELECT r.id AS reservation, r.basket_id AS basket, r.product_id, r.expires_at, s.expires_at AS session_expires_at
        FROM baskets_stockreservation r LEFT JOIN baskets_checkoutsession s ON s.id = r.session_id
        WHERE r.status = 'HELD' AND r.expires_at IS DISTINCT FROM s.expires_at
        """,
    ),
    Invariant(
        slug="test_sessions_hold_nothing",
        rule=1,
        sentence="A test session has no reservation, and its items say that nothing is held.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no
        FROM baskets_checkoutsession s
        WHERE s.test_mode AND (
            EXISTS (SELECT FROM baskets_stockreservation r WHERE r.session_id = s.id)
            OR EXISTS (SELECT FROM baskets_checkoutitem i WHERE i.session_id = s.id AND i.stocked IS NOT NULL)
        )
        """,
    ),
    Invariant(
        slug="reservations_end_when_their_session_does",
        rule=4,
        sentence=(
            "A hold is sold or released when its session ends, or when staff released it; pieces of a late order are sold at the "
            "time of the late order."
        ),
        sql="""
        SELECT r.id AS reservation, r.basket_id AS basket, r.session_id AS session, r.status, r.created_at, r.ended_at
        FROM baskets_stockreservation r JOIN baskets_checkoutsession s ON s.id = r.session_id
        WHERE (r.created_at >= s.started_at AND CASE
                   WHEN s.late AND r.status IN ('SOLD', 'SHORT') THEN
                       (r.created_at, r.ended_at) = (s.finished_at, s.finished_at)
                   WHEN r.status = 'SOLD' THEN r.ended_at = s.finished_at
                   WHEN r.status = 'RELEASED' THEN coalesce(r.ended_at = s.released_at, false) OR EXISTS (
                       SELECT FROM baskets_event e
                       WHERE e.basket_id = r.basket_id AND e.session_id = r.session_id AND e.at = r.ended_at
                         AND e.kind = 'repaired' AND e.data ->> 'repair' = 'release' AND e.data ->> 'productId' = r.product_id
                   )
                   WHEN r.status = 'FAILED' THEN r.created_at = r.ended_at
                   WHEN r.status = 'HELD' THEN true
               END) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="session_within_its_basket",
        rule=8,
        sentence="A session starts after its basket was created, and its start and end are changes of the basket.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no, s.started_at, s.finished_at, b.created_at, b.last_changed_at
        FROM baskets_checkoutsession s LEFT JOIN baskets_basket b ON b.id = s.basket_id
        WHERE (
            s.started_at BETWEEN b.created_at AND b.last_changed_at
            AND (s.released_at IS NULL OR s.released_at <= b.last_changed_at)
            AND (s.finished_at IS NULL OR s.late OR s.finished_at <= b.last_changed_at)
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="price_adds_up",
        rule=5,
        sentence="The price of a checkout is the sum of the items that can be ordered, and null if one price is unknown.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no, s.full_price, s.currency, i.price, i.currencies
        FROM baskets_checkoutsession s
        LEFT JOIN (
            SELECT session_id, sum(price * count) AS price, count(*) = count(price) AS priced,
                   count(DISTINCT currency) AS currencies, min(currency) AS currency
            FROM baskets_checkoutitem WHERE coalesce(stocked, 1) > 0 GROUP BY session_id
        ) i ON i.session_id = s.id
        WHERE (s.full_price, s.currency) IS DISTINCT FROM (
            CASE WHEN i.priced AND i.currencies = 1 THEN i.price END,
            CASE WHEN i.priced AND i.currencies = 1 THEN i.currency ELSE '' END
        )
        """,
    ),
    Invariant(
        slug="one_basket_for_all_of_a_session",
        rule=3,
        sentence="Items, reservations, flags and events carry the basket of their session.",
        sql="""
        SELECT part.kind, part.id, part.basket_id AS basket, part.session_id AS session, s.basket_id AS session_basket
        FROM (
            SELECT 'item' AS kind, id, basket_id, session_id FROM baskets_checkoutitem
            UNION ALL SELECT 'reservation', id, basket_id, session_id FROM baskets_stockreservation
            UNION ALL SELECT 'attention', id, basket_id, session_id FROM baskets_attention
            UNION ALL SELECT 'event', id, basket_id, session_id FROM baskets_event WHERE session_id IS NOT NULL
        ) part
        LEFT JOIN baskets_checkoutsession s ON s.id = part.session_id
        WHERE part.basket_id IS DISTINCT FROM s.basket_id
        """,
    ),
    Invariant(
        slug="short_pieces_are_flagged",
        rule=1,
        sentence="Short pieces belong to a late order and are flagged for staff, and every flag for short pieces has some.",
        sql="""
        SELECT coalesce(r.session_id, a.session_id) AS session, coalesce(r.basket_id, a.basket_id) AS basket
        FROM (
            SELECT DISTINCT r.session_id, r.basket_id, s.status = 'ORDERED' AND s.late AS late
            FROM baskets_stockreservation r LEFT JOIN baskets_checkoutsession s ON s.id = r.session_id
            WHERE r.status = 'SHORT'
        ) r
        FULL JOIN (SELECT session_id, basket_id FROM baskets_attention WHERE reason = 'short') a USING (session_id)
        WHERE r.late IS NOT TRUE OR a.session_id IS NULL
        """,
    ),
    Invariant(
        slug="flags_whole",
        rule=5,
        sentence="A flag is of a session that has ended, once for each reason, and names who settled it.",
        sql="""
        SELECT a.id AS attention, a.basket_id AS basket, a.session_id AS session, a.reason
        FROM (SELECT *, count(*) OVER (PARTITION BY session_id, reason) AS alike FROM baskets_attention) a
        LEFT JOIN baskets_checkoutsession s ON s.id = a.session_id
        WHERE (
            a.alike = 1
            AND s.status <> 'ACTIVE'
            AND a.reason IN ('checkout_aborted', 'checkout_expired', 'out_of_stock', 'basket_changed', 'short')
            AND (a.settled_at IS NOT NULL) = (a.settled_by <> '')
            AND (a.settled_at IS NOT NULL OR NOT a.merged)
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="flags_end_with_their_cause",
        rule=5,
        sentence="An order has no open flag of an earlier refused report, and a reversed order none for short pieces.",
        sql="""
        SELECT a.id AS attention, a.basket_id AS basket, a.session_id AS session, a.reason, a.created_at, s.finished_at, s.reversed_at
        FROM baskets_attention a JOIN baskets_checkoutsession s ON s.id = a.session_id
        WHERE a.settled_at IS NULL AND s.status = 'ORDERED'
          AND CASE WHEN a.reason = 'short' THEN s.reversed_at IS NOT NULL ELSE a.created_at < s.finished_at END
        """,
    ),
    Invariant(
        slug="open_flags_are_bounded",
        rule=5,
        sentence="A basket has no more open flags of refused reports than the limit.",
        sql="""
        SELECT basket_id AS basket, count(*) AS open FROM baskets_attention
        WHERE settled_at IS NULL AND reason <> 'short' GROUP BY basket_id HAVING count(*) > %s
        """,
        parameters=lambda: [attention.MAX_OPEN],
    ),
    Invariant(
        slug="returned_items_are_in_the_cart",
        rule=2,
        sentence=(
            "Until a basket changes after its last session, the returned items are in the cart with their whole count: "
            "every item after an abort or expiry, the failed ones after an order."
        ),
        sql="""
        SELECT i.session_id AS session, i.basket_id AS basket, i.product_id, i.count, cart.count AS in_cart
        FROM baskets_checkoutsession s
        JOIN baskets_basket b ON b.id = s.basket_id AND b.revision = s.ended_revision AND b.hidden_at IS NULL
        JOIN baskets_checkoutitem i ON i.session_id = s.id
        LEFT JOIN baskets_basketitem cart
            ON cart.basket_id = b.id AND cart.product_id = i.product_id AND cart.list = 'cart'
        WHERE (s.status IN ('ABORTED', 'EXPIRED') OR (s.status = 'ORDERED' AND NOT s.late AND i.stocked < 0))
          AND (cart.count >= i.count) IS NOT TRUE
        """,
    ),
)

"""Invariants of stock: nothing is sold twice, and supply changes only through recorded adjustments."""

from baskets.domain.maintenance.invariants.invariant import Invariant

# Pieces that a product's reservations hold or have sold.
TAKEN = """
SELECT product_id,
       coalesce(sum(pieces) FILTER (WHERE status = 'HELD'), 0) AS held,
       coalesce(sum(pieces) FILTER (WHERE status = 'SOLD'), 0) AS sold
FROM baskets_stockreservation
WHERE status IN ('HELD', 'SOLD')
GROUP BY product_id
"""

INVARIANTS = (
    Invariant(
        slug="supply_equation",
        rule=1,
        sentence="The supply of each product is what is available, held and sold, less the shortfall.",
        sql=f"""
        SELECT s.product_id, coalesce(a.supply, 0) AS supply, s.available, coalesce(r.held, 0) AS held,
               coalesce(r.sold, 0) AS sold, s.shortfall
        FROM baskets_stock s
        LEFT JOIN (
            SELECT product_id, sum(delta) AS supply FROM baskets_stockadjustment GROUP BY product_id
        ) a USING (product_id)
        LEFT JOIN ({TAKEN}) r USING (product_id)
        WHERE coalesce(a.supply, 0)
              IS DISTINCT FROM s.available + coalesce(r.held, 0) + coalesce(r.sold, 0) - s.shortfall
        """,  # noqa: S608 (a constant of this module)
    ),
    Invariant(
        slug="stock_behind_reservations",
        rule=1,
        sentence="Every piece held or sold is of a product with a stock row.",
        sql=f"""
        SELECT r.product_id, r.held, r.sold
        FROM ({TAKEN}) r LEFT JOIN baskets_stock s USING (product_id)
        WHERE s.product_id IS NULL
        """,  # noqa: S608 (a constant of this module)
    ),
    Invariant(
        slug="stock_counters",
        rule=1,
        sentence="Available and shortfall are never below zero, and one of them is zero.",
        sql="""
        SELECT product_id, available, shortfall FROM baskets_stock
        WHERE (available >= 0 AND shortfall >= 0 AND (available = 0 OR shortfall = 0)) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="shortfall_within_reservations",
        rule=1,
        sentence="Shortfall is never more than what is held, was sold, and was ordered without a hold.",
        sql=f"""
        SELECT s.product_id, s.shortfall, coalesce(r.held, 0) AS held, coalesce(r.sold, 0) AS sold, coalesce(u.unheld, 0) AS unheld
        FROM baskets_stock s LEFT JOIN ({TAKEN}) r USING (product_id)
        LEFT JOIN (
            SELECT product_id, -sum(delta) AS unheld FROM baskets_stockadjustment WHERE kind = 'unheld' GROUP BY product_id
        ) u USING (product_id)
        WHERE s.shortfall > coalesce(r.held, 0) + coalesce(r.sold, 0) + coalesce(u.unheld, 0)
        """,  # noqa: S608 (a constant of this module)
    ),
    Invariant(
        slug="adjustments_whole",
        rule=1,
        sentence="Each adjustment has a reason, a report its number, half of a move its pieces; becoming unlimited changes no supply.",
        sql="""
        SELECT id AS adjustment, product_id, kind, delta, reported FROM baskets_stockadjustment
        WHERE (reason <> '' AND CASE kind
                   WHEN 'unsold' THEN reported >= 0
                   WHEN 'unlimited' THEN reported IS NULL AND delta = 0
                   WHEN 'supply' THEN reported IS NULL AND (move IS NULL OR moved <> 0 AND delta IN (0, moved) AND other_cell > 0)
                   WHEN 'unheld' THEN reported IS NULL AND delta < 0
                   WHEN 'purged' THEN reported IS NULL AND delta < 0
                   ELSE false
               END) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="limited_as_last_reported",
        rule=1,
        sentence="A product is limited if the report that counts has a number, and no recorded report is of a later moment.",
        sql="""
        SELECT s.product_id, s.limited, s.reported, s.reported_as_of, last.as_of AS last_recorded
        FROM baskets_stock s
        LEFT JOIN (
            SELECT product_id, max(as_of) AS as_of FROM baskets_stockadjustment WHERE kind IN ('unsold', 'unlimited') GROUP BY product_id
        ) last USING (product_id)
        WHERE s.limited IS DISTINCT FROM (s.reported IS NOT NULL) OR last.as_of > s.reported_as_of
        """,
    ),
    Invariant(
        slug="available_as_reported",
        rule=1,
        sentence="The free pieces of a limited product are those reported, less those held or sold since, plus those supplied since.",
        # A sale under way while a report is applied is in doubt: `ended_at` is before the report, but the report counted its pieces
        # as held. So of the pieces sold in the minute before a report, any number may count.
        sql="""
        SELECT s.product_id, s.reported, s.reported_as_of, s.available, s.shortfall, sums.held, sums.sold, sums.under_way, sums.supplied
        FROM baskets_stock s CROSS JOIN LATERAL (
            SELECT
                (SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation
                 WHERE product_id = s.product_id AND status = 'HELD') AS held,
                (SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation
                 WHERE product_id = s.product_id AND status = 'SOLD' AND ended_at > s.reported_as_of) AS sold,
                (SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation
                 WHERE product_id = s.product_id AND status = 'SOLD' AND ended_at <= s.reported_as_of
                   AND ended_at > s.reported_as_of - interval '1 minute') AS under_way,
                (SELECT coalesce(sum(delta), 0) FROM baskets_stockadjustment
                 WHERE product_id = s.product_id AND kind IN ('supply', 'unheld', 'purged') AND as_of > s.reported_as_of) AS supplied
        ) sums
        WHERE s.limited
          AND (s.reported - sums.held - sums.sold + sums.supplied - (s.available - s.shortfall) BETWEEN 0 AND sums.under_way) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="reservations_whole",
        rule=1,
        sentence="A reservation has pieces and a known state, and has ended unless it is held.",
        sql="""
        SELECT id AS reservation, basket_id AS basket, product_id, status, pieces, ended_at
        FROM baskets_stockreservation
        WHERE (pieces > 0 AND CASE
                   WHEN status = 'HELD' THEN ended_at IS NULL
                   WHEN status IN ('SOLD', 'RELEASED', 'FAILED', 'SHORT') THEN ended_at IS NOT NULL
                   ELSE false
               END) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="one_live_reservation",
        rule=1,
        sentence="A product of a session is held or sold at most once.",
        sql="""
        SELECT session_id AS session, product_id, count(*) AS reservations FROM baskets_stockreservation
        WHERE status IN ('HELD', 'SOLD') GROUP BY session_id, product_id HAVING count(*) > 1
        """,
    ),
)

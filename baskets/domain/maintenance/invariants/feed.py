"""Invariants of the feed: every event has one position, without gaps, in the order of its basket, and is counted once."""

from baskets.domain.events import activity
from baskets.domain.maintenance.invariants.invariant import Invariant

# The counts of the last hours, which no purge of events reaches: it keeps what is younger than a day.
RECENT = "(SELECT date_bin('1 hour', statement_timestamp() - interval '22 hours', 'epoch'))"
COUNTED_POSITION = "(SELECT position FROM baskets_activitystate)"

INVARIANTS = (
    Invariant(
        slug="positions_without_gaps",
        rule=7,
        sentence="From the last purge to the last position of the feed, each has an event, or a basket that moved to another cell had it.",
        sql="""
        SELECT state.position, state.purged_position, recorded.places, recorded.last
        FROM (SELECT coalesce(max(position), 0) AS position, coalesce(max(purged_position), 0) AS purged_position
              FROM baskets_feedstate) state
        CROSS JOIN (
            SELECT coalesce(max(position), 0) AS last, count(*) AS places, count(DISTINCT event_id) AS events
            FROM baskets_feedposition
        ) recorded
        CROSS JOIN (SELECT coalesce(max(position), 0) AS last FROM baskets_feedgap) gaps
        CROSS JOIN LATERAL (
            SELECT count(*) AS kept FROM (
                SELECT position FROM baskets_feedposition UNION SELECT position FROM baskets_feedgap
            ) places WHERE position > state.purged_position
        ) kept
        WHERE (
            greatest(recorded.last, gaps.last, state.purged_position) = state.position
            AND kept.kept = state.position - state.purged_position
            AND recorded.places = recorded.events
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="no_event_passed_over",
        rule=7,
        sentence="Every event up to `settled_id` has its position in the feed.",
        sql="""
        SELECT e.id AS event, e.basket_id AS basket, e.number
        FROM baskets_event e JOIN baskets_feedstate state ON e.id <= state.settled_id
        WHERE NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id)
        """,
    ),
    Invariant(
        slug="feed_in_order_for_each_basket",
        rule=7,
        sentence="The events of a basket have positions in the order of their numbers.",
        sql="""
        SELECT basket_id AS basket, number, position, before FROM (
            SELECT e.basket_id, e.number, p.position,
                   lag(p.position) OVER (PARTITION BY e.basket_id ORDER BY e.number) AS before
            FROM baskets_feedposition p JOIN baskets_event e ON e.id = p.event_id
        ) place
        WHERE before > position
        """,
    ),
    Invariant(
        slug="places_are_of_their_event",
        rule=7,
        sentence="A position of the feed has the partner and the kind of its event, and a session the partner of its basket.",
        sql="""
        SELECT 'place' AS kind, p.position AS id, e.basket_id AS basket
        FROM baskets_feedposition p
        LEFT JOIN baskets_event e ON e.id = p.event_id
        LEFT JOIN baskets_basket b ON b.id = e.basket_id
        WHERE (p.partner_id = b.partner_id AND p.kind = e.kind) IS NOT TRUE
        UNION ALL
        SELECT 'session', s.id, s.basket_id
        FROM baskets_checkoutsession s LEFT JOIN baskets_basket b ON b.id = s.basket_id
        WHERE s.partner_id IS DISTINCT FROM b.partner_id
        """,
    ),
    Invariant(
        slug="events_are_counted_once",
        rule=7,
        sentence="The counts by minute and by hour, and the number of active checkouts, agree with the counted events.",
        sql=f"""
        WITH {activity.COUNTED.format(condition=f"p.position <= {COUNTED_POSITION} AND e.at >= {RECENT}")},
        by_partner AS ({activity.BY_PARTNER.format(spans=activity.KEPT)}),
        by_product AS ({activity.BY_PRODUCT.format(spans=activity.KEPT)})
        SELECT 'partner' AS counts, partner_id::text AS id, count(*) AS spans, min(starts_at) AS since
        FROM by_partner FULL JOIN (SELECT * FROM baskets_partneractivity WHERE starts_at >= {RECENT}) known
            USING (partner_id, seconds, starts_at)
        WHERE (by_partner.started, by_partner.ordered, by_partner.late, by_partner.aborted, by_partner.expired,
               by_partner.flagged, by_partner.pieces)
            IS DISTINCT FROM (known.started, known.ordered, known.late, known.aborted, known.expired, known.flagged, known.pieces)
        GROUP BY partner_id
        UNION ALL
        SELECT 'product', product_id, count(*), min(starts_at)
        FROM by_product FULL JOIN (SELECT * FROM baskets_productactivity WHERE starts_at >= {RECENT}) known
            USING (product_id, seconds, starts_at)
        WHERE (by_product.orders, by_product.pieces) IS DISTINCT FROM (known.orders, known.pieces)
        GROUP BY product_id
        UNION ALL
        SELECT 'active', NULL, NULL, NULL FROM baskets_activitystate state
        WHERE state.active <> (
            SELECT count(*) FILTER (WHERE p.kind = 'checkout_started') - count(*) FILTER (WHERE p.kind <> 'checkout_started')
            FROM baskets_feedposition p
            JOIN baskets_partner partner ON partner.id = p.partner_id AND partner.sandbox_of_id IS NULL
            JOIN baskets_event e ON e.id = p.event_id
            JOIN baskets_checkoutsession s ON s.id = e.session_id AND s.basket_id = e.basket_id
            WHERE p.position <= state.position AND NOT s.test_mode
              AND p.kind IN ('checkout_started', 'checkout_ordered', 'checkout_aborted', 'checkout_expired')
        )
        """,  # noqa: S608 (its parts are constants)
    ),
)

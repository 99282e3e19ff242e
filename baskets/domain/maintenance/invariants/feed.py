"""Invariants of the feed: every event has one position, without gaps, in the order of its basket."""

from baskets.domain.maintenance.invariants.invariant import Invariant

INVARIANTS = (
    Invariant(
        slug="positions_without_gaps",
        rule=7,
        sentence="The positions of the feed count on without gaps from the last purge to the last one given.",
        sql="""
        SELECT state.position, state.purged_position, recorded.places, recorded.last
        FROM (SELECT coalesce(max(position), 0) AS position, coalesce(max(purged_position), 0) AS purged_position
              FROM baskets_feedstate) state
        CROSS JOIN (
            SELECT coalesce(max(position), 0) AS last, count(*) AS places, count(DISTINCT event_id) AS events
            FROM baskets_feedposition
        ) recorded
        CROSS JOIN LATERAL (
            SELECT count(*) AS kept FROM baskets_feedposition WHERE position > state.purged_position
        ) kept
        WHERE (
            greatest(recorded.last, state.purged_position) = state.position
            AND kept.kept = state.position - state.purged_position
            AND recorded.places = recorded.events
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="no_event_passed_over",
        rule=7,
        sentence="Every event up to the mark below which none is looked for has its place in the feed.",
        sql="""
        SELECT e.id AS event, e.basket_id AS basket, e.number
        FROM baskets_event e JOIN baskets_feedstate state ON e.id <= state.settled_id
        WHERE NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id)
        """,
    ),
    Invariant(
        slug="feed_in_order_for_each_basket",
        rule=7,
        sentence="The events of a basket stand in the feed in the order of their numbers.",
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
        sentence="A place in the feed has the partner and the kind of its event, and a session the partner of its basket.",
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
)

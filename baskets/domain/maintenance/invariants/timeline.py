"""Invariants of the timeline: no gaps, and its events agree with the stored sessions and items."""

from baskets.domain.maintenance.invariants.invariant import Invariant


def _compare_items(kinds: str, lines: str) -> str:
    """Return SQL that compares the items in events of some kinds with the items of their session."""
    return f"""
    SELECT coalesce(recorded.basket_id, i.basket_id) AS basket, coalesce(recorded.session_id, i.session_id) AS session,
           coalesce(recorded.product_id, i.product_id) AS product_id, recorded.count AS recorded, i.count AS stored
    FROM (
        SELECT e.basket_id, e.session_id, line ->> 'productId' AS product_id, line -> 'count' AS count
        FROM baskets_event e
        CROSS JOIN LATERAL jsonb_array_elements(
            CASE WHEN jsonb_typeof({lines}) = 'array' THEN {lines} ELSE '[]'::jsonb END
        ) line
        WHERE e.kind IN ({kinds})
    ) recorded
    FULL JOIN (
        SELECT item.* FROM baskets_checkoutitem item
        JOIN (SELECT DISTINCT session_id FROM baskets_event e WHERE e.kind IN ({kinds})) e USING (session_id)
    ) i ON i.session_id = recorded.session_id AND i.product_id = recorded.product_id
    WHERE recorded.count IS DISTINCT FROM to_jsonb(i.count)
    """  # noqa: S608 (made of constants of this module)


INVARIANTS = (
    Invariant(
        slug="events_without_gaps",
        rule=5,
        sentence="The events of a basket are numbered without gaps, from the first that was not purged to its own count.",
        sql="""
        SELECT b.id AS basket, b.events, b.events_purged, e.counted, e.first, e.last
        FROM baskets_basket b
        LEFT JOIN (
            SELECT basket_id, count(*) AS counted, count(DISTINCT number) AS numbers, min(number) AS first,
                   max(number) AS last
            FROM baskets_event GROUP BY basket_id
        ) e ON e.basket_id = b.id
        WHERE (
            CASE WHEN e.counted IS NULL THEN b.events = 0 AND b.events_purged = 0
                 ELSE (e.first, e.last) = (b.events_purged + 1, b.events)
                      AND (e.counted, e.numbers) = (b.events - b.events_purged, b.events - b.events_purged)
            END
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="revisions_go_forward",
        rule=8,
        sentence="Revisions go forward one by one along the timeline, and the last is the basket's own.",
        sql="""
        SELECT e.basket_id AS basket, e.number, e.revision, e.before, b.revision AS basket_revision
        FROM (
            SELECT basket_id, number, revision, lag(revision) OVER timeline AS before,
                   lead(number) OVER timeline AS next
            FROM baskets_event WINDOW timeline AS (PARTITION BY basket_id ORDER BY number)
        ) e
        LEFT JOIN baskets_basket b ON b.id = e.basket_id
        WHERE (
            (e.before IS NULL OR e.revision BETWEEN e.before AND e.before + 1)
            AND (e.next IS NOT NULL OR e.revision = b.revision)
            AND e.revision <= b.revision
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="closed_as_recorded",
        rule=5,
        sentence="A basket is closed where its last change was its deletion, its expiry or its erasure, and nowhere else.",
        sql="""
        SELECT b.id AS basket, b.hidden_at, e.kind AS last_change
        FROM baskets_basket b
        JOIN (
            SELECT DISTINCT ON (basket_id, revision) basket_id, revision, kind, data ->> 'repair' AS repair
            FROM baskets_event ORDER BY basket_id, revision, number
        ) e ON e.basket_id = b.id AND e.revision = b.revision
        WHERE b.revision > 0
          AND (b.hidden_at IS NOT NULL) IS DISTINCT FROM (
              e.kind IN ('basket_deleted', 'basket_expired') OR (e.kind = 'repaired' AND coalesce(e.repair = 'erase', false))
          )
        """,
    ),
    Invariant(
        slug="changes_go_forward",
        rule=8,
        sentence="No change of a basket is earlier than the change before it.",
        sql="""
        SELECT basket_id AS basket, number, at, before FROM (
            SELECT basket_id, number, at, lag(at) OVER (PARTITION BY basket_id ORDER BY number) AS before
            FROM (
                SELECT DISTINCT ON (basket_id, revision) basket_id, revision, number, at
                FROM baskets_event ORDER BY basket_id, revision, number
            ) change
        ) e
        WHERE at < before
        """,
    ),
    Invariant(
        slug="sessions_match_their_events",
        rule=5,
        sentence="Each session has one event for its start and exactly those that led to its state.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no, s.status, s.late,
               recorded.started, recorded.ordered, recorded.aborted, recorded.expired, recorded.ordered_late
        FROM baskets_checkoutsession s
        LEFT JOIN (
            SELECT session_id,
                   count(*) FILTER (WHERE kind = 'checkout_started') AS started,
                   count(*) FILTER (WHERE kind = 'checkout_ordered') AS ordered,
                   count(*) FILTER (WHERE kind = 'checkout_aborted') AS aborted,
                   count(*) FILTER (WHERE kind = 'checkout_expired') AS expired,
                   count(*) FILTER (WHERE kind = 'checkout_ordered_late') AS ordered_late
            FROM baskets_event WHERE session_id IS NOT NULL GROUP BY session_id
        ) recorded ON recorded.session_id = s.id
        WHERE (
            recorded.started = 1
            AND recorded.ordered = (s.status = 'ORDERED' AND NOT s.late)::int
            AND recorded.ordered_late = s.late::int
            AND CASE
                    WHEN s.late THEN recorded.aborted + recorded.expired = 1
                    ELSE recorded.aborted = (s.status = 'ABORTED')::int AND recorded.expired = (s.status = 'EXPIRED')::int
                END
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="session_events_name_their_session",
        rule=5,
        sentence="An event about a checkout names its session.",
        sql="""
        SELECT basket_id AS basket, number, kind FROM baskets_event
        WHERE session_id IS NULL AND (kind LIKE 'checkout\\_%%' OR kind LIKE 'attention\\_%%' OR data -> 'orderNo' IS NOT NULL)
        """,
    ),
    Invariant(
        slug="flags_match_their_events",
        rule=5,
        sentence="Each flag has one event with its reason and the same candidates, and each such event its flag.",
        sql="""
        SELECT session_id AS session, reason, recorded.events
        FROM (
            SELECT session_id, data ->> 'reason' AS reason, count(*) AS events, min((data -> 'candidates')::text)::jsonb AS candidates
            FROM baskets_event WHERE kind = 'attention_needed' GROUP BY session_id, data ->> 'reason'
        ) recorded
        FULL JOIN (SELECT session_id, reason, true AS flagged, candidates FROM baskets_attention) a
            USING (session_id, reason)
        WHERE (recorded.events = 1 AND a.flagged AND coalesce(recorded.candidates = a.candidates, recorded.candidates IS NULL)) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="resolutions_are_recorded",
        rule=5,
        sentence="Each resolved flag has an event of its resolution, and each such event its resolved flag.",
        sql="""
        SELECT session_id AS session, reason, recorded.times, a.settled
        FROM (
            SELECT session_id, reason, count(*) AS times
            FROM (
                SELECT DISTINCT e.session_id, line.reason FROM baskets_event e
                CROSS JOIN LATERAL jsonb_array_elements_text(
                    CASE WHEN jsonb_typeof(e.data -> 'reasons') = 'array' THEN e.data -> 'reasons' ELSE '[null]' END
                ) line (reason)
                WHERE e.kind = 'attention_settled'
                UNION
                SELECT session_id, data ->> 'matter' FROM baskets_event WHERE kind = 'repaired' AND data ->> 'repair' = 'settle'
            ) line
            GROUP BY session_id, reason
        ) recorded
        FULL JOIN (SELECT session_id, reason, true AS settled FROM baskets_attention WHERE settled_at IS NOT NULL) a
            USING (session_id, reason)
        WHERE (recorded.times = 1 AND a.settled) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="checkout_list_is_kept",
        rule=2,
        sentence="A checkout still has every item with which it started, with its count, and no other.",
        sql=_compare_items("'checkout_started'", "e.data -> 'items'"),
    ),
    Invariant(
        slug="checkout_list_went_somewhere",
        rule=2,
        sentence="Every item left the checkout into the order or back into the cart, with its whole count.",
        sql=_compare_items(
            "'checkout_ordered', 'checkout_aborted', 'checkout_expired'",
            "((e.data -> 'items') || coalesce(e.data -> 'failed', '[]'))",
        ),
    ),
    Invariant(
        slug="late_orders_are_recorded",
        rule=5,
        sentence="The event of a late order names every ordered item with its count, and every short piece.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no, recorded.items, recorded.short,
               kept.items AS stored, kept.short AS stored_short
        FROM baskets_checkoutsession s
        LEFT JOIN (
            SELECT e.session_id, e.data -> 'short' AS short,
                   (SELECT jsonb_object_agg(line ->> 'productId', line -> 'count') FROM jsonb_array_elements(
                       CASE WHEN jsonb_typeof(e.data -> 'items') = 'array' THEN e.data -> 'items' ELSE '[]' END
                   ) line) AS items
            FROM baskets_event e WHERE e.kind = 'checkout_ordered_late'
        ) recorded ON recorded.session_id = s.id
        CROSS JOIN LATERAL (
            SELECT (
                SELECT jsonb_object_agg(i.product_id, i.count) FROM baskets_checkoutitem i
                WHERE i.session_id = s.id AND coalesce(i.stocked, 1) > 0
            ) AS items, coalesce((
                SELECT jsonb_object_agg(r.product_id, r.pieces) FROM baskets_stockreservation r
                WHERE r.session_id = s.id AND r.status = 'SHORT'
            ), '{}') AS short
        ) kept
        WHERE s.late AND (recorded.items, recorded.short) IS DISTINCT FROM (kept.items, kept.short)
        """,
    ),
    Invariant(
        slug="orders_reversed_once",
        rule=5,
        sentence=(
            "Only an order is reversed, once, at the time that it states; the event names every item of the order, and the returned "
            "pieces are those that it had sold, with or without a hold."
        ),
        # The events of early reversals are repairs, and name no items.
        sql="""
        SELECT coalesce(s.id, recorded.session_id) AS session, s.basket_id AS basket, s.order_no, s.reversed_at,
               recorded.times, recorded.at, recorded.returned
        FROM (
            SELECT session_id, count(*) AS times, min(at) AS at, min((data -> 'returned')::text)::jsonb AS returned,
                   bool_and(kind = 'repaired') AS early, min((
                       SELECT jsonb_object_agg(line ->> 'productId', line -> 'count') FROM jsonb_array_elements(
                           CASE WHEN jsonb_typeof(e.data -> 'items') = 'array' THEN e.data -> 'items' ELSE '[]' END
                       ) line
                   )::text)::jsonb AS items
            FROM baskets_event e
            WHERE kind = 'checkout_reversed'
               OR (kind = 'repaired' AND data ->> 'repair' = 'reverse_order' AND data -> 'returned' IS NOT NULL)
            GROUP BY session_id
        ) recorded
        FULL JOIN (SELECT * FROM baskets_checkoutsession WHERE reversed_at IS NOT NULL) s ON s.id = recorded.session_id
        WHERE (
            recorded.times = 1 AND s.status = 'ORDERED' AND s.reversed_at = recorded.at
            AND (recorded.early OR recorded.items = (
                SELECT jsonb_object_agg(i.product_id, i.count) FROM baskets_checkoutitem i
                WHERE i.session_id = s.id AND coalesce(i.stocked, 1) > 0
            ))
            AND recorded.returned @> coalesce((
                SELECT jsonb_object_agg(r.product_id, r.pieces) FROM baskets_stockreservation r
                WHERE r.session_id = s.id AND r.status = 'SOLD'
            ), '{}')
            -- What else returned was ordered without a hold.
            AND recorded.returned <@ coalesce((
                SELECT jsonb_object_agg(i.product_id, coalesce(r.pieces, i.count))
                FROM baskets_checkoutitem i LEFT JOIN baskets_stockreservation r
                ON r.session_id = i.session_id AND r.product_id = i.product_id AND r.status IN ('SOLD', 'SHORT')
                WHERE i.session_id = s.id AND coalesce(i.stocked, 1) > 0 AND r.status IS DISTINCT FROM 'SHORT'
            ), '{}')
        ) IS NOT TRUE
        """,
    ),
    Invariant(
        slug="reversals_are_supply",
        rule=1,
        sentence="Every piece that a reversed order had sold came back as a recorded supply.",
        sql="""
        SELECT s.id AS session, s.basket_id AS basket, s.order_no, r.product_id, r.pieces
        FROM baskets_checkoutsession s
        JOIN baskets_stockreservation r ON r.session_id = s.id AND r.status = 'SOLD'
        LEFT JOIN (
            SELECT DISTINCT product_id, substring(reason FROM '^order ([^ ]+) reversed') AS order_no, delta
            FROM baskets_stockadjustment WHERE kind = 'supply'
        ) a ON (a.product_id, a.order_no, a.delta) = (r.product_id, s.order_no, r.pieces)
        WHERE s.reversed_at IS NOT NULL AND a.delta IS NULL
        """,
    ),
)

"""The feed and the counts of events: ways to break the rules of the module of the same name in `invariants`."""

from tests.domain.maintenance.violations.statements import Violation

VIOLATIONS: list[Violation] = [
    (
        "positions_without_gaps",
        ["UPDATE baskets_feedposition SET position = 999 WHERE position = (SELECT max(position) FROM baskets_feedposition)"],
        {},
    ),
    ("positions_without_gaps", ["DELETE FROM baskets_feedposition WHERE position = 3"], {"events_are_counted_once": 3}),
    ("positions_without_gaps", ["UPDATE baskets_feedstate SET position = position + 1"], {}),
    (
        "no_event_passed_over",
        ["UPDATE baskets_feedstate SET settled_id = seen_id, purged_position = position", "DELETE FROM baskets_feedposition"],
        {"events_are_counted_once": 5},
    ),
    (
        "feed_in_order_for_each_basket",
        [
            """
            UPDATE baskets_feedposition SET position = 999
            WHERE event_id = (SELECT id FROM baskets_event WHERE basket_id = :basket_of_gus AND number = 1)
            """
        ],
        {"positions_without_gaps": 1},
    ),
    ("places_are_of_their_event", ["UPDATE baskets_feedposition SET kind = 'item_removed' WHERE position = 1"], {}),
    (
        "places_are_of_their_event",
        [
            "INSERT INTO baskets_partner (name, late_orders, origins) VALUES ('another', 'refuse', '{}')",
            """
            UPDATE baskets_checkoutsession SET partner_id = (SELECT id FROM baskets_partner WHERE name = 'another')
            WHERE id = :session_of_anna
            """,
        ],
        {},
    ),
    ("events_are_counted_once", ["UPDATE baskets_partneractivity SET pieces = pieces + 1 WHERE seconds = 60 AND pieces > 0"], {}),
    (
        "events_are_counted_once",
        ["UPDATE baskets_productactivity SET pieces = pieces + 1 WHERE seconds = 3600 AND product_id = 'shirt'"],
        {},
    ),
    ("events_are_counted_once", ["DELETE FROM baskets_partneractivity WHERE seconds = 3600"], {}),
    ("events_are_counted_once", ["UPDATE baskets_activitystate SET active = active + 1"], {}),
]

"""Timelines and flags: ways to break the rules of the module of the same name in `invariants`."""

from tests.domain.maintenance.violations.statements import Violation

VIOLATIONS: list[Violation] = [
    (
        "revisions_go_forward",
        ["UPDATE baskets_event SET basket_id = gen_random_uuid() WHERE basket_id = :basket_of_bob AND session_id IS NULL"],
        {"events_without_gaps": 1, "places_are_of_their_event": 5},
    ),
    ("events_without_gaps", ["UPDATE baskets_event SET number = 99 WHERE basket_id = :basket_of_gus AND number = 2"], {}),
    ("events_without_gaps", ["UPDATE baskets_basket SET events_purged = 1 WHERE id = :basket_of_gus"], {}),
    ("events_without_gaps", ["UPDATE baskets_basket SET events = events + 1 WHERE id = :basket_of_anna"], {}),
    (
        "events_without_gaps",
        [
            "DELETE FROM baskets_feedposition WHERE event_id IN (SELECT id FROM baskets_event WHERE basket_id = :basket_of_gus)",
            "DELETE FROM baskets_event WHERE basket_id = :basket_of_gus",
        ],
        {"positions_without_gaps": 1},
    ),
    ("revisions_go_forward", ["UPDATE baskets_event SET revision = 99 WHERE basket_id = :basket_of_gus AND number = 2"], {}),
    (
        "revisions_go_forward",
        ["UPDATE baskets_basket SET revision = 1 WHERE id = :basket_of_hal"],
        {"session_ended_within_its_basket": 1},
    ),
    (
        "changes_go_forward",
        ["UPDATE baskets_event SET at = at - interval '1 hour' WHERE basket_id = :basket_of_gus AND number = 2"],
        {},
    ),
    (
        "sessions_match_their_events",
        ["UPDATE baskets_event SET kind = 'checkout_aborted' WHERE basket_id = :basket_of_anna AND kind = 'checkout_ordered'"],
        {"places_are_of_their_event": 1},
    ),
    (
        "sessions_match_their_events",
        [
            """
            UPDATE baskets_checkoutsession SET status = 'EXPIRED' WHERE id = :session_of_carla
            """
        ],
        {},
    ),
    (
        "session_events_name_their_session",
        ["UPDATE baskets_event SET session_id = NULL WHERE basket_id = :basket_of_hal AND kind = 'attention_needed'"],
        {"flags_match_their_events": 2, "events_are_counted_once": 1},
    ),
    (
        "flags_match_their_events",
        ["DELETE FROM baskets_attention WHERE basket_id = :basket_of_hal"],
        {},
    ),
    (
        "checkout_list_is_kept",
        ["DELETE FROM baskets_checkoutitem WHERE basket_id = :basket_of_bob AND product_id = 'song'"],
        {"price_adds_up": 1},
    ),
    (
        "checkout_list_went_somewhere",
        [
            """
            UPDATE baskets_event SET data = jsonb_set(data, '{items,0,count}', '1')
            WHERE basket_id = :basket_of_anna AND kind = 'checkout_ordered'
            """
        ],
        {"events_are_counted_once": 2},
    ),
    ("closed_as_recorded", ["UPDATE baskets_basket SET hidden_at = NULL WHERE id = :basket_of_gus"], {}),
    (
        "closed_as_recorded",
        ["UPDATE baskets_basket SET hidden_at = last_changed_at WHERE id = :basket_of_anna"],
        {},
    ),
    ("revisions_go_forward", ["UPDATE baskets_basket SET revision = revision + 1 WHERE id = :basket_of_fay"], {}),
    (
        "late_orders_are_recorded",
        ["UPDATE baskets_event SET data = data #- '{short}' WHERE kind = 'checkout_ordered_late'"],
        {},
    ),
    (
        "late_orders_are_recorded",
        ["UPDATE baskets_event SET data = jsonb_set(data, '{items,0,count}', '1') WHERE kind = 'checkout_ordered_late'"],
        {"events_are_counted_once": 3},
    ),
    (
        "orders_reversed_once",
        ["UPDATE baskets_event SET data = jsonb_set(data, '{returned}', '{}') WHERE kind = 'checkout_reversed'"],
        {},
    ),
    (
        "orders_reversed_once",
        ["UPDATE baskets_event SET data = data - 'returned' WHERE kind = 'checkout_reversed'"],
        {},
    ),
    (
        "orders_reversed_once",
        ["UPDATE baskets_event SET session_id = NULL WHERE kind = 'checkout_reversed'"],
        {"session_events_name_their_session": 2},
    ),
    (
        "orders_reversed_once",
        ["UPDATE baskets_event SET data = jsonb_set(data, '{items,0,count}', '9') WHERE kind = 'checkout_reversed'"],
        {},
    ),
    (
        "orders_reversed_once",
        ["UPDATE baskets_checkoutsession SET reversed_at = reversed_at + interval '1 microsecond' WHERE id = :session_of_ida"],
        {},
    ),
    (
        "orders_reversed_once",
        ["UPDATE baskets_checkoutsession SET reversed_at = finished_at WHERE id = :session_of_anna"],
        {"reversals_are_supply": 1},
    ),
    ("reversals_are_supply", ["UPDATE baskets_stockadjustment SET reason = 'a box' WHERE reason LIKE 'order % reversed%'"], {}),
    (
        "reversals_are_supply",
        [
            "UPDATE baskets_stockadjustment SET delta = 2 WHERE reason LIKE 'order % reversed%'",
            "UPDATE baskets_stock SET shortfall = shortfall - 1 WHERE product_id = 'shirt'",
        ],
        {"available_as_reported": 1},
    ),
    (
        "resolutions_are_recorded",
        ["UPDATE baskets_event SET data = jsonb_set(data, '{reasons}', '[]') WHERE kind = 'attention_settled'"],
        {},
    ),
    (
        "resolutions_are_recorded",
        ["UPDATE baskets_event SET data = data - 'reasons' WHERE kind = 'attention_settled' AND basket_id = :basket_of_jan"],
        {},
    ),
    (
        "resolutions_are_recorded",
        ["UPDATE baskets_attention SET settled_at = statement_timestamp(), settled_by = 'rita' WHERE basket_id = :basket_of_emil"],
        {},
    ),
    (
        "flags_match_their_events",
        ["UPDATE baskets_attention SET candidates = '[]' WHERE basket_id = :basket_of_hal"],
        {},
    ),
    # Each of a kind that a proof once let pass when it was weakened by one step.
    (
        "revisions_go_forward",
        [
            "UPDATE baskets_event SET revision = revision + 1 WHERE basket_id = :basket_of_anna AND number > 1",
            "UPDATE baskets_basket SET revision = revision + 1 WHERE id = :basket_of_anna",
        ],
        {},
    ),
]

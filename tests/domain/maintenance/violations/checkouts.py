"""Checkouts, their items and reservations: ways to break the rules of the module of the same name in `invariants`."""

from tests.domain.maintenance.violations.statements import Violation, drop

VIOLATIONS: list[Violation] = [
    (
        "one_active_checkout",
        [
            "DROP INDEX one_active_checkout_per_basket",
            """
            UPDATE baskets_checkoutsession SET basket_id = :basket_of_bob
            WHERE id = :session_of_fay
            """,
        ],
        {"constraints_in_place": 1, "one_basket_for_all_of_a_session": 2, "session_within_its_basket": 1},
    ),
    (
        "sessions_whole",
        [
            *drop("checkoutsession", "session_finished_unless_active"),
            "UPDATE baskets_checkoutsession SET finished_at = NULL, finished_by_key = '' WHERE id = :session_of_anna",
        ],
        {"constraints_in_place": 1, "reservations_end_when_their_session_does": 1},
    ),
    (
        "sessions_whole",
        [
            *drop("checkoutsession", "session_released_if_aborted_expired_or_late"),
            "UPDATE baskets_checkoutsession SET released_at = finished_at WHERE id = :session_of_anna",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "one_session_per_order_number",
        [
            "ALTER TABLE baskets_checkoutsession DROP CONSTRAINT baskets_checkoutsession_order_no_key",
            "UPDATE baskets_checkoutsession SET order_no = 'SAME'",
        ],
        {"columns_guarded": 1, "reversals_are_supply": 1},
    ),
    (
        "session_ended_within_its_basket",
        ["UPDATE baskets_checkoutsession SET ended_revision = 999 WHERE id = :session_of_anna"],
        {},
    ),
    (
        "session_buys_something",
        ["DELETE FROM baskets_checkoutitem WHERE basket_id = :basket_of_anna"],
        {"reservation_has_its_item": 1, "price_adds_up": 1, "checkout_list_is_kept": 1, "checkout_list_went_somewhere": 1},
    ),
    (
        "checkout_items_whole",
        [
            *drop("checkoutitem", "stocked_is_the_whole_count_or_none_of_it"),
            "UPDATE baskets_checkoutitem SET stocked = 1 WHERE basket_id = :basket_of_anna",
        ],
        {"constraints_in_place": 1, "reservations_follow_their_session": 1},
    ),
    # A held reservation of a session that has ended, and a sold one of a session that has not.
    (
        "reservations_follow_their_session",
        ["UPDATE baskets_stockreservation SET status = 'HELD', ended_at = NULL WHERE basket_id = :basket_of_anna"],
        {"available_as_reported": 1},
    ),
    (
        "reservations_follow_their_session",
        [
            """
            UPDATE baskets_stockreservation SET status = 'SOLD', ended_at = statement_timestamp()
            WHERE basket_id = :basket_of_bob AND status = 'HELD'
            """
        ],
        {"reservations_end_when_their_session_does": 1},
    ),
    (
        "reservations_follow_their_session",
        ["UPDATE baskets_stockreservation SET status = 'SOLD' WHERE basket_id = :basket_of_carla"],
        {"supply_equation": 1},
    ),
    (
        "reservations_follow_their_session",
        ["DELETE FROM baskets_stockreservation WHERE basket_id = :basket_of_emil AND status = 'SOLD'"],
        {"supply_equation": 1, "available_as_reported": 1},
    ),
    (
        "reservations_follow_their_session",
        ["UPDATE baskets_stockreservation SET pieces = 4 WHERE basket_id = :basket_of_bob AND status = 'HELD'"],
        {"supply_equation": 1},
    ),
    (
        "reservations_follow_their_session",
        ["DELETE FROM baskets_stockreservation WHERE basket_id = :basket_of_bob AND status = 'FAILED'"],
        {},
    ),
    (
        "reservation_has_its_item",
        ["UPDATE baskets_stockreservation SET product_id = 'lamp' WHERE basket_id = :basket_of_bob AND status = 'FAILED'"],
        {"reservations_follow_their_session": 1},
    ),
    (
        "hold_ends_with_its_session",
        ["UPDATE baskets_stockreservation SET expires_at = expires_at + interval '1 hour' WHERE status = 'HELD'"],
        {},
    ),
    (
        "test_sessions_hold_nothing",
        ["UPDATE baskets_checkoutitem SET stocked = count WHERE basket_id = :basket_of_fay"],
        {},
    ),
    (
        "test_sessions_hold_nothing",
        ["UPDATE baskets_checkoutsession SET test_mode = true WHERE id = :session_of_anna"],
        {"events_are_counted_once": 2},
    ),
    (
        "one_basket_for_all_of_a_session",
        ["UPDATE baskets_checkoutitem SET basket_id = :basket_of_bob WHERE basket_id = :basket_of_anna"],
        {},
    ),
    # Keys without a check in the database: ADR 55.
    ("one_basket_for_all_of_a_session", ["UPDATE baskets_stockreservation SET basket_id = gen_random_uuid() WHERE status = 'FAILED'"], {}),
    (
        "one_basket_for_all_of_a_session",
        ["UPDATE baskets_event SET session_id = 0 WHERE basket_id = :basket_of_bob AND kind = 'checkout_started'"],
        {"sessions_match_their_events": 1, "checkout_list_is_kept": 3, "events_are_counted_once": 2},
    ),
    ("one_basket_for_all_of_a_session", ["UPDATE baskets_attention SET basket_id = :basket_of_bob WHERE basket_id = :basket_of_emil"], {}),
    (
        "short_pieces_are_flagged",
        ["DELETE FROM baskets_attention WHERE basket_id = :basket_of_emil"],
        {"flags_match_their_events": 1},
    ),
    (
        "short_pieces_are_flagged",
        ["UPDATE baskets_stockreservation SET status = 'RELEASED' WHERE basket_id = :basket_of_emil AND status = 'SHORT'"],
        {"reservations_follow_their_session": 1, "late_orders_are_recorded": 1, "reservations_end_when_their_session_does": 1},
    ),
    (
        "flags_whole",
        [
            *drop("attention", "settled_attention_names_who"),
            "UPDATE baskets_attention SET settled_at = statement_timestamp() WHERE basket_id = :basket_of_emil",
        ],
        {"constraints_in_place": 1, "resolutions_are_recorded": 1},
    ),
    (
        "returned_items_are_in_the_cart",
        ["DELETE FROM baskets_basketitem WHERE basket_id = :basket_of_carla AND product_id = 'song'"],
        {},
    ),
    (
        "returned_items_are_in_the_cart",
        ["UPDATE baskets_basketitem SET list = 'saved' WHERE basket_id = :basket_of_dev"],
        {},
    ),
    (
        "reservations_end_when_their_session_does",
        ["UPDATE baskets_stockreservation SET ended_at = ended_at + interval '1 microsecond' WHERE basket_id = :basket_of_anna"],
        {},
    ),
    (
        "reservations_end_when_their_session_does",
        ["UPDATE baskets_stockreservation SET ended_at = created_at WHERE basket_id = :basket_of_carla"],
        {},
    ),
    (
        "reservations_end_when_their_session_does",
        ["UPDATE baskets_checkoutsession SET released_at = started_at WHERE id = :session_of_emil"],
        {},
    ),
    (
        "session_within_its_basket",
        ["UPDATE baskets_basket SET created_at = created_at - interval '1 hour', last_changed_at = created_at WHERE id = :basket_of_anna"],
        {},
    ),
    (
        "price_adds_up",
        ["UPDATE baskets_checkoutsession SET full_price = full_price + 1 WHERE id = :session_of_bob"],
        {},
    ),
    ("price_adds_up", ["UPDATE baskets_checkoutsession SET full_price = NULL WHERE id = :session_of_bob"], {}),
    ("price_adds_up", ["UPDATE baskets_checkoutitem SET price = NULL WHERE basket_id = :basket_of_anna"], {}),
    (
        "flags_end_with_their_cause",
        [
            "UPDATE baskets_attention SET settled_at = NULL, settled_by = '' WHERE basket_id = :basket_of_jan",
        ],
        {"resolutions_are_recorded": 1},
    ),
    (
        "flags_end_with_their_cause",
        [
            "UPDATE baskets_attention SET settled_at = NULL, settled_by = '' WHERE basket_id = :basket_of_kim AND reason = 'short'",
        ],
        {"resolutions_are_recorded": 1},
    ),
    (
        "open_flags_are_bounded",
        [
            *drop("attention", "one_flag_per_session_and_reason"),
            """
            INSERT INTO baskets_attention (basket_id, session_id, reason, created_at, settled_by, note, candidates)
            SELECT basket_id, session_id, reason, created_at, '', '', candidates
            FROM baskets_attention CROSS JOIN generate_series(1, 20) WHERE basket_id = :basket_of_hal
            """,
        ],
        {"constraints_in_place": 1, "flags_whole": 21},
    ),
    (
        "flags_whole",
        [
            *drop("attention", "merged_attention_is_settled"),
            "UPDATE baskets_attention SET merged = true WHERE basket_id = :basket_of_hal",
        ],
        {"constraints_in_place": 1},
    ),
    ("released_items_are_recorded", ["UPDATE baskets_checkoutitem SET released_at = NULL WHERE basket_id = :basket_of_lea"], {}),
    (
        "released_items_are_recorded",
        [
            """
            UPDATE baskets_checkoutitem SET stocked = -count, released_at = statement_timestamp()
            WHERE basket_id = :basket_of_bob AND product_id = 'cap'
            """
        ],
        {},
    ),
    (
        "released_items_are_recorded",
        ["UPDATE baskets_checkoutitem SET released_at = released_at + interval '1 microsecond' WHERE basket_id = :basket_of_lea"],
        {},
    ),
    (
        "sessions_whole",
        [
            *drop("checkoutsession", "only_an_order_is_reversed"),
            "UPDATE baskets_checkoutsession SET reversed_at = finished_at WHERE id = :session_of_carla",
        ],
        {"constraints_in_place": 1, "orders_reversed_once": 1},
    ),
    (
        "returned_items_are_in_the_cart",
        ["UPDATE baskets_basketitem SET count = 1 WHERE basket_id = :basket_of_carla AND product_id = 'shirt'"],
        {},
    ),
    (
        "checkout_items_whole",
        [
            *drop("checkoutitem", "stocked_is_the_whole_count_or_none_of_it"),
            "UPDATE baskets_checkoutitem SET stocked = -count - 1 WHERE basket_id = :basket_of_bob AND product_id = 'cap'",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "hold_ends_with_its_session",
        ["UPDATE baskets_stockreservation SET expires_at = expires_at - interval '1 second' WHERE status = 'HELD'"],
        {},
    ),
]

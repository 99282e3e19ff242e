"""Stock and supply: ways to break the rules of the module of the same name in `invariants`."""

from tests.domain.maintenance.violations.statements import Violation, drop

VIOLATIONS: list[Violation] = [
    ("supply_equation", ["UPDATE baskets_stock SET available = available + 1 WHERE product_id = 'cap'"], {"available_as_reported": 1}),
    ("supply_equation", ["UPDATE baskets_stockadjustment SET delta = delta + 1 WHERE product_id = 'cap'"], {}),
    ("supply_equation", ["UPDATE baskets_stock SET available = available + 1 WHERE product_id = 'lamp'"], {}),
    (
        "supply_equation",
        ["ALTER TABLE baskets_stock ALTER available DROP NOT NULL", "UPDATE baskets_stock SET available = NULL WHERE product_id = 'cap'"],
        {"stock_counters": 1, "columns_guarded": 1, "available_as_reported": 1},
    ),
    (
        "stock_behind_reservations",
        [
            "UPDATE baskets_stockreservation SET product_id = 'song' WHERE basket_id = :basket_of_anna",
            "UPDATE baskets_checkoutitem SET product_id = 'song' WHERE basket_id = :basket_of_anna",
        ],
        {"supply_equation": 1, "checkout_list_is_kept": 2, "checkout_list_went_somewhere": 2},
    ),
    (
        "stock_counters",
        [
            *drop("stock", "available_is_not_negative"),
            "UPDATE baskets_stock SET available = -1 WHERE product_id = 'cap'",
            "UPDATE baskets_stockadjustment SET delta = -1 WHERE product_id = 'cap'",
        ],
        {"constraints_in_place": 1, "available_as_reported": 1},
    ),
    (
        "stock_counters",
        [
            *drop("stock", "available_or_shortfall_is_zero"),
            "UPDATE baskets_stock SET available = available + 1, shortfall = shortfall + 1 WHERE product_id = 'shirt'",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "shortfall_within_reservations",
        [
            "UPDATE baskets_stock SET available = 0, shortfall = 2 WHERE product_id = 'cap'",
            "UPDATE baskets_stockadjustment SET delta = -2 WHERE product_id = 'cap'",
        ],
        {"available_as_reported": 1},
    ),
    (
        "adjustments_whole",
        [
            *drop("stockadjustment", "becoming_unlimited_moves_no_supply"),
            "UPDATE baskets_stockadjustment SET delta = 1 WHERE kind = 'unlimited'",
        ],
        {"constraints_in_place": 1, "supply_equation": 1},
    ),
    ("limited_as_last_reported", ["UPDATE baskets_stock SET limited = true WHERE product_id = 'lamp'"], {"available_as_reported": 1}),
    ("limited_as_last_reported", ["UPDATE baskets_stock SET limited = false WHERE product_id = 'cap'"], {}),
    (
        "limited_as_last_reported",
        ["UPDATE baskets_stock SET reported_as_of = reported_as_of - interval '1 hour' WHERE product_id = 'lamp'"],
        {},
    ),
    ("available_as_reported", ["UPDATE baskets_stock SET reported = reported + 1 WHERE product_id = 'cap'"], {}),
    (
        "available_as_reported",
        ["UPDATE baskets_stock SET reported = NULL WHERE product_id = 'cap'"],
        {"limited_as_last_reported": 1},
    ),
    (
        "available_as_reported",
        [
            "UPDATE baskets_stock SET available = available + 1 WHERE product_id = 'cap'",
            "UPDATE baskets_stockadjustment SET delta = delta + 1 WHERE product_id = 'cap'",
        ],
        {},
    ),
    (
        "reservations_whole",
        [
            *drop("stockreservation", "reservation_ended_unless_held"),
            "UPDATE baskets_stockreservation SET ended_at = NULL WHERE status = 'FAILED'",
        ],
        {"constraints_in_place": 1, "reservations_end_when_their_session_does": 1},
    ),
    (
        "one_live_reservation",
        [
            "DROP INDEX one_live_and_one_short_record_per_checkout_item",
            """
            INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at)
            SELECT basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at
            FROM baskets_stockreservation WHERE basket_id = :basket_of_anna
            """,
        ],
        {"constraints_in_place": 1, "supply_equation": 1, "reservations_follow_their_session": 1},
    ),
]

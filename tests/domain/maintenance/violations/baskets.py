"""Baskets and their lists: ways to break the rules of the module of the same name in `invariants`."""

from tests.domain.maintenance.violations.statements import Violation, drop

VIOLATIONS: list[Violation] = [
    (
        "one_basket_per_user",
        [
            *drop("basket", "one_basket_per_partner_and_user"),
            "UPDATE baskets_basket SET user_id = 'anna' WHERE id = :basket_of_bob",
        ],
        {"constraints_in_place": 1, "basket_key_computed": 1},
    ),
    (
        "one_list_per_product",
        [
            *drop("basketitem", "one_item_per_basket_and_product"),
            """
            INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
            SELECT basket_id, product_id, 'saved', 1, 9 FROM baskets_basketitem WHERE basket_id = :basket_of_bob AND list = 'cart'
            """,
        ],
        {"constraints_in_place": 1},
    ),
    (
        "items_whole",
        [
            *drop("basketitem", "item_count_is_positive"),
            "UPDATE baskets_basketitem SET count = 0 WHERE basket_id = :basket_of_bob AND list = 'cart'",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "items_whole",
        [
            """
            INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
            SELECT gen_random_uuid(), product_id, list, count, position FROM baskets_basketitem
            WHERE basket_id = :basket_of_bob AND list = 'cart'
            """,
        ],
        {},
    ),
    (
        "items_have_their_product",
        ["UPDATE baskets_basketitem SET product_id = 'gone' WHERE basket_id = :basket_of_bob AND list = 'cart'"],
        {},
    ),
    (
        "items_can_be_named",
        [
            "INSERT INTO baskets_product SELECT 'a/b', 'Name', '', '', '', NULL, '', false",
            "UPDATE baskets_basketitem SET product_id = 'a/b' WHERE basket_id = :basket_of_bob AND list = 'cart'",
        ],
        {},
    ),
    (
        "sandbox_is_apart",
        [
            "INSERT INTO baskets_product SELECT 'sandbox-x', 'Name', '', '', '', NULL, '', true",
            "UPDATE baskets_basketitem SET product_id = 'sandbox-x' WHERE basket_id = :basket_of_bob AND list = 'cart'",
        ],
        {},
    ),
    (
        "closed_baskets_are_empty",
        ["UPDATE baskets_basketitem SET basket_id = :basket_of_gus WHERE basket_id = :basket_of_bob AND list = 'cart'"],
        {},
    ),
    (
        "closed_baskets_are_empty",
        ["UPDATE baskets_basket SET hidden_at = statement_timestamp() WHERE id = :basket_of_fay"],
        {"closed_as_recorded": 1},
    ),
    ("stored_responses_are_complete", ["UPDATE baskets_idempotencyrecord SET status = NULL"], {}),
    ("stored_responses_are_complete", ["UPDATE baskets_idempotencyrecord SET status = 503"], {}),
    (
        "times_in_order",
        [
            *drop("checkoutsession", "session_finished_after_the_start"),
            "UPDATE baskets_checkoutsession SET finished_at = started_at - interval '1 hour' WHERE id = :session_of_anna",
        ],
        {"constraints_in_place": 1, "reservations_end_when_their_session_does": 1},
    ),
    (
        "nothing_from_the_future",
        ["UPDATE baskets_basket SET last_changed_at = last_changed_at + interval '1 hour' WHERE id = :basket_of_anna"],
        {},
    ),
    (
        "nothing_from_the_future",
        ["UPDATE baskets_stockadjustment SET as_of = statement_timestamp() + interval '1 day' WHERE product_id = 'cap'"],
        {"limited_as_last_reported": 1},
    ),
    (
        "times_in_order",
        ["UPDATE baskets_checkoutsession SET reversed_at = finished_at - interval '1 second' WHERE id = :session_of_ida"],
        {"orders_reversed_once": 1},
    ),
    (
        "nothing_from_the_future",
        ["UPDATE baskets_checkoutsession SET reversed_at = reversed_at + interval '1 hour' WHERE id = :session_of_ida"],
        {"orders_reversed_once": 1},
    ),
    (
        "times_in_order",
        ["UPDATE baskets_basket SET expires_at = last_changed_at WHERE id = :basket_of_anna"],
        {},
    ),
    ("basket_key_computed", ["UPDATE baskets_basket SET user_id = 'zoe' WHERE user_id = 'anna'"], {}),
    (
        "moved_baskets_have_arrived",
        ["INSERT INTO baskets_movingbatch (id, cell, baskets) VALUES (gen_random_uuid(), 2, '{}'), (gen_random_uuid(), 3, '')"],
        {},
    ),
]

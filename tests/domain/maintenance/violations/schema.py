"""Constraints, columns and triggers: ways to break the rules of the module of the same name in `invariants`."""

from tests.domain.maintenance.violations.statements import Violation, drop

VIOLATIONS: list[Violation] = [
    ("constraints_in_place", drop("basket", "user_id_is_not_empty"), {}),
    ("constraints_in_place", ["DROP INDEX one_active_checkout_per_basket"], {}),
    (
        "constraints_in_place",
        [
            *drop("product", "price_is_not_negative"),
            "ALTER TABLE baskets_product ADD CONSTRAINT price_is_not_negative CHECK (price >= 0) NOT VALID",
        ],
        {},
    ),
    ("constraints_in_place", ["ALTER TABLE baskets_stock DROP CONSTRAINT baskets_stock_row_is_valid"], {}),
    (
        "constraints_in_place",
        [
            """
            ALTER TABLE baskets_stock DROP CONSTRAINT baskets_stock_row_is_valid, ADD CONSTRAINT baskets_stock_row_is_valid
            CHECK (((baskets_stock.*)::baskets_stock_row).product_id IS NOT NULL) NOT VALID
            """
        ],
        {},
    ),
    ("columns_guarded", ["ALTER TABLE baskets_event ALTER kind DROP NOT NULL"], {}),
    ("triggers_switched_on", ["ALTER TABLE baskets_attention DISABLE TRIGGER ALL"], {}),
    ("triggers_switched_on", ["ALTER TABLE baskets_product DISABLE TRIGGER product_is_never_deleted"], {}),
    ("triggers_switched_on", ["DROP TRIGGER product_is_never_deleted ON baskets_product"], {}),
]

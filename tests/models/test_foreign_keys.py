"""Foreign keys and indexes: what is checked, what has an index, and what has one too many."""

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import ForeignKey

# An index serves where its first column is the key and it leaves out no row but those without a value.
WITHOUT_INDEX = """
SELECT conrelid::regclass::text AS table_name, attname
FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND conrelid::regclass::text LIKE %s AND NOT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1] AND i.indisvalid
      AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = format('(%%I IS NOT NULL)', a.attname))
)
ORDER BY 1, 2
"""


# Partners are never deleted. Products are unlisted and never deleted; live reservations of a product have partial indexes.
NOT_NEEDED = [
    ("baskets_partneractivity", "partner_id"),
    ("baskets_productactivity", "product_id"),
    ("baskets_stockreservation", "product_id"),
]


@pytest.mark.django_db
def test_every_foreign_key_has_an_index_unless_its_rows_are_never_deleted() -> None:
    with connection.cursor() as cursor:
        cursor.execute(WITHOUT_INDEX, ["baskets_%"])
        assert cursor.fetchall() == NOT_NEEDED


def test_every_foreign_key_is_checked_unless_another_key_or_lock_ensures_it() -> None:
    fields = [field for model in apps.get_app_config("baskets").get_models() for field in model._meta.local_concrete_fields]
    assert sorted(str(field) for field in fields if isinstance(field, ForeignKey) and not field.db_constraint) == [
        "baskets.BasketItem.basket",
        "baskets.CheckoutItem.basket",
        "baskets.Event.basket",
        "baskets.Event.session",
        "baskets.StockReservation.basket",
    ]


# Django adds them beside the index of a unique column. Under the collation "C", that one serves LIKE as well.
PATTERN_INDEXES = """
SELECT i.indexrelid::regclass::text
FROM pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_collation c ON c.oid = i.indcollation[0]
WHERE i.indrelid::regclass::text = ANY(%s) AND o.opcname IN ('varchar_pattern_ops', 'text_pattern_ops') AND c.collname = 'C'
"""


@pytest.mark.django_db
def test_tables_of_the_hot_path_have_no_second_index_for_like() -> None:
    with connection.cursor() as cursor:
        cursor.execute(PATTERN_INDEXES, [["baskets_checkoutsession", "baskets_product", "baskets_stock"]])
        assert cursor.fetchall() == []

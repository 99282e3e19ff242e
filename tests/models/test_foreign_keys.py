"""Foreign keys and indexes: what is checked, what has an index, and what has one too many."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db import IntegrityError, connection
from django.db.models import ForeignKey

import baskets
from tests.factories import ProductFactory

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


# Partners are never deleted. Products are unlisted and never deleted.
NOT_NEEDED = [
    ("baskets_partneractivity", "partner_id"),
    ("baskets_productactivity", "product_id"),
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
        "baskets.BasketItem.product",
        "baskets.CheckoutItem.basket",
        "baskets.CheckoutItem.product",
        "baskets.CheckoutItem.session",
        "baskets.CheckoutSession.basket",
        "baskets.CheckoutSession.partner",
        "baskets.Event.basket",
        "baskets.Event.session",
        "baskets.FeedPosition.event",
        "baskets.FeedPosition.partner",
        "baskets.StockReservation.basket",
        "baskets.StockReservation.product",
        "baskets.StockReservation.session",
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


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM baskets_product WHERE product_id = 'shirt'",
        "UPDATE baskets_product SET product_id = 'blouse' WHERE product_id = 'shirt'",
    ],
)
def test_a_product_is_never_deleted_and_keeps_its_id(statement: str) -> None:
    ProductFactory(product_id="shirt")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE baskets_product SET product_id = 'shirt', listed = false")
        with pytest.raises(IntegrityError, match="a product is never deleted"):
            cursor.execute(statement)


# What a key without a check may refer to, and the only files with statements that delete it: a purge, and a move to another cell.
DELETION = (
    r"DELETE FROM baskets_(basket|checkoutsession|event|partner|product)\b"
    r"|\b(Basket|CheckoutSession|Event|Partner|Product)\.objects\b.*\.delete\(\)"
)
DELETING = {"domain/maintenance/retention.py"}
# By the names of tables, in an order that a test of moves compares with the models.
DELETING_BY_NAME = {"domain/cells/basket_copies.py", "domain/cells/replication.py"}


def test_nothing_else_deletes_what_a_key_without_a_check_refers_to() -> None:
    root = Path(baskets.__file__).parent
    files = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py") if "migrations" not in path.parts}
    assert {name for name, text in files.items() if re.search(DELETION, text)} == DELETING
    assert {name for name, text in files.items() if re.search(r"DELETE FROM \{", text)} - {"domain/events/activity.py"} == DELETING_BY_NAME

"""Every foreign key has an index that begins with it, so that deleting the row it refers to scans no table."""

import pytest
from django.db import connection

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

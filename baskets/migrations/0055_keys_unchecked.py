"""Leaves nine more foreign keys of the hot path unchecked, and keeps products by a trigger. See ADR 71."""

from typing import Any

from django.db import migrations, models
from django.db.models.deletion import PROTECT

from baskets.db.operations import DropCheckOfKey

# What refers to a product is not checked any more, so nothing may delete or rename one.
KEEP_PRODUCTS = (
    """
    CREATE OR REPLACE FUNCTION product_is_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $keep$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.product_id = NEW.product_id THEN
            RETURN NULL;
        END IF;
        RAISE foreign_key_violation USING CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
            MESSAGE = 'a product is never deleted and keeps its id: baskets and orders refer to it';
    END
    $keep$
    """,
    """
    CREATE OR REPLACE TRIGGER product_is_never_deleted AFTER DELETE OR UPDATE OF product_id ON baskets_product
    FOR EACH ROW EXECUTE FUNCTION product_is_never_deleted()
    """,
)
KEEP_PRODUCTS_NO_MORE = (
    "DROP TRIGGER IF EXISTS product_is_never_deleted ON baskets_product",
    "DROP FUNCTION IF EXISTS product_is_never_deleted()",
)


def drop_check_of_key(
    model: str, name: str, to: str, *, kind: type[models.ForeignKey[Any, Any]] = models.ForeignKey, **options: Any
) -> DropCheckOfKey:
    """Drop the database's check of a foreign key, and keep the field."""
    return DropCheckOfKey(model_name=model, name=name, field=kind(f"baskets.{to}", on_delete=PROTECT, db_constraint=False, **options))


class Migration(migrations.Migration):
    # Each key locks two tables for a moment. Each operation can be run again.
    atomic = False

    dependencies = [("baskets", "0054_row_checks")]

    operations = [
        migrations.RunSQL(KEEP_PRODUCTS, KEEP_PRODUCTS_NO_MORE),
        drop_check_of_key("basketitem", "product", "product", related_name="basket_items", db_index=False),
        drop_check_of_key("checkoutsession", "basket", "basket", related_name="sessions"),
        drop_check_of_key("checkoutsession", "partner", "partner", related_name="sessions", db_index=False),
        drop_check_of_key("checkoutitem", "session", "checkoutsession", related_name="items", db_index=False),
        drop_check_of_key("checkoutitem", "product", "product", related_name="checkout_items", db_index=False),
        drop_check_of_key("stockreservation", "session", "checkoutsession", related_name="reservations"),
        drop_check_of_key("stockreservation", "product", "product", related_name="reservations", db_index=False),
        drop_check_of_key("feedposition", "event", "event", kind=models.OneToOneField, related_name="place"),
        drop_check_of_key("feedposition", "partner", "partner", related_name="feed", db_index=False),
    ]

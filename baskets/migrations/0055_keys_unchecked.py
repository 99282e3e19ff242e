"""Leaves nine more foreign keys of the hot path unchecked, keeps products by a trigger, and makes one index of three. See ADR 71."""

from typing import Any

from django.db import migrations, models
from django.db.models import Case, F, Value, When
from django.db.models.deletion import PROTECT

from baskets.db.operations import DropCheckOfKey, RemoveIndexConcurrently

# Building an index on a large table takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"

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


def create_index(sql: str, name: str) -> list[str]:
    """Return what creates an index on reservations concurrently, in place of one that an earlier attempt left behind.

    :param sql: the definition, with `INDEX` for the place of the name.
    """
    return [drop_index(name), sql.replace("INDEX", f"INDEX CONCURRENTLY {name} ON baskets_stockreservation")]


def drop_index(name: str) -> str:
    """Return what drops an index, however often it is tried."""
    return f"DROP INDEX CONCURRENTLY IF EXISTS {name}"


def remove_constraint(name: str, condition: str) -> migrations.SeparateDatabaseAndState:
    """Remove a unique constraint of session and product that has a condition, with its index."""
    recreate = create_index(f"CREATE UNIQUE INDEX (session_id, product_id) WHERE {condition}", name)
    return migrations.SeparateDatabaseAndState(
        database_operations=[migrations.RunSQL(drop_index(name), recreate)],
        state_operations=[migrations.RemoveConstraint(model_name="stockreservation", name=name)],
    )


SESSION = models.ForeignKey("baskets.checkoutsession", on_delete=PROTECT, related_name="reservations", db_index=False, db_constraint=False)
SESSION_INDEX, ONE_LIVE = "baskets_stockreservation_session_id_816c7293", "one_live_and_one_short_record_per_checkout_item"


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
        migrations.RunSQL(UNLIMITED, LIMITED),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    create_index(
                        "CREATE UNIQUE INDEX (session_id, product_id,"
                        " (CASE WHEN status IN ('HELD', 'SOLD') THEN 0 WHEN status = 'SHORT' THEN -1 ELSE id END))",
                        ONE_LIVE,
                    ),
                    drop_index(ONE_LIVE),
                )
            ],
            state_operations=[
                migrations.AddConstraint(
                    model_name="stockreservation",
                    constraint=models.UniqueConstraint(
                        F("session"),
                        F("product"),
                        Case(When(status__in=["HELD", "SOLD"], then=Value(0)), When(status="SHORT", then=Value(-1)), default=F("id")),
                        name=ONE_LIVE,
                    ),
                )
            ],
        ),
        remove_constraint("one_live_reservation_per_checkout_item", "status IN ('HELD', 'SOLD')"),
        remove_constraint("one_short_record_per_checkout_item", "status = 'SHORT'"),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(drop_index(SESSION_INDEX), create_index("CREATE INDEX (session_id)", SESSION_INDEX))],
            state_operations=[migrations.AlterField(model_name="stockreservation", name="session", field=SESSION)],
        ),
        RemoveIndexConcurrently(model_name="event", name="events_of_session"),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]

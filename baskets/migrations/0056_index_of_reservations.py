"""Adds one unique index of reservations that replaces three. See ADR 71.

A repeat of this migration drops the new index and builds it again. Until it is there, the former indexes hold the rules. The next
migration drops those.
"""

from django.db import migrations, models
from django.db.models import Case, F, Value, When

# Building an index on a large table takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"
ONE_LIVE = "one_live_and_one_short_record_per_checkout_item"


def create_index(sql: str, name: str) -> list[str]:
    """Return what creates an index on reservations concurrently, in place of one that an earlier attempt left behind.

    :param sql: the definition, with `INDEX` for the place of the name.
    """
    return [drop_index(name), sql.replace("INDEX", f"INDEX CONCURRENTLY {name} ON baskets_stockreservation")]


def drop_index(name: str) -> str:
    """Return what drops an index, however often it is tried."""
    return f"DROP INDEX CONCURRENTLY IF EXISTS {name}"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0055_keys_unchecked")]

    operations = [
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
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]

"""Drops three indexes of reservations that one replaces, and one of events that no statement uses. See ADR 71."""

from importlib import import_module

from django.db import migrations, models
from django.db.models.deletion import PROTECT

from baskets.db.operations import RemoveIndexConcurrently

added = import_module("baskets.migrations.0056_index_of_reservations")
UNLIMITED, LIMITED = added.UNLIMITED, added.LIMITED
create_index, drop_index = added.create_index, added.drop_index

SESSION = models.ForeignKey("baskets.checkoutsession", on_delete=PROTECT, related_name="reservations", db_index=False, db_constraint=False)
SESSION_INDEX = "baskets_stockreservation_session_id_816c7293"


def remove_constraint(name: str, condition: str) -> migrations.SeparateDatabaseAndState:
    """Remove a unique constraint of session and product that has a condition, with its index."""
    recreate = create_index(f"CREATE UNIQUE INDEX (session_id, product_id) WHERE {condition}", name)
    return migrations.SeparateDatabaseAndState(
        database_operations=[migrations.RunSQL(drop_index(name), recreate)],
        state_operations=[migrations.RemoveConstraint(model_name="stockreservation", name=name)],
    )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0056_index_of_reservations")]

    operations = [
        migrations.RunSQL(UNLIMITED, LIMITED),
        remove_constraint("one_live_reservation_per_checkout_item", "status IN ('HELD', 'SOLD')"),
        remove_constraint("one_short_record_per_checkout_item", "status = 'SHORT'"),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(drop_index(SESSION_INDEX), create_index("CREATE INDEX (session_id)", SESSION_INDEX))],
            state_operations=[migrations.AlterField(model_name="stockreservation", name="session", field=SESSION)],
        ),
        RemoveIndexConcurrently(model_name="event", name="events_of_session"),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]

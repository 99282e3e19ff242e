"""Adds the indexes that deleting a basket or a checkout session needs: PostgreSQL looks for rows that still refer to it."""

from django.db import migrations, models

from baskets.db.operations import AddIndexConcurrently

# Building an index on a large table takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("baskets", "0013_purge"),
    ]

    operations = [
        migrations.RunSQL(UNLIMITED, LIMITED),
        AddIndexConcurrently(
            model_name="event",
            index=models.Index(condition=models.Q(("session__isnull", False)), fields=["session"], name="events_of_session"),
        ),
        AddIndexConcurrently(
            model_name="stockreservation",
            index=models.Index(fields=["basket"], name="reservations_of_basket"),
        ),
        AddIndexConcurrently(
            model_name="checkoutitem",
            index=models.Index(fields=["basket"], name="checkout_items_of_basket"),
        ),
        AddIndexConcurrently(
            model_name="attention",
            index=models.Index(fields=["basket"], name="attention_of_basket"),
        ),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]

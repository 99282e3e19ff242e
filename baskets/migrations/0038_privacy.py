"""Adds the permission to export a user's data, and finds all repairs by an index. No role gets the permission."""

from django.db import migrations, models

from baskets.db.operations import AddIndexConcurrently

# Building an index on a large table takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0037_checkouts_and_orders")]

    operations = [
        migrations.AlterModelOptions(
            name="basket",
            options={
                "permissions": [
                    ("repair_change_item", "Can change, move or remove an item of a basket"),
                    ("repair_add_item", "Can add an item to a cart"),
                    ("repair_restore", "Can restore a deleted or expired basket"),
                    ("repair_extend", "Can make a basket last longer"),
                    ("repair_end", "Can end a basket"),
                    ("repair_erase", "Can erase what is stored of a user"),
                    ("privacy_export", "Can export what is stored of a user"),
                ],
                "verbose_name": "basket",
                "verbose_name_plural": "baskets",
            },
        ),
        migrations.RunSQL(UNLIMITED, LIMITED),
        AddIndexConcurrently(
            model_name="event", index=models.Index(condition=models.Q(kind="repaired"), fields=["id"], name="events_of_repairs")
        ),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]

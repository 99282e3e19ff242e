"""Adds the repairs that add an item, restore a basket and extend a hold, and gives them to the roles."""

from importlib import import_module

from django.db import migrations

extend_roles = import_module("baskets.migrations.0012_desk").extend_roles


class Migration(migrations.Migration):

    dependencies = [
        ("baskets", "0027_words_of_events"),
    ]

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
                ]
            },
        ),
        migrations.AlterModelOptions(
            name="checkoutsession",
            options={
                "permissions": [
                    ("repair_finish_as_ordered", "Can finish a checkout as ordered"),
                    ("repair_abort", "Can abort a checkout"),
                    ("repair_order_late", "Can order a checkout late"),
                    ("repair_reverse_order", "Can reverse an order"),
                    ("repair_hold_again", "Can hold again what had failed"),
                    ("repair_extend_hold", "Can extend the hold of an active checkout"),
                ]
            },
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

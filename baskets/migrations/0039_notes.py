"""Adds the permission to add a note to a basket, and gives it to the roles."""

from importlib import import_module

from django.db import migrations

extend_roles = import_module("baskets.migrations.0012_desk").extend_roles


class Migration(migrations.Migration):

    dependencies = [("baskets", "0038_privacy")]

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
                    ("repair_note", "Can add a note to a basket"),
                    ("repair_erase", "Can erase what is stored of a user"),
                    ("privacy_export", "Can export what is stored of a user"),
                ],
                "verbose_name": "basket",
                "verbose_name_plural": "baskets",
            },
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

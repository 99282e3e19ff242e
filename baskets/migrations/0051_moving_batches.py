"""Keeps baskets that have left for another cell until they have arrived there."""

from typing import Any

from django.db import migrations, models
from django.db.migrations.exceptions import IrreversibleError
from django.db.models.functions import Now


def keep_moving_baskets(apps: Any, schema_editor: Any) -> None:
    """Refuse to drop the only table that has these baskets.

    :raises IrreversibleError: there are some.
    """
    if apps.get_model("baskets", "MovingBatch").objects.using(schema_editor.connection.alias).exclude(baskets="").exists():
        raise IrreversibleError("Baskets have left for another cell and have not arrived: run `move_slot` again, with the same slots.")


class Migration(migrations.Migration):
    dependencies = [("baskets", "0050_autovacuum")]

    operations = [
        migrations.CreateModel(
            name="MovingBatch",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("cell", models.PositiveSmallIntegerField(help_text="The other cell.")),
                (
                    "baskets",
                    models.TextField(blank=True, help_text="As JSON, with everything that belongs to them; empty where they have arrived."),
                ),
                ("created_at", models.DateTimeField(db_default=Now())),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunPython(migrations.RunPython.noop, keep_moving_baskets),
    ]

"""Keeps baskets that have left for another cell until they have arrived there."""

from django.db import migrations, models
from django.db.models.functions import Now


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
    ]

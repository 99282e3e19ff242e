"""Checks no foreign key from items to their basket any more. See ADR 55."""

from django.db import migrations, models
from django.db.models.deletion import PROTECT

from baskets.db.operations import DropCheckOfKey


class Migration(migrations.Migration):
    dependencies = [("baskets", "0051_moving_batches")]

    operations = [
        DropCheckOfKey(
            model_name="basketitem",
            name="basket",
            field=models.ForeignKey("baskets.basket", on_delete=PROTECT, related_name="items", db_index=False, db_constraint=False),
        ),
    ]

"""Adds what the other cells have of a product, for the metric of starts that found too little in this cell only."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("baskets", "0046_order_of_expiry")]

    operations = [
        migrations.CreateModel(
            name="StockElsewhere",
            fields=[
                (
                    "product",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name="+", serialize=False, to="baskets.stock"
                    ),
                ),
                ("available", models.BigIntegerField(help_text="Pieces that the other cells can sell together.")),
                ("read_at", models.DateTimeField(help_text="When that became so, by a look at all cells.")),
            ],
            options={"default_permissions": ()},
        ),
    ]

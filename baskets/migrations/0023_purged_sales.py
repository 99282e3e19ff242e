"""Keeps the moment of the last purged sale of a product: a report about an earlier moment cannot allow for that sale."""

from django.db import migrations, models

FILL = """
UPDATE baskets_stock s SET purged_until = purged.at
FROM (SELECT product_id, max(as_of) AS at FROM baskets_stockadjustment WHERE kind = 'purged' GROUP BY product_id) purged
WHERE s.product_id = purged.product_id
"""


class Migration(migrations.Migration):

    dependencies = [
        ("baskets", "0022_staff_access"),
    ]

    operations = [
        migrations.AddField(
            model_name="stock",
            name="purged_until",
            field=models.DateTimeField(help_text="The moment of the last sale whose record was purged.", null=True),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]

"""Leaves room beside each stock row, so that a new version of its counters stays on its page and is written to no index (HOT)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("baskets", "0041_names_of_permissions")]

    operations = [
        migrations.RunSQL("ALTER TABLE baskets_stock SET (fillfactor = 50)", "ALTER TABLE baskets_stock RESET (fillfactor)"),
    ]

"""Vacuums the tables of a checkout after 2% of their rows have changed. By default it is 20%: of ten million rows, two million dead ones.

The figures are in `docs/growth.md`. The parameters change no data and lock out no call.
"""

from django.db import migrations

TABLES = ("basket", "basketitem", "checkoutsession", "stockreservation", "idempotencyrecord")
PARAMETERS = ("autovacuum_vacuum_scale_factor", "autovacuum_analyze_scale_factor")


class Migration(migrations.Migration):
    dependencies = [("baskets", "0049_search_of_journal")]

    operations = [
        migrations.RunSQL(
            [f"ALTER TABLE baskets_{table} SET ({', '.join(f'{parameter} = 0.02' for parameter in PARAMETERS)})" for table in TABLES],
            [f"ALTER TABLE baskets_{table} RESET ({', '.join(PARAMETERS)})" for table in TABLES],
        ),
    ]

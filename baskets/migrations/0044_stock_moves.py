"""Lets two adjustments in two cells be the halves of one move of stock. See ADR 56."""

from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.db import migrations, models
from django.db.models import F, Q

# Reading a large table takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"
ONE_HALF = "one_half_of_a_move_per_cell"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0043_end_of_the_last_sweep")]

    operations = [
        migrations.RunSQL(UNLIMITED, LIMITED),
        migrations.AddField("stockadjustment", "move", models.UUIDField(null=True)),
        migrations.AddField(
            "stockadjustment",
            "moved",
            models.BigIntegerField(
                null=True, help_text="By how many pieces the move changes this cell; `delta` is 0 if a report had them."
            ),
        ),
        migrations.AddField("stockadjustment", "other_cell", models.BigIntegerField(null=True, help_text="The cell of the other half.")),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f"CREATE UNIQUE INDEX CONCURRENTLY {ONE_HALF} ON baskets_stockadjustment (move) WHERE move IS NOT NULL",
                    f"DROP INDEX CONCURRENTLY IF EXISTS {ONE_HALF}",
                )
            ],
            state_operations=[
                migrations.AddConstraint(
                    "stockadjustment", models.UniqueConstraint(name=ONE_HALF, fields=["move"], condition=Q(move__isnull=False))
                )
            ],
        ),
        AddConstraintNotValid(
            "stockadjustment",
            models.CheckConstraint(
                name="half_of_a_move_is_whole",
                condition=Q(move__isnull=True, moved__isnull=True, other_cell__isnull=True)
                | Q(Q(delta=F("moved")) | Q(delta=0), ~Q(moved=0), kind="supply", move__isnull=False, moved__isnull=False)
                & Q(other_cell__isnull=False, other_cell__gt=0),
            ),
        ),
        ValidateConstraint("stockadjustment", "half_of_a_move_is_whole"),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]

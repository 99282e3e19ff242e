"""Adds when a sweep last ended, for the metrics."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("baskets", "0042_room_for_counters")]

    operations = [
        migrations.AddField(
            model_name="activitystate",
            name="swept_at",
            field=models.DateTimeField(help_text="When a sweep last ended after all that was due.", null=True),
        ),
    ]

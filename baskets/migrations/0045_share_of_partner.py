"""Adds the share of a product's unsold pieces that one partner may hold. Null means the share of the service."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("baskets", "0044_stock_moves")]

    operations = [
        migrations.AddField(
            model_name="partner",
            name="share_percent",
            field=models.PositiveIntegerField(blank=True, help_text="Empty: the default of the service. 0: no limit.", null=True),
        ),
        migrations.AddConstraint(
            model_name="partner",
            constraint=models.CheckConstraint(
                name="own_share_is_a_percentage", condition=Q(share_percent__isnull=True) | Q(share_percent__lte=100)
            ),
        ),
    ]

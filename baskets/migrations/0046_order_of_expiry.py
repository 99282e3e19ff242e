"""Gives the indexes of what expires the second column of their order, so that many rows of one moment are not sorted for each page."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

from baskets.db.operations import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0045_share_of_partner")]

    operations = [
        AddIndexConcurrently(
            model_name="basket",
            index=models.Index(
                fields=["expires_at", "id"], name="shown_baskets_by_expiry_and_id", condition=Q(hidden_at__isnull=True)
            ),
        ),
        AddIndexConcurrently(
            model_name="checkoutsession",
            index=models.Index(fields=["expires_at", "id"], name="active_sessions_to_expire", condition=Q(status="ACTIVE")),
        ),
        RemoveIndexConcurrently(model_name="basket", name="shown_baskets_by_expiry"),
        RemoveIndexConcurrently(model_name="checkoutsession", name="active_sessions_by_expiry"),
    ]

"""Adds which key started and finished a checkout, and whether only the server keys of a partner report orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("baskets", "0016_product_ids"),
    ]

    operations = [
        migrations.AddField(
            model_name="checkoutsession",
            name="finished_by_key",
            field=models.CharField(
                blank=True,
                db_collation="C",
                db_default="",
                default="",
                help_text="The key that brought it to the status it has; empty: staff, a command, or none yet.",
                max_length=16,
            ),
        ),
        migrations.AddField(
            model_name="checkoutsession",
            name="started_by_key",
            field=models.CharField(
                blank=True,
                db_collation="C",
                db_default="",
                default="",
                help_text="The key that started it; empty: staff or a command.",
                max_length=16,
            ),
        ),
        migrations.AddField(
            model_name="partner",
            name="orders_need_server_key",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Recommended. Only server keys may report `ordered: true`: a key stolen out of an app sells nothing.",
            ),
        ),
        migrations.AddConstraint(
            model_name="checkoutsession",
            constraint=models.CheckConstraint(
                condition=models.Q(("status", "ACTIVE"), _negated=True) | models.Q(("finished_by_key", "")),
                name="active_session_has_no_finishing_key",
            ),
        ),
        migrations.AddIndex(
            model_name="checkoutsession",
            index=models.Index(
                condition=models.Q(("started_by_key", ""), _negated=True), fields=["started_by_key", "started_at"], name="sessions_by_key"
            ),
        ),
        migrations.AddIndex(
            model_name="checkoutsession",
            index=models.Index(
                condition=models.Q(("status", "ORDERED"), models.Q(("finished_by_key", ""), _negated=True)),
                fields=["finished_by_key", "id"],
                name="orders_by_key",
            ),
        ),
    ]

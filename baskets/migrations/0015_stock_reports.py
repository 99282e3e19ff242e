"""Keeps the report that counts beside the counters of a product, and names what was ordered while a product was unlimited."""

from django.db import migrations, models
from django.db.models.functions import Now

# The last report stays the one that counts, where the counters follow from it. Elsewhere they are taken as reported now:
# reports that arrived in another order than that of their moments have left them as they are.
FILL = """
WITH last AS (
    SELECT DISTINCT ON (product_id) product_id, reported, as_of FROM baskets_stockadjustment
    WHERE kind IN ('unsold', 'unlimited') ORDER BY product_id, as_of DESC, id DESC
), sums AS (
    SELECT s.product_id, s.limited, last.reported, last.as_of, s.available - s.shortfall + (
               SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation r
               WHERE r.product_id = s.product_id AND r.status = 'HELD'
           ) AS unsold, (
               SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation r
               WHERE r.product_id = s.product_id AND r.status = 'SOLD' AND r.ended_at > last.as_of
           ) - (
               SELECT coalesce(sum(delta), 0) FROM baskets_stockadjustment a
               WHERE a.product_id = s.product_id AND a.kind IN ('supply', 'purged') AND a.as_of > last.as_of
           ) AS since
    FROM baskets_stock s LEFT JOIN last USING (product_id)
), report AS (
    SELECT product_id, unsold, as_of, limited, CASE WHEN limited THEN unsold + since = reported ELSE reported IS NULL AND as_of IS NOT NULL END AS counts
    FROM sums
)
UPDATE baskets_stock s
SET reported = CASE WHEN NOT report.limited THEN NULL WHEN report.counts THEN last.reported ELSE report.unsold END,
    reported_as_of = CASE WHEN report.counts THEN last.as_of ELSE statement_timestamp() END
FROM report LEFT JOIN last USING (product_id)
WHERE s.product_id = report.product_id
"""
# For the release before, which knows neither this kind nor what these pieces were taken for.
GIVE_BACK = "UPDATE baskets_stockadjustment SET kind = 'supply' WHERE kind = 'unheld'"


class Migration(migrations.Migration):

    dependencies = [
        ("baskets", "0014_foreign_key_indexes"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="stockadjustment", name="adjustment_kind_is_known"),
        migrations.AddField(
            model_name="stock",
            name="reported",
            field=models.BigIntegerField(help_text="Unsold pieces by the latest report, held ones included; null is unlimited.", null=True),
        ),
        migrations.AddField(
            model_name="stock",
            name="reported_as_of",
            field=models.DateTimeField(db_default=Now(), help_text="The moment the latest report speaks of."),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        # What was written must be judged before the tables change further.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="stockadjustment",
            name="as_of",
            field=models.DateTimeField(help_text="The moment a report speaks of; else when the pieces came, went or were sold."),
        ),
        migrations.AlterField(
            model_name="stockadjustment",
            name="kind",
            field=models.CharField(
                choices=[
                    ("unsold", "number of unsold pieces reported"),
                    ("unlimited", "product became unlimited"),
                    ("supply", "pieces added or removed"),
                    ("unheld", "pieces ordered while the product was unlimited"),
                    ("purged", "sold pieces of purged orders"),
                ],
                max_length=10,
            ),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, GIVE_BACK),
        migrations.AddIndex(
            model_name="stockadjustment",
            index=models.Index(
                condition=models.Q(("kind__in", ["supply", "unheld", "purged"])), fields=["product", "as_of"], name="supply_after_a_moment"
            ),
        ),
        migrations.AddConstraint(
            model_name="stockadjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["unsold", "unlimited", "supply", "unheld", "purged"])), name="adjustment_kind_is_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="stockadjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(models.Q(("kind", "unheld"), _negated=True), ("delta__lt", 0), _connector="OR"),
                name="unheld_sale_takes_supply",
            ),
        ),
    ]

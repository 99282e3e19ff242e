"""Records the positions of the feed whose events moved to another cell with their basket."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("baskets", "0047_stock_elsewhere")]

    operations = [
        migrations.CreateModel(
            name="FeedGap",
            fields=[("position", models.BigIntegerField(primary_key=True, serialize=False))],
            options={"default_permissions": ()},
        ),
    ]

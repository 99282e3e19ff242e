"""Adds the public id of an event. Events that have their positions keep the names that their partners know them by."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0017_purchase_limits'),
    ]

    operations = [
        migrations.AddField(
            model_name='feedposition',
            name='public_id',
            field=models.UUIDField(help_text='Names the event to its partner. Empty: its primary key does, as it always did.', null=True),
        ),
    ]

"""A new signing key is published before it signs. Those that exist sign since their creation."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0035_sandboxes'),
    ]

    operations = [
        migrations.AddField(
            model_name='signingkey',
            name='signs_from',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='From when it signs; it is published before.'),
        ),
        migrations.RunSQL("UPDATE baskets_signingkey SET signs_from = created_at", migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='signingkey',
            name='ends_at',
            field=models.DateTimeField(help_text='Until when its signatures are good; empty while no other key replaces it.', null=True),
        ),
    ]

"""Adds the origins of web pages that may call with a partner's keys."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0010_webhooks'),
    ]

    operations = [
        migrations.AddField(
            model_name='partner',
            name='origins',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=255), blank=True, default=list, help_text='Of web pages that may call with its keys.', size=None),
        ),
    ]

"""Names webhooks to their partners, and lets partners request test messages."""

import django.contrib.postgres.functions
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0031_refused_calls'),
    ]

    operations = [
        migrations.AddField(
            model_name='webhookendpoint',
            name='public_id',
            field=models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), editable=False, help_text='Names the webhook to its partner.', unique=True),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='test_requested_at',
            field=models.DateTimeField(help_text='Set until a deliverer has taken the request for a test message.', null=True),
        ),
        migrations.AlterField(
            model_name='webhookendpoint',
            name='previous_secret',
            field=models.BinaryField(help_text='Encrypted; they sign beside the new one after a rotation.', null=True),
        ),
        migrations.AlterField(
            model_name='webhookendpoint',
            name='state',
            field=models.CharField(choices=[('active', 'active'), ('paused', 'paused'), ('dead', 'given up: it failed for too long'), ('deleted', 'deleted')], default='active', max_length=10),
        ),
    ]

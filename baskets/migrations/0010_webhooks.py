"""Adds the webhooks of partners, and lets the ready-made roles look at them and repair them."""

import importlib

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


roles = importlib.import_module("baskets.migrations.0003_roles")


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0009_token_issuers'),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookEndpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('url', models.CharField(max_length=2000)),
                ('label', models.CharField(blank=True, max_length=100)),
                ('secret', models.BinaryField(help_text='Encrypted; shown once, when it is made.')),
                ('kinds', models.JSONField(default=list, help_text='Which kinds of events; none named: all.')),
                ('state', models.CharField(choices=[('active', 'active'), ('paused', 'paused by staff'), ('dead', 'given up: it failed for too long')], default='active', max_length=10)),
                ('position', models.BigIntegerField(default=0)),
                ('failures', models.PositiveIntegerField(default=0, help_text='Tries that failed since the last one that did not.')),
                ('failing_since', models.DateTimeField(null=True)),
                ('next_try_at', models.DateTimeField(null=True)),
                ('problem', models.CharField(blank=True, help_text='How the last try failed.', max_length=200)),
                ('delivered_at', models.DateTimeField(help_text='The last delivery.', null=True)),
                ('lease', models.UUIDField(null=True)),
                ('leased_until', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('partner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='webhooks', to='baskets.partner')),
            ],
            options={
                'permissions': [('repair_pause', 'Can pause a webhook'), ('repair_resume', 'Can resume a webhook'), ('repair_replay', 'Can have events delivered again')],
            },
        ),
        migrations.CreateModel(
            name='WebhookChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('created', 'created'), ('paused', 'paused'), ('resumed', 'resumed'), ('replayed', 'set back, to deliver again'), ('given_up', 'given up')], max_length=10)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('actor', models.CharField(max_length=200)),
                ('position', models.BigIntegerField(help_text='Where the endpoint stood afterwards.')),
                ('created_at', models.DateTimeField()),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='baskets.webhookendpoint')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.AddIndex(
            model_name='webhookendpoint',
            index=models.Index(condition=models.Q(('state', 'active')), fields=['leased_until'], name='webhooks_to_deliver'),
        ),
        migrations.AddConstraint(
            model_name='webhookendpoint',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['active', 'paused', 'dead'])), name='webhook_state_is_known'),
        ),
        migrations.AddConstraint(
            model_name='webhookendpoint',
            constraint=models.CheckConstraint(condition=models.Q(('position__gte', 0)), name='webhook_position_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='webhookendpoint',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('failing_since__isnull', True), ('failures', 0)), models.Q(('failing_since__isnull', False), ('failures__gt', 0)), _connector='OR'), name='webhook_fails_since_its_first_failure'),
        ),
        migrations.AddConstraint(
            model_name='webhookchange',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['created', 'paused', 'resumed', 'replayed', 'given_up'])), name='webhook_change_is_known'),
        ),
        # The permissions are new, so the roles are given theirs once more.
        migrations.RunPython(roles.make_roles, migrations.RunPython.noop),
    ]

"""Adds lanes, deliverers and blocked baskets. Existing webhooks keep the order of the whole feed."""

import importlib

import django.db.models.deletion
from django.db import migrations, models


roles = importlib.import_module("baskets.migrations.0003_roles")

KEEP_ORDER = """
UPDATE baskets_webhookendpoint SET strict = true;
INSERT INTO baskets_webhooklane (endpoint_id, number, position) SELECT id, 0, position FROM baskets_webhookendpoint;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0029_audit_log'),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookBlockedBasket',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.BigIntegerField()),
                ('failures', models.PositiveIntegerField(help_text='Tries of this event that failed.')),
                ('failing_since', models.DateTimeField(null=True)),
                ('next_try_at', models.DateTimeField()),
                ('problem', models.CharField(blank=True, help_text='How the last try failed.', max_length=200)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='WebhookDeliverer',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('alive_until', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='WebhookLane',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveSmallIntegerField()),
                ('position', models.BigIntegerField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.AlterModelOptions(
            name='webhookendpoint',
            options={'permissions': [('repair_pause', 'Can pause a webhook'), ('repair_resume', 'Can resume a webhook'), ('repair_replay', 'Can have events delivered again')]},
        ),
        migrations.RemoveConstraint(
            model_name='webhookchange',
            name='webhook_change_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='webhookendpoint',
            name='webhook_state_is_known',
        ),
        migrations.RemoveIndex(
            model_name='webhookendpoint',
            name='webhooks_to_deliver',
        ),
        migrations.RemoveField(
            model_name='webhookendpoint',
            name='lease',
        ),
        migrations.RemoveField(
            model_name='webhookendpoint',
            name='leased_until',
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='previous_secret',
            field=models.BinaryField(help_text='Encrypted; signs beside the new one after a rotation.', null=True),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='previous_secret_until',
            field=models.DateTimeField(help_text='The end of the overlap after a rotation.', null=True),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='strict',
            field=models.BooleanField(default=False, help_text='One event at a time, in the order of the feed; a failed event stops all others.'),
        ),
        migrations.AlterField(
            model_name='webhookchange',
            name='kind',
            field=models.CharField(choices=[('created', 'created'), ('paused', 'paused'), ('resumed', 'resumed'), ('replayed', 'set back, to deliver again'), ('given_up', 'given up'), ('skipped', 'skipped an event'), ('changed', 'changed'), ('rotated', 'new secret'), ('deleted', 'deleted')], max_length=10),
        ),
        migrations.AlterField(
            model_name='webhookendpoint',
            name='state',
            field=models.CharField(choices=[('active', 'active'), ('paused', 'paused by staff'), ('dead', 'given up: it failed for too long'), ('deleted', 'deleted')], default='active', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='webhookchange',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['created', 'paused', 'resumed', 'replayed', 'given_up', 'skipped', 'changed', 'rotated', 'deleted'])), name='webhook_change_is_known'),
        ),
        migrations.AddConstraint(
            model_name='webhookendpoint',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['active', 'paused', 'dead', 'deleted'])), name='webhook_state_is_known'),
        ),
        migrations.AddConstraint(
            model_name='webhookendpoint',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('previous_secret__isnull', True), ('previous_secret_until__isnull', True)), models.Q(('previous_secret__isnull', False), ('previous_secret_until__isnull', False)), _connector='OR'), name='webhook_previous_secret_has_an_end'),
        ),
        migrations.AddField(
            model_name='webhookblockedbasket',
            name='basket',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='webhook_blocks', to='baskets.basket'),
        ),
        migrations.AddField(
            model_name='webhookblockedbasket',
            name='endpoint',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='blocked_baskets', to='baskets.webhookendpoint'),
        ),
        migrations.AddField(
            model_name='webhooklane',
            name='deliverer',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='lanes', to='baskets.webhookdeliverer'),
        ),
        migrations.AddField(
            model_name='webhooklane',
            name='endpoint',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='lanes', to='baskets.webhookendpoint'),
        ),
        migrations.AddConstraint(
            model_name='webhookblockedbasket',
            constraint=models.UniqueConstraint(fields=('endpoint', 'basket'), name='one_block_per_endpoint_and_basket'),
        ),
        migrations.AddConstraint(
            model_name='webhookblockedbasket',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('failing_since__isnull', True), ('failures', 0)), models.Q(('failing_since__isnull', False), ('failures__gt', 0)), _connector='OR'), name='blocked_basket_fails_since_its_first_failure'),
        ),
        migrations.AddConstraint(
            model_name='webhooklane',
            constraint=models.UniqueConstraint(fields=('endpoint', 'number'), name='one_lane_per_endpoint_and_number'),
        ),
        migrations.AddConstraint(
            model_name='webhooklane',
            constraint=models.CheckConstraint(condition=models.Q(('position__gte', 0)), name='webhook_lane_position_is_not_negative'),
        ),
        migrations.RunSQL(KEEP_ORDER, migrations.RunSQL.noop),
        # Two models are new, so the roles are given their permissions once more.
        migrations.RunPython(roles.make_roles, migrations.RunPython.noop),
    ]

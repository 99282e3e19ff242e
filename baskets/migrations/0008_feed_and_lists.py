"""Adds the order of the feed, and what the lists for back ends are read from: the partner of a session, and indexes."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0007_guests'),
    ]

    operations = [
        migrations.CreateModel(
            name='FeedPosition',
            fields=[
                ('position', models.BigIntegerField(primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=30)),
            ],
            options={'default_permissions': ()},
        ),
        migrations.CreateModel(
            name='FeedState',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ('position', models.BigIntegerField(default=0, help_text='The last position given.')),
                ('settled_id', models.BigIntegerField(default=0, help_text='No event up to this id will be committed any more.')),
                ('seen_id', models.BigIntegerField(default=0, help_text='Every event up to this id that was visible has its position.')),
                ('horizon', models.BigIntegerField(help_text='Transactions before this one may still commit an event up to it.', null=True)),
                ('purged_position', models.BigIntegerField(default=0, help_text='Up to this position, events may have been purged.')),
            ],
            options={'default_permissions': ()},
        ),
        migrations.AddField(
            model_name='checkoutsession',
            name='partner',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='sessions', to='baskets.partner'),
        ),
        migrations.RunSQL(
            [
                # Foreign keys that are checked at the end would keep the table from being altered.
                "SET CONSTRAINTS ALL IMMEDIATE",
                "UPDATE baskets_checkoutsession s SET partner_id = b.partner_id FROM baskets_basket b WHERE b.id = s.basket_id",
            ],
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name='checkoutsession',
            name='partner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='sessions', to='baskets.partner'),
        ),
        migrations.AddIndex(
            model_name='basket',
            index=models.Index(condition=models.Q(('hidden_at__isnull', True)), fields=['partner', 'last_changed_at'], name='shown_baskets_by_change'),
        ),
        migrations.AddIndex(
            model_name='checkoutsession',
            index=models.Index(fields=['partner', 'started_at', 'id'], name='sessions_of_partner'),
        ),
        migrations.AddIndex(
            model_name='checkoutsession',
            index=models.Index(condition=models.Q(('finished_at__isnull', False)), fields=['partner', 'finished_at'], name='ended_sessions_of_partner'),
        ),
        migrations.AddField(
            model_name='feedposition',
            name='event',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='place', to='baskets.event'),
        ),
        migrations.AddField(
            model_name='feedposition',
            name='partner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='feed', to='baskets.partner'),
        ),
        migrations.AddConstraint(
            model_name='feedstate',
            constraint=models.CheckConstraint(condition=models.Q(('id', 1)), name='one_state_of_the_feed'),
        ),
        migrations.AddConstraint(
            model_name='feedstate',
            constraint=models.CheckConstraint(condition=models.Q(('position__gte', models.F('purged_position')), ('purged_position__gte', 0), ('seen_id__gte', models.F('settled_id')), ('settled_id__gte', 0)), name='feed_state_in_order'),
        ),
        migrations.AddIndex(
            model_name='feedposition',
            index=models.Index(fields=['partner', 'position'], name='feed_of_partner'),
        ),
        migrations.AddIndex(
            model_name='feedposition',
            index=models.Index(fields=['partner', 'kind', 'position'], name='feed_of_partner_by_kind'),
        ),
        migrations.AddConstraint(
            model_name='feedposition',
            constraint=models.CheckConstraint(condition=models.Q(('position__gte', 1)), name='position_counts_from_one'),
        ),
    ]

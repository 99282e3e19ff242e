"""Lets old history be purged: how many events of a basket are gone, and the sold pieces that went with its orders."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0012_desk'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='stockadjustment',
            name='adjustment_kind_is_known',
        ),
        migrations.AddField(
            model_name='basket',
            name='events_purged',
            field=models.BigIntegerField(db_default=0, default=0, help_text='So many of the first are not kept any more.'),
        ),
        migrations.AlterField(
            model_name='stockadjustment',
            name='kind',
            field=models.CharField(choices=[('unsold', 'number of unsold pieces reported'), ('unlimited', 'product became unlimited'), ('supply', 'pieces added or removed'), ('purged', 'sold pieces of purged orders')], max_length=10),
        ),
        migrations.AddConstraint(
            model_name='basket',
            constraint=models.CheckConstraint(condition=models.Q(('events_purged__gte', 0), ('events_purged__lte', models.F('events'))), name='purged_events_are_counted'),
        ),
        migrations.AddConstraint(
            model_name='stockadjustment',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['unsold', 'unlimited', 'supply', 'purged'])), name='adjustment_kind_is_known'),
        ),
        migrations.AddConstraint(
            model_name='stockadjustment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'purged'), _negated=True), ('delta__lt', 0), _connector='OR'), name='purge_adds_no_supply'),
        ),
    ]

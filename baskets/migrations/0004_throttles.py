"""Adds limits of calls: one of its own for a key, and a table to count in that costs no write-ahead log."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0003_roles'),
    ]

    operations = [
        migrations.AddField(
            model_name='apikey',
            name='calls_per_minute',
            field=models.PositiveIntegerField(blank=True, help_text='Empty: the limit of the service. 0: none.', null=True),
        ),
        migrations.CreateModel(
            name='Throttle',
            fields=[
                ('subject', models.CharField(db_collation='C', max_length=64, primary_key=True, serialize=False)),
                ('count', models.PositiveIntegerField()),
                ('ends_at', models.DateTimeField(help_text='The end of the window; from then on the row counts anew.')),
            ],
            options={
                'default_permissions': (),
                'indexes': [models.Index(fields=['ends_at'], name='throttles_by_end')],
            },
        ),
        # Counts are written often and never needed again: no write-ahead log, and room to change a row in its place.
        migrations.RunSQL(
            ["ALTER TABLE baskets_throttle SET UNLOGGED", "ALTER TABLE baskets_throttle SET (fillfactor = 50)"],
            migrations.RunSQL.noop,
        ),
    ]

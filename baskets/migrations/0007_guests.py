"""Adds the key pairs that sign the tokens of guests."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0006_more_repairs'),
    ]

    operations = [
        migrations.AlterField(
            model_name='event',
            name='kind',
            field=models.CharField(choices=[('guest_created', 'basket of a guest created'), ('item_placed', 'item placed, changed or moved'), ('item_removed', 'item removed'), ('checkout_started', 'checkout started (-> ACTIVE)'), ('checkout_ordered', 'ordered (ACTIVE -> ORDERED)'), ('checkout_aborted', 'aborted (ACTIVE -> ABORTED)'), ('checkout_expired', 'checkout expired (ACTIVE -> EXPIRED)'), ('checkout_ordered_late', 'ordered late (ABORTED or EXPIRED -> ORDERED)'), ('attention_needed', 'an order was refused that somebody may have paid'), ('basket_deleted', 'basket deleted'), ('basket_expired', 'basket expired'), ('transfer_offered', 'offered to another device'), ('transfer_redeemed', 'taken over by another device'), ('repaired', 'repaired')], max_length=30),
        ),
        migrations.CreateModel(
            name='SigningKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kid', models.CharField(db_collation='C', max_length=32, unique=True)),
                ('public_jwk', models.JSONField(help_text='What others check signatures with.')),
                ('private_key', models.BinaryField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('ends_at', models.DateTimeField(help_text='Until when its signatures are good; empty while it signs.', null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('ends_at__isnull', True)), fields=('ends_at',), name='one_key_signs', nulls_distinct=False)],
            },
        ),
    ]

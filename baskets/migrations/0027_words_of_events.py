"""Names the kinds of events in words, without the statuses as they are stored. No column changes."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0026_desk_search'),
    ]

    operations = [
        migrations.AlterField(
            model_name='event',
            name='kind',
            field=models.CharField(choices=[('guest_created', 'basket of a guest created'), ('item_placed', 'item placed, changed or moved'), ('item_removed', 'item removed'), ('checkout_started', 'checkout started'), ('checkout_ordered', 'ordered'), ('checkout_aborted', 'checkout aborted'), ('checkout_expired', 'checkout expired'), ('checkout_ordered_late', 'ordered late'), ('checkout_reversed', 'order reversed'), ('attention_needed', 'an order was refused that may have been paid'), ('attention_settled', 'flags resolved'), ('basket_deleted', 'basket deleted'), ('basket_expired', 'basket expired'), ('transfer_offered', 'offered to another device'), ('transfer_redeemed', 'taken over by another device'), ('device_revoked', 'token of a device revoked'), ('repaired', 'repaired')], max_length=30),
        ),
    ]

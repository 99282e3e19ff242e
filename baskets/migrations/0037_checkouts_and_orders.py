"""The list of checkout sessions has the name that the menu of the admin gives it."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0036_guest_key_publication'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='checkoutsession',
            options={
                'permissions': [
                    ('repair_finish_as_ordered', 'Can finish a checkout as ordered'),
                    ('repair_abort', 'Can abort a checkout'),
                    ('repair_order_late', 'Can order a checkout late'),
                    ('repair_reverse_order', 'Can reverse an order'),
                    ('repair_hold_again', 'Can hold again what had failed'),
                    ('repair_extend_hold', 'Can extend the hold of an active checkout'),
                ],
                'verbose_name': 'checkout session',
                'verbose_name_plural': 'checkouts and orders',
            },
        ),
    ]

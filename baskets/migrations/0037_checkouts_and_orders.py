"""The list of checkout sessions has the name that the menu of the admin gives it."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0036_guest_key_publication'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='checkoutsession',
            options={'verbose_name': 'checkout session', 'verbose_name_plural': 'checkouts and orders'},
        ),
    ]

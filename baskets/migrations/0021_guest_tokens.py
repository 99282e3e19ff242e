"""Lists the devices that handle baskets as guests, and lets them be shut out; the roles get what has come with them."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
import django.db.models.deletion
from django.db import migrations, models

ROLES = {"Basket viewers": ("view_",), "Basket repairers": ("view_", "repair_")}


def extend_roles(apps, schema_editor):
    """Give each role the permissions whose names begin as the role says; a role that was removed stays away."""
    alias = schema_editor.connection.alias
    create_permissions(installed.get_app_config("baskets"), verbosity=0, using=alias)
    groups = apps.get_model("auth", "Group").objects.using(alias)
    permissions = apps.get_model("auth", "Permission").objects.using(alias).filter(content_type__app_label="baskets")
    for name, beginnings in ROLES.items():
        for group in groups.filter(name=name):
            for beginning in beginnings:
                group.permissions.add(*permissions.filter(codename__startswith=beginning))


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0020_reversals'),
    ]

    operations = [
        migrations.AlterField(
            model_name='event',
            name='kind',
            field=models.CharField(choices=[('guest_created', 'basket of a guest created'), ('item_placed', 'item placed, changed or moved'), ('item_removed', 'item removed'), ('checkout_started', 'checkout started (-> ACTIVE)'), ('checkout_ordered', 'ordered (ACTIVE -> ORDERED)'), ('checkout_aborted', 'aborted (ACTIVE -> ABORTED)'), ('checkout_expired', 'checkout expired (ACTIVE -> EXPIRED)'), ('checkout_ordered_late', 'ordered late (ABORTED or EXPIRED -> ORDERED)'), ('checkout_reversed', 'order reversed (stays ORDERED)'), ('attention_needed', 'an order was refused that somebody may have paid'), ('attention_settled', 'open matters settled'), ('basket_deleted', 'basket deleted'), ('basket_expired', 'basket expired'), ('transfer_offered', 'offered to another device'), ('transfer_redeemed', 'taken over by another device'), ('device_revoked', 'token of a device revoked'), ('repaired', 'repaired')], max_length=30),
        ),
        migrations.CreateModel(
            name='GuestToken',
            fields=[
                ('jti', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('transferred', models.BooleanField(help_text='Whether the device took the basket over from another one.')),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(null=True)),
                ('revoked_by', models.CharField(blank=True, max_length=200)),
                ('basket', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='guest_tokens', to='baskets.basket')),
            ],
            options={
                'verbose_name': 'device of a guest',
                'verbose_name_plural': 'devices of guests',
                'permissions': [('repair_revoke_device', 'Can revoke the token of a device')],
                'constraints': [models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='guest_token_expires_after_its_creation'), models.CheckConstraint(condition=models.Q(models.Q(('revoked_at__isnull', True), ('revoked_by', '')), models.Q(('revoked_at__isnull', False), models.Q(('revoked_by', ''), _negated=True)), _connector='OR'), name='revoked_guest_token_names_who')],
            },
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

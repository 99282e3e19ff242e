"""Names four permissions in the words of the pages. No table of ours changes; the stored names follow."""

from django.db import migrations

NAMES = {
    'repair_settle': ('Can settle a matter', 'Can resolve an attention flag'),
    'repair_take': ('Can take a matter in hand', 'Can assign an attention flag'),
    'repair_hand_back': ('Can hand a matter back', 'Can unassign an attention flag'),
    'repair_settle_rule': ('Can settle a broken rule', 'Can resolve a broken rule'),
}


def _rename(apps, which):
    for codename, names in NAMES.items():
        stored = apps.get_model('auth', 'Permission').objects.filter(content_type__app_label='baskets', codename=codename)
        stored.update(name=names[which])


def rename(apps, schema_editor):
    _rename(apps, 1)


def restore(apps, schema_editor):
    _rename(apps, 0)


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0040_hot_path'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='attention',
            options={'permissions': [('repair_settle', 'Can resolve an attention flag'), ('repair_take', 'Can assign an attention flag'), ('repair_hand_back', 'Can unassign an attention flag')], 'verbose_name': 'attention', 'verbose_name_plural': 'attention'},
        ),
        migrations.AlterModelOptions(
            name='brokenrule',
            options={'permissions': [('repair_settle_rule', 'Can resolve a broken rule')], 'verbose_name': 'broken rule', 'verbose_name_plural': 'broken rules'},
        ),
        migrations.RunPython(rename, restore, elidable=False),
    ]

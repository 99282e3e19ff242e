"""Makes the two roles of the desk: one looks, the other also repairs. People are put into them by an administrator."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

ROLES = {"Basket viewers": ("view_",), "Basket repairers": ("view_", "repair_")}


def make_roles(apps, schema_editor):
    """Give each role the permissions whose names begin as the role says."""
    alias = schema_editor.connection.alias
    # Django makes permissions only after the last migration, and the roles are nothing without them.
    create_permissions(installed.get_app_config("baskets"), verbosity=0, using=alias)
    groups = apps.get_model("auth", "Group").objects.using(alias)
    permissions = apps.get_model("auth", "Permission").objects.using(alias).filter(content_type__app_label="baskets")
    for name, beginnings in ROLES.items():
        group, _ = groups.get_or_create(name=name)
        for beginning in beginnings:
            group.permissions.add(*permissions.filter(codename__startswith=beginning))


class Migration(migrations.Migration):

    dependencies = [
        ("baskets", "0002_repairs"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]

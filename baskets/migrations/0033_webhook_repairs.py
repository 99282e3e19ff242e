"""Adds the repairs that skip a refused event and send a test event, and gives them to the roles."""

from importlib import import_module

from django.db import migrations

extend_roles = import_module("baskets.migrations.0012_desk").extend_roles


class Migration(migrations.Migration):

    dependencies = [
        ("baskets", "0032_webhook_self_service"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="webhookendpoint",
            options={
                "permissions": [
                    ("repair_pause", "Can pause a webhook"),
                    ("repair_resume", "Can resume a webhook"),
                    ("repair_replay", "Can have events delivered again"),
                    ("repair_skip_event", "Can skip an event that a webhook refuses"),
                    ("repair_send_test", "Can send a test event to a webhook"),
                ]
            },
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

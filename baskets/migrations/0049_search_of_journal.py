"""Adds the indexes of the search in the journal: by subject, and by the words of the reason or the note."""

from importlib import import_module

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import migrations, models

from baskets.db.operations import AddIndexConcurrently

search = import_module("baskets.migrations.0026_desk_search")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0048_feed_gaps")]

    operations = [
        migrations.RunSQL(search.UNLIMITED, search.LIMITED),
        AddIndexConcurrently(model_name="deskentry", index=models.Index(fields=["subject", "-id"], name="journal_by_subject")),
        AddIndexConcurrently(
            model_name="deskentry",
            index=GinIndex(
                models.Func("note", arg_joiner=" || ' ' || ", output_field=SearchVectorField(), template=search.WORDS),
                name="journal_by_word",
            ),
        ),
        migrations.AlterModelOptions(
            name="deskentry",
            options={
                "permissions": [("export_list", "Can export what a list shows")],
                "verbose_name": "journal entry",
                "verbose_name_plural": "journal entries",
            },
        ),
        migrations.RunSQL(search.LIMITED, search.UNLIMITED),
    ]

"""Operations of migrations that can be run again after a failure half way."""

from typing import Any

from django.contrib.postgres import operations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AlterField
from django.db.migrations.state import ProjectState


class AddIndexConcurrently(operations.AddIndexConcurrently):
    """Create an index concurrently, in place of one that an earlier attempt left behind.

    A build that fails, for example because a transaction outlasts `lock_timeout`, leaves an invalid index. It keeps the name, so
    Django's own operation fails at each further attempt.
    Source: https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
    """

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop an index of that name, if there is one, and create it."""
        editor: Any = schema_editor  # The stubs do not know PostgreSQL's `concurrently`.
        self._ensure_not_in_transaction(schema_editor)
        editor.remove_index(to_state.apps.get_model(app_label, self.model_name), self.index, concurrently=True)
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class RemoveIndexConcurrently(operations.RemoveIndexConcurrently):
    """Drop an index concurrently. Reversed, it creates the index, in place of one that an earlier attempt left behind."""

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop an index of that name, if there is one, and create it."""
        self._ensure_not_in_transaction(schema_editor)
        self.database_forwards(app_label, schema_editor, to_state, from_state)
        super().database_backwards(app_label, schema_editor, from_state, to_state)


class DropCheckOfKey(AlterField):
    """Drop the database's check of a foreign key, and keep the field. Reversed, it adds the check once, however often it is tried."""

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop a check that an earlier attempt left behind, and add it."""
        editor: Any = schema_editor
        model = from_state.apps.get_model(app_label, self.model_name)
        column = model._meta.get_field(self.name).column  # noqa: SLF001 (Django's public API, in spite of its name)
        for name in editor._constraint_names(model, [column], foreign_key=True):  # noqa: SLF001 (Django drops one by the same call)
            editor.execute(editor._delete_fk_sql(model, name))  # noqa: SLF001 (as above)
        super().database_backwards(app_label, schema_editor, from_state, to_state)

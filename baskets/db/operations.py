"""Operations of migrations that can be run again after a failure half way."""

from collections.abc import Sequence
from typing import Any

from django.contrib.postgres import operations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AlterField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import BaseConstraint, CheckConstraint

from baskets.db.constraints import RowCheck, domain_sql, drop_sql, validate_sql


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


class UseRowChecks(Operation):
    """Hold the checks of a table by a domain over its row. See Note [Row checks] in `baskets.db.constraints`.

    Can be run again after a failure half way. The former checks, the new ones, or both are in force at every moment. Calls wait for a
    moment only, unless the migration is atomic.
    """

    reversible = True

    def __init__(self, model_name: str, *, rewritten: Sequence[RowCheck] = ()) -> None:
        """Name the table.

        :param rewritten: checks with another condition of the same meaning, by the name of the former. The others keep theirs.
        """
        self.model_name = model_name
        self.rewritten = rewritten

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return what makes this operation again."""
        return type(self).__name__, [self.model_name], {"rewritten": self.rewritten}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Replace each check of the table."""
        model, rewritten = self.model_name.lower(), {check.name: check for check in self.rewritten}
        for check in self._table_checks(state.models[app_label, model].options["constraints"]):
            state.remove_constraint(app_label, model, check.name)
            check_of_row = rewritten.pop(check.name, None) or RowCheck(name=check.name, condition=check.condition)
            state.add_constraint(app_label, model, check_of_row)
        if rewritten:
            message = f"{self.model_name} has no check of this name: {', '.join(rewritten)}"
            raise ValueError(message)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Add the domain, validate the stored rows, then drop the checks of the table."""
        model = to_state.apps.get_model(app_label, self.model_name)
        former = from_state.apps.get_model(app_label, self.model_name)._meta  # noqa: SLF001 (documented, underscore and all)
        dropped = ", ".join(f"DROP CONSTRAINT IF EXISTS {check.name}" for check in self._table_checks(former.constraints))
        for statement in (domain_sql(model, schema_editor), validate_sql(model), f"ALTER TABLE {former.db_table} {dropped}"):
            schema_editor.execute(statement, None)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Add the checks of the table, validate the stored rows, then drop the domain."""
        del from_state
        model = to_state.apps.get_model(app_label, self.model_name)
        options = model._meta  # noqa: SLF001 (documented, underscore and all)
        checks = self._table_checks(options.constraints)
        added = ", ".join(
            f"DROP CONSTRAINT IF EXISTS {check.name}, ADD {check.constraint_sql(model, schema_editor)} NOT VALID" for check in checks
        )
        validated = ", ".join(f"VALIDATE CONSTRAINT {check.name}" for check in checks)
        for statement in (f"ALTER TABLE {options.db_table} {added}", f"ALTER TABLE {options.db_table} {validated}", drop_sql(model)):
            schema_editor.execute(statement, None)

    def describe(self) -> str:
        """Say what it does, for the output of `migrate`."""
        return f"Hold the checks of {self.model_name} by a domain over its row"

    @staticmethod
    def _table_checks(constraints: Sequence[BaseConstraint]) -> list[CheckConstraint]:
        """Return the checks of the table itself."""
        return [one for one in constraints if isinstance(one, CheckConstraint) and not isinstance(one, RowCheck)]

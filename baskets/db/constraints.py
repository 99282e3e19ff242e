"""Check constraints of tables that nearly every call writes to, at a fraction of what they cost a statement. Knows nothing of baskets.

Note [Row checks]
PostgreSQL keeps no check of a table ready to run: each statement that inserts or updates parses the stored form of every one. Those
of a domain are parsed once for each connection. So a table with `RowCheck`s has a domain over its row type, which has a constraint
for each of them, and only one CHECK, which casts the row to the domain. A row that violates a rule is refused under the rule's name,
as by a CHECK of the table. The domain is made for the cast alone: no column has its type.
Source: ADR 70; https://www.postgresql.org/docs/current/sql-createdomain.html.
"""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import CheckConstraint, Model
from django.db.models.sql.query import Query

# The table and the name of each constraint, with the constraint of the table that holds it: itself, or the CHECK that casts to a domain.
CONSTRAINTS_OF_TABLES = """
SELECT conrelid, conname, oid AS holder FROM pg_constraint WHERE conrelid <> 0
UNION ALL
SELECT cast_of_row.conrelid, rule.conname, cast_of_row.oid
FROM pg_constraint rule
JOIN pg_depend ON refclassid = 'pg_type'::regclass AND refobjid = rule.contypid AND classid = 'pg_constraint'::regclass
JOIN pg_constraint cast_of_row ON cast_of_row.oid = objid AND cast_of_row.contype = 'c'
"""


class RowCheck(CheckConstraint):
    """A check that the domain over the row of its table has. See Note [Row checks].

    Write it in `Meta.constraints` in place of `CheckConstraint`; `makemigrations` adds, changes and removes it like one. A migration that
    adds one to a table with many rows needs `atomic = False`: then the rows are validated without a lock that calls wait for.
    """

    def __eq__(self, other: object) -> bool:
        """Differ from a check of the table with the same condition, so that `makemigrations` sees the change from one to the other."""
        return isinstance(other, RowCheck) and super().__eq__(other)

    __hash__ = None  # type: ignore[assignment] # As Django's: it can change.

    def constraint_sql(self, model: Any, schema_editor: Any) -> str:
        """Add nothing to CREATE TABLE, and the domain after it, once there is a row type."""
        _defer(schema_editor, domain_sql(model, schema_editor), validate_sql(model))
        return ""

    def create_sql(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> str:  # type: ignore[override] # Django executes a text as well.
        """Make the domain again, with this check. The stored rows are validated at the end of the migration."""
        _defer(schema_editor, validate_sql(model))
        return domain_sql(model, schema_editor)

    def remove_sql(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> str:  # type: ignore[override] # As above.
        """Drop the check from the domain."""
        del schema_editor
        return f"ALTER DOMAIN {_domain(model)} DROP CONSTRAINT IF EXISTS {self.name}"

    def sql_of_row(self, model: type[Model], schema_editor: Any) -> str:
        """Return the constraint of the domain, with the condition over columns of `VALUE`."""
        query = Query(model)
        compiler = query.get_compiler(connection=schema_editor.connection)
        sql, parameters = query.build_where(self.condition).as_sql(compiler, schema_editor.connection)  # type: ignore[arg-type] # As Django calls it.
        # Not as the alias of the table: where the text of an operand begins with a parenthesis, Django adds none around it.
        sql = sql.replace(f"{schema_editor.quote_name(model._meta.db_table)}.", "(VALUE).")  # noqa: SLF001 (documented, underscore and all)
        return f"CONSTRAINT {self.name} CHECK ({sql % tuple(map(schema_editor.quote_value, parameters))})"


def domain_sql(model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> str:
    """Return statements that make the domain of a table and its one CHECK, or make them again. It leaves stored rows unvalidated.

    PostgreSQL executes them as one transaction, so no statement of another session is without a check. They lock the table for a moment:
    a domain alone would not wait for the statements that began under the former checks.
    """
    options = model._meta  # noqa: SLF001 (documented, underscore and all)
    checks = [check.sql_of_row(model, schema_editor) for check in options.constraints if isinstance(check, RowCheck)]
    return (
        f"{drop_sql(model)};\n"
        f"CREATE DOMAIN {_domain(model)} AS {options.db_table} {' '.join(checks)};\n"
        # The key of a row is never null, so this is true, once the cast has not failed.
        f"ALTER TABLE {options.db_table} ADD CONSTRAINT {_cast(model)}"
        f" CHECK ((({options.db_table}.*)::{_domain(model)}).{options.pk.column} IS NOT NULL) NOT VALID"
    )


def drop_sql(model: type[Model]) -> str:
    """Return statements that drop the domain of a table with its CHECK, if there is one."""
    return (
        f"ALTER TABLE {model._meta.db_table} DROP CONSTRAINT IF EXISTS {_cast(model)};\n"  # noqa: SLF001 (as above)
        f"DROP DOMAIN IF EXISTS {_domain(model)}"
    )


def validate_sql(model: type[Model]) -> str:
    """Return a statement that validates the stored rows of a table, while calls go on."""
    return f"ALTER TABLE {model._meta.db_table} VALIDATE CONSTRAINT {_cast(model)}"  # noqa: SLF001 (as above)


def _defer(schema_editor: BaseDatabaseSchemaEditor, *statements: str) -> None:
    """Run statements at the end of the migration, each once for all checks of a table."""
    schema_editor.deferred_sql += [statement for statement in statements if statement not in schema_editor.deferred_sql]


def _domain(model: type[Model]) -> str:
    return f"{model._meta.db_table}_row"  # noqa: SLF001 (as above)


def _cast(model: type[Model]) -> str:
    return f"{model._meta.db_table}_row_is_valid"  # noqa: SLF001 (as above)

"""Invariants of the schema: the constraints are in the database, valid and enabled.

The expected constraints are read from the models, so a new constraint needs no change here. The tests of the models check what
each constraint says.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db.models import ForeignKey

from baskets.db.constraints import CONSTRAINTS_OF_TABLES
from baskets.domain.maintenance.invariants.invariant import Invariant

if TYPE_CHECKING:
    from django.db.models.options import Options  # Generic for type checkers only.


def _options() -> "list[Options[Any]]":
    """Return the `_meta` of each model."""
    return [model._meta for model in apps.get_app_config("baskets").get_models()]  # noqa: SLF001 (documented, underscore and all)


def _tables() -> Sequence[list[str]]:
    """Return the name of every table."""
    return ([options.db_table for options in _options()],)


def _constraints() -> Sequence[list[str]]:
    """Return the table and the name of every constraint."""
    named = [(options.db_table, constraint.name) for options in _options() for constraint in options.constraints]
    return [table for table, _ in named], [name for _, name in named]


def _column_guards() -> Sequence[list[str]]:
    """Return the table, the column and the kind of every column constraint: unique, foreign key, NOT NULL."""
    guards = []
    for options in _options():
        for field in options.local_concrete_fields:
            column = str(field.column)
            if field.unique:
                guards.append((options.db_table, column, "unique"))
            if isinstance(field, ForeignKey) and field.db_constraint:  # type: ignore[attr-defined] # Its stub lacks it.
                guards.append((options.db_table, column, "foreign key"))
            if not field.null:
                guards.append((options.db_table, column, "not null"))
    return [table for table, _, _ in guards], [column for _, column, _ in guards], [guard for _, _, guard in guards]


# `conenforced` came with PostgreSQL 18; before, every constraint was enforced.
IS_ENFORCED = "c.convalidated AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)"

INVARIANTS = (
    Invariant(
        slug="constraints_in_place",
        rule=3,
        sentence="Every constraint of the models is in the database, valid and enforced.",
        sql=f"""
        SELECT wanted.table_name, wanted.name
        FROM unnest(%s::text[], %s::text[]) AS wanted (table_name, name)
        WHERE NOT EXISTS (
            SELECT FROM ({CONSTRAINTS_OF_TABLES}) AS named JOIN pg_constraint c ON c.oid = named.holder
            WHERE named.conrelid = to_regclass(wanted.table_name) AND named.conname = wanted.name AND {IS_ENFORCED}
        ) AND NOT EXISTS (
            SELECT FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid
            WHERE i.indrelid = to_regclass(wanted.table_name) AND k.relname = wanted.name
              AND i.indisunique AND i.indisvalid AND i.indisready
        )
        """,  # noqa: S608 (constants of ours)
        parameters=_constraints,
    ),
    Invariant(
        slug="columns_guarded",
        rule=3,
        sentence="Every column has the unique key, foreign key and NOT NULL that the models give it.",
        sql=f"""
        SELECT wanted.table_name, wanted.column_name, wanted.guard
        FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (table_name, column_name, guard)
        LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(wanted.table_name) AND a.attname = wanted.column_name
        WHERE (CASE wanted.guard
                   WHEN 'not null' THEN a.attnotnull
                   WHEN 'unique' THEN EXISTS (
                       SELECT FROM pg_index i
                       WHERE i.indrelid = a.attrelid AND i.indkey::text = a.attnum::text
                         AND i.indisunique AND i.indisvalid AND i.indisready AND i.indpred IS NULL
                   )
                   ELSE EXISTS (
                       SELECT FROM pg_constraint c
                       WHERE c.conrelid = a.attrelid AND c.contype = 'f' AND c.conkey = ARRAY[a.attnum] AND {IS_ENFORCED}
                   )
               END) IS NOT TRUE
        """,  # noqa: S608 (a constant of this module)
        parameters=_column_guards,
    ),
    Invariant(
        slug="triggers_switched_on",
        rule=3,
        sentence="No trigger that guards a foreign key is switched off, nor is the one that keeps products.",
        sql="""
        SELECT t.tgrelid::regclass::text AS table_name, c.conname AS name
        FROM unnest(%s::text[]) AS ours (table_name)
        JOIN pg_trigger t ON t.tgrelid = to_regclass(ours.table_name) AND t.tgisinternal
        LEFT JOIN pg_constraint c ON c.oid = t.tgconstraint
        WHERE t.tgenabled NOT IN ('O', 'A')
        UNION ALL
        SELECT 'baskets_product', wanted.name
        FROM (VALUES ('product_is_never_deleted')) AS wanted (name)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger t
            WHERE t.tgrelid = to_regclass('baskets_product') AND t.tgname = wanted.name AND t.tgenabled IN ('O', 'A')
        )
        """,
        parameters=_tables,
    ),
)

"""The tables with row checks accept and refuse the rows that their models do. `test_constraints` breaks each check by hand."""

import itertools
import json
import re
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import CheckConstraint, Model

from baskets.db.constraints import RowCheck
from tests.models.test_constraints import valid_rows

__all__ = ["valid_rows"]  # A fixture.

BEFORE, START, AFTER = "2026-11-29T11:00:00+00:00", "2026-11-29T12:00:00+00:00", "2026-11-29T13:00:00+00:00"
# The values of each column that a check of the table names. NULL is among them where the column may be null.
VALUES: dict[str, dict[str, list[object]]] = {
    "basket": {
        "user_id": ["", "anna"],
        "revision": [-1, 0, 1],
        "events": [-1, 0, 1, 2],
        "events_purged": [-1, 0, 1, 2],
        "created_at": [START],
        "last_changed_at": [BEFORE, START, AFTER],
        "expires_at": [BEFORE, START, AFTER],
    },
    "basketitem": {"list": ["cart", "saved", "gone", "CART", ""], "count": [-1, 0, 1]},
    "checkoutsession": {
        "status": ["ACTIVE", "ORDERED", "ABORTED", "EXPIRED", "LOST", ""],
        "late": [True, False],
        "started_at": [START],
        "expires_at": [BEFORE, START, AFTER],
        "released_at": [None, AFTER],
        "finished_at": [None, BEFORE, START, AFTER],
        "reversed_at": [None, AFTER],
        "ended_revision": [None, 1],
        "finished_by_key": ["", "key"],
    },
    "checkoutitem": {"count": [-1, 0, 1, 2], "stocked": [None, -3, -2, -1, 0, 1, 2, 3], "released_at": [None, AFTER]},
    "stockreservation": {
        "status": ["HELD", "SOLD", "RELEASED", "FAILED", "SHORT", "LOST", ""],
        "pieces": [-1, 0, 1],
        "created_at": [START],
        "ended_at": [None, BEFORE, START, AFTER],
    },
    "stock": {"available": [-1, 0, 1], "shortfall": [-1, 0, 1]},
    "event": {"number": [-1, 0, 1], "actor_kind": ["key", "staff", "system", "ghost", "KEY", ""]},
}
# Inserts a row, takes it back, and returns the check that refused it. PostgreSQL looks for a duplicate after all checks, so a row that
# is one has passed them.
REFUSAL = """
CREATE FUNCTION pg_temp.refusal(candidate {table}) RETURNS text LANGUAGE plpgsql AS $function$
DECLARE name text;
BEGIN
    INSERT INTO {table} SELECT (candidate).*;
    RAISE SQLSTATE 'OK000';
EXCEPTION
    WHEN SQLSTATE 'OK000' OR unique_violation THEN
        RETURN NULL;
    WHEN check_violation THEN
        GET STACKED DIAGNOSTICS name = CONSTRAINT_NAME;
        RETURN name;
END
$function$
"""


def checks_of(model: type[Model]) -> list[CheckConstraint]:
    """Return the checks in the order in which PostgreSQL tries them."""
    return sorted((one for one in model._meta.constraints if isinstance(one, CheckConstraint)), key=lambda one: str(one.name))


def sql_of_table(check: CheckConstraint, model: type[Model], editor: Any) -> str:
    """Return the condition as Django writes that of a CHECK of the table."""
    of_table: Any = CheckConstraint(name=str(check.name), condition=check.condition)  # The stubs lack its method.
    return str(of_table._get_check_sql(model, editor))


def judged(name: str) -> list[tuple[dict[str, Any], str | None, list[str]]]:
    """Try a table with all combinations of its values, in a copy of a valid row.

    :returns: of each row: the row, the constraint by which the database refuses it, and the names of the checks of the model that it
        violates. Django's own SQL of a CHECK of a table tells the latter.
    """
    model = apps.get_model("baskets", name)
    table, values = model._meta.db_table, VALUES[name]
    with connection.cursor() as cursor, connection.schema_editor(collect_sql=True) as editor:
        conditions = [(str(check.name), sql_of_table(check, model, editor)) for check in checks_of(model)]
        named = {field.column for field in model._meta.local_concrete_fields if any(f'"{field.column}"' in sql for _, sql in conditions)}
        assert named <= values.keys(), f"add values of {sorted(named - values.keys())} to VALUES[{name!r}]: a check names these columns"
        assert values.keys() <= named, f"take {sorted(values.keys() - named)} out of VALUES[{name!r}]: no check names these columns"
        cursor.execute(REFUSAL.format(table=table))
        cursor.execute(f"SELECT to_jsonb(valid) FROM {table} valid LIMIT 1")  # noqa: S608 (constants of this module)
        valid = json.loads(cursor.fetchone()[0])
        rows = [valid | dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
        violated = ", ".join(f"CASE WHEN NOT ({sql}) THEN '{name}' END" for name, sql in conditions)
        cursor.execute(
            f"SELECT pg_temp.refusal(candidate), array_remove(ARRAY[{violated}], NULL)"  # noqa: S608 (constants, and conditions of models)
            f" FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb) AS candidate",
            [json.dumps(rows)],
        )
        return [(row, *verdict) for row, verdict in zip(rows, cursor.fetchall(), strict=True)]


def test_all_checks_of_a_table_are_row_checks_or_none_is() -> None:
    kinds = {
        model._meta.model_name: {isinstance(check, RowCheck) for check in checks_of(model)}
        for model in apps.get_app_config("baskets").get_models()
    }
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    assert not mixed, "a table with row checks has a check of another kind: write it as RowCheck, and run makemigrations (ADR 70)"
    with_row_checks = {name for name, found in kinds.items() if found == {True}}
    assert VALUES.keys() == with_row_checks, "give VALUES an entry for each table with row checks: values of the columns that they name"


@pytest.mark.django_db
def test_database_has_each_row_check_in_the_domain_of_its_table_and_no_other() -> None:
    for name in VALUES:
        model = apps.get_model("baskets", name)
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute("SELECT conname FROM pg_constraint WHERE contypid = %s::regtype ORDER BY 1", [f"{table}_row"])
            of_domain = [row[0] for row in cursor.fetchall()]
            cursor.execute(
                "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", [table]
            )
            of_table = cursor.fetchall()
        assert of_domain == [check.name for check in checks_of(model)], f"{name}: run makemigrations, which adds a new check to the domain"
        assert of_table == [(f"CHECK (((({table}.*)::{table}_row).{model._meta.pk.column} IS NOT NULL))", True)]


def compare(name: str) -> None:
    """Compare the database with the model, for all combinations of the values of a table. Some must violate one check alone, some none."""
    rows = judged(name)
    for row, refusal, violated in rows:
        assert refusal == (violated[0] if violated else None), row
    alone = {violated[0] for _, _, violated in rows if len(violated) == 1}
    untried = [check.name for check in checks_of(apps.get_model("baskets", name)) if check.name not in alone]
    assert not untried, f"add values to VALUES[{name!r}] with which a row violates {untried[0]} and no other check"
    assert any(not violated for _, _, violated in rows), f"add values to VALUES[{name!r}] with which a row violates no check"


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.usefixtures("valid_rows")
def test_database_accepts_and_refuses_all_combinations_of_values_as_the_checks_of_the_model_do(name: str) -> None:
    compare(name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"list": ["cart", "gone"], "count": [1]}, "with which a row violates item_count_is_positive and no other check"),
        ({"list": ["gone"], "count": [0, 1]}, "with which a row violates item_count_is_positive and no other check"),
        ({"list": ["cart"], "count": [0, 1]}, "with which a row violates item_list_is_known and no other check"),
        ({"list": ["cart"]}, "add values of ['count'] to VALUES['basketitem']: a check names these columns"),
        ({"list": ["cart"], "count": [0], "position": [1]}, "take ['position'] out of VALUES['basketitem']: no check names these columns"),
    ],
)
@pytest.mark.usefixtures("valid_rows")
def test_values_that_are_missing_are_named(values: dict[str, list[object]], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUES, "basketitem", values)
    with pytest.raises(AssertionError, match=re.escape(message)):
        compare("basketitem")


# What the database accepts of a session and of a reservation: each status with its times. It refuses all other combinations.
ACCEPTED_SESSIONS = {
    ("ACTIVE", False, False, False, False),
    ("ORDERED", False, False, True, True),
    ("ORDERED", True, True, True, True),
    ("ABORTED", False, True, True, True),
    ("EXPIRED", False, True, True, True),
}
ACCEPTED_RESERVATIONS = {("HELD", False), ("SOLD", True), ("RELEASED", True), ("FAILED", True), ("SHORT", True)}


@pytest.mark.usefixtures("valid_rows")
def test_database_accepts_each_status_with_its_times_and_no_other_combination() -> None:
    sessions = [row for row, refusal, _ in judged("checkoutsession") if refusal is None]
    columns = ("released_at", "finished_at", "ended_revision")
    assert {(row["status"], row["late"], *(row[column] is not None for column in columns)) for row in sessions} == ACCEPTED_SESSIONS


@pytest.mark.usefixtures("valid_rows")
def test_database_accepts_each_status_of_a_reservation_with_its_end() -> None:
    accepted = {(row["status"], row["ended_at"] is not None) for row, refusal, _ in judged("stockreservation") if refusal is None}
    assert accepted == ACCEPTED_RESERVATIONS

"""Migrations add, change and remove row checks, and a table gets them without a moment without its checks."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, migrations, models, transaction
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import F, Q

from baskets.db.constraints import RowCheck
from baskets.db.errors import constraint_of
from baskets.db.operations import UseRowChecks

pytestmark = pytest.mark.django_db

# The second has a literal that Django and the name of the table must leave unchanged, and the third an operand in parentheses.
CONDITIONS = {
    "count_is_positive": Q(count__gt=0),
    "word_is_known": Q(word__in=["it's", '"scratch_sample".', "100%"]),
    "ended_is_late": Q(models.lookups.Exact(models.lookups.IsNull(F("ended"), True), models.lookups.GreaterThan(F("count"), 5))),
}
VALID = {"count": 9, "word": "100%", "ended": None}
INVALID = {"count_is_positive": {"count": -1, "ended": 1}, "word_is_known": {"word": "its"}, "ended_is_late": {"count": 1}}


class StoppedError(Exception):
    """Stands for the end of a process half way through an operation."""


def sample(kind: type[models.CheckConstraint]) -> migrations.CreateModel:
    """Return the operation that makes the table, with checks of this kind."""
    columns: list[tuple[str, models.Field[Any, Any]]] = [
        ("id", models.BigAutoField(primary_key=True)),
        ("count", models.BigIntegerField()),
        ("word", models.CharField(max_length=40)),
        ("ended", models.BigIntegerField(null=True)),
    ]
    checks = [kind(name=name, condition=condition) for name, condition in CONDITIONS.items()]
    return migrations.CreateModel("Sample", columns, options={"constraints": checks})


def apply(operation: Operation, state: ProjectState, *, statements: int | None = None) -> ProjectState:
    """Run an operation, and return the state after it.

    :param statements: the number of statements after which it stops.
    """
    after = state.clone()
    operation.state_forwards("scratch", after)
    with connection.schema_editor(atomic=False) as editor:
        stop_after(editor, statements)
        operation.database_forwards("scratch", editor, state, after)
    return after


def reverse(operation: Operation, after: ProjectState, before: ProjectState, *, statements: int | None = None) -> None:
    """Reverse an operation, or stop after so many statements of it."""
    with connection.schema_editor(atomic=False) as editor:
        stop_after(editor, statements)
        operation.database_backwards("scratch", editor, after, before)


def stop_after(editor: Any, statements: int | None) -> None:
    execute, executed = editor.execute, []

    def stopping(sql: object, params: object = ()) -> None:
        if len(executed) == statements:
            raise StoppedError
        execute(sql, params)
        executed.append(sql)

    editor.execute = stopping


def refusal(changes: dict[str, object]) -> str | None:
    """Insert a row, and return the constraint that refuses it."""
    row = VALID | changes
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO scratch_sample (count, word, ended) VALUES (%s, %s, %s)", [row["count"], row["word"], row["ended"]])
    except IntegrityError as error:
        return constraint_of(error)
    return None


def refusals() -> dict[str, str | None]:
    return {name: refusal(changes) for name, changes in INVALID.items()}


EACH = {name: name for name in INVALID}
NONE = dict.fromkeys(INVALID)


@pytest.fixture
def created() -> ProjectState:
    """The state with the table, which has row checks."""
    return apply(sample(RowCheck), ProjectState())


@pytest.mark.usefixtures("created")
def test_a_new_table_has_its_row_checks() -> None:
    assert refusals() == EACH
    assert refusal({}) is None


def test_a_check_that_a_migration_adds_is_held_and_the_stored_rows_are_validated(created: ProjectState) -> None:
    assert refusal({"word": '"scratch_sample".'}) is None
    added = RowCheck(name="word_is_short", condition=Q(word__in=["it's", "100%"]))
    with pytest.raises(IntegrityError) as error, transaction.atomic():
        apply(migrations.AddConstraint("sample", added), created)
    assert constraint_of(error.value) == "word_is_short"
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM scratch_sample")
    apply(migrations.AddConstraint("sample", added), created)
    assert refusals() == EACH
    assert refusal({"word": '"scratch_sample".'}) == "word_is_short"


def test_a_check_that_a_migration_removes_is_gone_and_the_others_stay(created: ProjectState) -> None:
    apply(migrations.RemoveConstraint("sample", "count_is_positive"), created)
    assert refusals() == EACH | {"count_is_positive": None}


def test_a_table_and_its_domain_are_deleted(created: ProjectState) -> None:
    apply(migrations.DeleteModel("sample"), created)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regtype('scratch_sample_row')")
        assert cursor.fetchone() == (None,)


@pytest.mark.parametrize("statements", [1, 2, 3])
def test_a_table_that_gets_row_checks_is_never_without_checks(statements: int) -> None:
    state = apply(sample(models.CheckConstraint), ProjectState())
    operation = UseRowChecks("sample")
    if statements < 3:
        with pytest.raises(StoppedError):
            apply(operation, state, statements=statements)
    else:
        apply(operation, state)
    assert refusals() == EACH
    after = apply(operation, state)
    assert refusals() == EACH
    assert checks_of_table() == ["scratch_sample_row_is_valid"]

    with pytest.raises(StoppedError):
        reverse(operation, after, state, statements=statements - 1)
    assert refusals() == EACH
    reverse(operation, after, state)
    assert refusals() == EACH
    assert checks_of_table() == sorted(EACH)


def checks_of_table() -> list[str]:
    """Return the valid checks of the table itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'scratch_sample'::regclass AND contype = 'c' AND convalidated ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall()]


def test_a_check_with_another_condition_replaces_the_one_of_its_name_only() -> None:
    state = apply(sample(models.CheckConstraint), ProjectState())
    apply(UseRowChecks("sample", rewritten=[RowCheck(name="count_is_positive", condition=Q(count__gt=-2))]), state)
    assert refusals() == EACH | {"count_is_positive": None}
    with pytest.raises(ValueError, match="has no check of this name: other"):
        UseRowChecks("sample", rewritten=[RowCheck(name="other", condition=Q(count=1))]).state_forwards("scratch", state.clone())


def test_a_check_of_the_row_differs_from_one_of_the_table() -> None:
    condition = Q(count__gt=0)
    of_row, of_table = RowCheck(name="one", condition=condition), models.CheckConstraint(name="one", condition=condition)
    assert of_row != of_table
    assert of_table != of_row
    assert of_row == RowCheck(name="one", condition=condition)
    assert of_row != RowCheck(name="two", condition=condition)
    path, _, options = of_row.deconstruct()
    assert (path, options) == ("baskets.db.constraints.RowCheck", {"name": "one", "condition": condition})
    operation = UseRowChecks("sample", rewritten=[of_row])
    assert operation.deconstruct() == ("UseRowChecks", ["sample"], {"rewritten": [of_row]})
    assert operation.describe() == "Hold the checks of sample by a domain over its row"

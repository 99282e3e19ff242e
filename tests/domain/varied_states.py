"""Compares the two forms of a rule in states derived from the models: a common state, with other values in its rows and in settings.

A new column, choice, constant of a check, or setting is in the states without a test that names it.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import pytest
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Model
from django.test import override_settings

from baskets import checks, conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.maintenance.invariants import INVARIANTS
from tests.domain.column_values import columns_checked_with, values_of, values_of_number
from tests.domain.twins import TABLES, Twins

T = TypeVar("T")

# Of each table: how often the open transaction has read it, and how many of its rows it has written.
USED_TABLES = """
SELECT relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0), n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables
"""
# No operation leaves a state that violates these. The forms may differ there, and the database accepts the rows.
IMPOSSIBLE = [
    Statement(f"violates_{invariant.slug}", f"SELECT EXISTS ({invariant.sql})")
    for invariant in INVARIANTS
    if invariant.slug in {"session_buys_something", "one_basket_for_all_of_a_session"}
]


class Difference(AssertionError):
    """The two forms differ in a state."""


@dataclass(frozen=True, eq=False)
class Change:
    """One value that differs from the common state.

    :param row: as it is in the common state; None for a setting.
    :param column: of the row, or the name of the setting; empty: the row is deleted.
    """

    row: Model | None
    column: str
    value: Any = None

    @property
    def place(self) -> tuple[Model | None, str]:
        """What has the value."""
        return self.row, self.column

    @property
    def ties_rows(self) -> bool:
        """Return whether it is of a key, or of a whole row: then rows belong together in another way."""
        field = self.row._meta.get_field(self.column) if self.row and self.column else None
        return bool(self.row) and (field is None or bool(field.is_relation) or field == self.row._meta.pk)

    def __str__(self) -> str:
        row = f"{self.row._meta.model_name} {self.row.pk}" if self.row else "settings"
        return f"{row}: {self.column} = {self.value!r}" if self.column else f"{row}: deleted"


State = Sequence[Change]


class Variations:
    """The states around the common state, which is what is stored now, and what the two forms do in each.

    :param direct: states with one change, or two of one row, to which the direct form applies.
    :param decided: such states that it leaves to the rule.
    :param pairs: pairs of changes that were in one state to which the direct form applied.
    """

    def __init__(self, twins: Twins[Any], rng: random.Random) -> None:
        self._twins, self._rng = twins, rng
        self.direct: list[State] = []
        self.decided: list[State] = []
        self.pairs: set[frozenset[Change]] = set()
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SELECT statement_timestamp()")
            (self._now,) = cursor.fetchone()
        self.models, self._settings = _read_by(twins)

    def compare_small_changes(self, *, only: Collection[type[Model] | None] = ()) -> None:
        """Compare the forms in each state with one change, and with two changes of a row of which one is refused alone.

        :param only: the tables to change; None stands for the settings. Empty: all that the forms read.
        :raises Difference: the forms differ.
        """
        models = sorted(self.models, key=str)
        changes = [change for model in [*models, None] if not only or model in only for change in self._changes_of_all(model)]
        refused = [change for change in changes if not self._compare([change])]
        accepted = {_meaning(change) for (change,) in (*self.direct, *self.decided)}
        for change in refused:
            for other in self._changes_beside(change):
                if _meaning(change) not in accepted and self._compare([change, other]):
                    accepted.add(_meaning(change))

    def compare_joint_changes(self, *, states: int) -> None:
        """Compare the forms in random states with changes in half of all places, and in parts of states that are left to the rule.

        :raises Difference: the forms differ. It names as few changes as the difference needs.
        """
        jointly = [state for state in self.direct if not any(change.ties_rows for change in state)]
        # These often prevent all that a direct form does, so each state has one of them.
        others = self._shuffled([state for state in (*self.direct, *self.decided) if state not in jointly])
        for _ in range(states):
            state = list(others.pop() if others else [])
            places = {change.place for change in state}
            for step in self._shuffled(jointly):
                if places.isdisjoint(change.place for change in step):
                    places.update(change.place for change in step)
                    state += step * self._rng.randrange(2)
            self._compare_parts(self._accepted_part(state))

    def unchanged_columns(self) -> set[str]:
        """Return the columns of the tables read that have their common value in each state that the database accepts."""
        columns = {f"{model._meta.model_name}.{field.attname}" for model in self.models for field in model._meta.local_concrete_fields}
        changed = [change for state in (*self.direct, *self.decided) for change in state if change.row]
        return columns - {f"{change.row._meta.model_name}.{change.column}" for change in changed if change.row}

    def _shuffled(self, things: list[T]) -> list[T]:
        return self._rng.sample(things, len(things))

    # --- Changes ----------------------------------------------------------------

    def _changes_of_all(self, model: type[Model] | None) -> Iterator[Change]:
        """Yield the changes of all rows of a table, or of all settings that the forms read."""
        if model is None:
            for name in sorted(self._settings):
                current = getattr(settings, name)
                values = [False, True] if isinstance(current, bool) else values_of_number(current)
                yield from (Change(None, name, value) for value in values if value != current)
            return
        rows = list(model._base_manager.order_by("pk"))
        assert rows, f"a form reads {model._meta.db_table}: add a row of it to the common state"
        for row in rows:
            yield Change(row, "")
            for field in row._meta.local_concrete_fields:
                yield from (Change(row, field.attname, value) for value in values_of(row, field, now=self._now))

    def _changes_beside(self, refused: Change) -> Iterator[Change]:
        """Yield the changes of other columns that a check compares with the column of a refused change."""
        if refused.row and refused.column:
            for field in columns_checked_with(refused.row._meta.get_field(refused.column)):
                yield from (Change(refused.row, field.attname, value) for value in values_of(refused.row, field, now=self._now))

    def _accepted_part(self, state: State) -> list[Change]:
        """Leave out random changes of each row until the database accepts it."""
        by_row = defaultdict(list)
        for change in state:
            by_row[change.row].append(change)
        for changes in by_row.values():
            while not _is_accepted(changes):
                changes.remove(self._rng.choice(changes))
        return [change for changes in by_row.values() for change in changes]

    # --- Comparisons ------------------------------------------------------------

    def _compare(self, state: State) -> bool:
        """Compare the forms in a state with few changes, and remember it.

        :returns: whether the database accepts it.
        """
        applies = self._outcome(state)
        if applies is not None:
            (self.direct if applies else self.decided).append(state)
        return applies is not None

    def _compare_parts(self, state: State) -> None:
        """Compare the forms in a state, and where the direct form does not apply, in each half of it."""
        try:
            applies = self._outcome(state)
        except Difference as difference:
            raise self._smallest(state, difference) from difference
        rows = self._shuffled(list(dict.fromkeys(change.row for change in state)))
        if applies:
            self.pairs.update(map(frozenset, combinations(state, 2)))
        elif len(rows) > 1:
            for half in rows[::2], rows[1::2]:
                self._compare_parts([change for change in state if change.row in half])

    def _outcome(self, state: State) -> bool | None:
        """Compare the forms in a state.

        :returns: whether the direct form applies; None if the database refuses the state, or the service cannot come into it.
        :raises Difference: the forms differ.
        """
        changed = {change.column: change.value for change in state if not change.row}
        with override_settings(**changed), transaction.atomic():
            applies = None
            if not (changed and checks.check_numbers()) and _is_written(state):
                try:
                    applies = self._twins.alike()
                except AssertionError as difference:
                    if not _is_impossible():
                        raise Difference(f"the two forms differ where {'; '.join(map(str, state))}:\n{difference}") from difference
            transaction.set_rollback(True)
        return applies

    def _smallest(self, state: State, difference: Difference) -> Difference:
        """Leave out every row and every change that the difference does not need."""
        rows = {change.row: [other for other in state if other.row is change.row] for change in state}
        for needless in [*rows.values(), *([change] for change in state)]:
            fewer = [change for change in state if change not in needless]
            try:
                self._outcome(fewer)
            except Difference as smaller:
                state, difference = fewer, smaller
        return difference


def _meaning(change: Change) -> tuple[Any, ...]:
    return type(change.row), change.column, repr(change.value)


def _is_accepted(state: State) -> bool:
    with transaction.atomic():
        accepted = _is_written(state)
        transaction.set_rollback(True)
    return accepted


def _is_written(state: State) -> bool:
    """Write the changes of rows, and return whether the database accepts them all."""
    by_row: defaultdict[Model, dict[str, Any]] = defaultdict(dict)
    for change in state:
        if change.row:
            by_row[change.row][change.column] = change.value
    try:
        with transaction.atomic():
            for row, values in by_row.items():
                stored: Any = type(row)._base_manager.filter(pk=row.pk)
                if "" in values:
                    stored._raw_delete(stored.db)
                else:
                    stored.update(**values)
    except DatabaseError:
        return False
    return True


def _is_impossible() -> bool:
    found = [execute(statement, []) for statement in IMPOSSIBLE]
    return any(violated for rows in found for (violated,) in rows)


# --- What the forms read --------------------------------------------------------


class _RecordedSettings:
    """The settings, and the names of those that are read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(settings, name)


def _read_by(twins: Twins[Any]) -> tuple[set[type[Model]], set[str]]:
    """Run both forms in the common state, each rolled back.

    :returns: the models whose tables they read, and the names of the settings that they read.
    """
    models = {model._meta.db_table: model for model in apps.get_models()}
    recorded, read, written = _RecordedSettings(), set(), set()
    # Setting any of them clears what `conf` has converted before.
    with pytest.MonkeyPatch.context() as patch, override_settings(BASKETS_CELL=settings.BASKETS_CELL):
        patch.setattr(conf, "settings", recorded)
        for form in (twins.rule, twins.direct):
            with transaction.atomic():
                before = _usage()
                assert form() is not None, "the direct form does not apply to the common state"
                for table, (reads, writes) in _usage().items():
                    earlier_reads, earlier_writes = before.get(table, (0, 0))
                    read |= {table} if reads > earlier_reads else set()
                    written |= {table} if writes > earlier_writes else set()
                transaction.set_rollback(True)
    unseen = written - {f"baskets_{table}" for table in TABLES}
    assert not unseen, f"a form writes {unseen}, whose rows are not compared: add them to TABLES"
    return {models[table] for table in read & models.keys()}, recorded.read


def _usage() -> dict[str, tuple[int, int]]:
    """Return for each table how often this transaction has read it, and how many of its rows it has written."""
    with connection.cursor() as cursor:
        cursor.execute(USED_TABLES)
        return {table: (reads, writes) for table, reads, writes in cursor.fetchall()}

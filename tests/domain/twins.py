"""Compares two forms of one rule by the rows that each leaves. Each form runs in a transaction that is rolled back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from django.db import IntegrityError, transaction

from baskets import conf
from baskets.db.pipeline import execute, pipeline
from baskets.db.statements import Statement
from baskets.domain.errors import Refusal
from baskets.domain.retries import RetryTransaction
from baskets.models.basket_snapshot import ShownBasket

T = TypeVar("T")
Rows = dict[str, list[Any]]

# All that an order or the end of a basket or a checkout can change; a late order also changes the stock.
TABLES = ("basket", "basketitem", "checkoutsession", "checkoutitem", "stockreservation", "stock", "event", "attention")
# Their new rows are named by nothing else.
DRAWN = ("baskets_event", "baskets_basketitem", "baskets_checkoutitem", "baskets_stockreservation")
SESSION_IDS = "baskets_checkoutsession_id_seq"


NEXT_IDS = Statement(
    "next_ids",
    "SELECT last_value, is_called" + "".join(f", nextval('{table}_id_seq')" for table in DRAWN) + f" FROM {SESSION_IDS}",  # noqa: S608 (constants)
)
SET_SESSION_ID = Statement("set_session_id", f"SELECT setval('{SESSION_IDS}', %s, %s)")
# When the changes happened that have an event of a later id.
NEW_TIMES = Statement("new_times", "SELECT DISTINCT at FROM baskets_event WHERE id > %s")
OWN_HOLDS = Statement("own_holds", "SELECT make_interval(secs => hold_seconds) FROM baskets_partner WHERE hold_seconds IS NOT NULL")
VIOLATION: tuple[str, Rows] = ("violation", {})
READ_ROWS = {
    f"baskets_{table}": Statement(f"rows_of_{table}", f"SELECT * FROM baskets_{table} AS row ORDER BY row::text")  # noqa: S608 (a constant)
    for table in TABLES
}


def read_rows() -> Rows:
    """Read every row that an end can change."""
    with pipeline():
        pending = {table: execute(statement, []) for table, statement in READ_ROWS.items()}
    return {table: rows.fetchall() for table, rows in pending.items()}


@dataclass(frozen=True, kw_only=True)
class Twins(Generic[T]):
    """A rule in Python, and its direct form: statements that write the same where nothing needs a decision.

    :param direct: returns None where it does not apply.
    :param shown: what a caller sees of the result, without the time of the call.
    """

    rule: Callable[[], T]
    direct: Callable[[], T | None]
    shown: Callable[[T], Any]

    def alike(self, *, read: Callable[[], Rows] = read_rows) -> bool | None:
        """Run both forms, each rolled back. They must leave the same rows and show the same.

        :returns: whether the direct form applies. It must not where the rule refuses; where it does not, it must write nothing. None if
            the database refuses what both forms write: the rows before contradicted each other.
        """
        by_rule, directly = self._try(self.rule, read), self._try(self.direct, read)
        if by_rule == directly == VIOLATION:
            return None
        if directly is None or directly[0] is None:
            assert directly in (None, leave(lambda: None, read=read)), "the direct form does not apply, and writes"
            return False
        assert directly == by_rule, _difference(by_rule, directly)
        return True

    def _try(self, form: Callable[[], T | None], read: Callable[[], Rows]) -> tuple[Any, Rows] | None:
        """Run one form like `leave`.

        :returns: what a caller sees and all rows, None and all rows if the form does not apply, or None if it refuses. `VIOLATION` if a
            constraint refuses what it writes.
        """
        try:
            result, rows = leave(form, read=read)
        except (Refusal, RetryTransaction):
            return None
        except IntegrityError:
            return VIOLATION
        return result and self.shown(result), rows


def _difference(by_rule: tuple[Any, Rows] | None, directly: tuple[Any, Rows]) -> str:
    """Say what one of the forms shows or leaves, and the other does not."""
    if by_rule is None:
        return "the rule refuses, and the direct form does not"
    if by_rule[0] != directly[0]:
        return f"the rule shows {by_rule[0]}, the direct form {directly[0]}"
    left = {table: (rows, directly[1].get(table, [])) for table, rows in by_rule[1].items()}
    return "\n".join(
        f"only {form} leaves in {table}: {row}"
        for table, (of_rule, direct) in left.items()
        for form, rows, others in (("the rule", of_rule, direct), ("the direct form", direct, of_rule))
        for row in rows
        if row not in others
    )


def leave(form: Callable[[], T], *, read: Callable[[], Rows] = read_rows) -> tuple[T, Rows]:
    """Run one form, and roll it back.

    :returns: its result, and all rows after it, without the time of the call and the ids that it has drawn.
    """
    ((last_session, is_called, *ids),) = execute(NEXT_IDS, [])
    last = dict(zip(DRAWN, ids, strict=True))
    with transaction.atomic():
        result = form()
        with pipeline():
            times, holds = execute(NEW_TIMES, [last["baskets_event"]]), execute(OWN_HOLDS, [])
            rows = read()
        durations = [timedelta(), conf.hold_duration(), conf.basket_lifetime(), *(hold for (hold,) in holds)]
        names = {at + duration: f"now + {duration}" for (at,) in times for duration in durations}
        transaction.set_rollback(True)
    execute(SET_SESSION_ID, [last_session, is_called])  # Another form draws the same id for a session, which other tables name.
    for table, known in last.items():
        rows[table] = [("new", *row[1:]) if row[0] > known else row for row in rows[table]]

    def plain(value: Any) -> Any:
        return names.get(value, value) if isinstance(value, datetime) else value

    return result, {table: sorted(json.dumps(list(map(plain, row)), default=str) for row in found) for table, found in rows.items()}


def shown_without_times(snapshot: ShownBasket) -> dict[str, Any]:
    """What a caller sees of a basket, without the time of the call."""
    shown = {name: getattr(snapshot, name) for name in ("hidden_at", "cart", "saved", "checkout", "is_open")}
    session = snapshot.session and (snapshot.session.id, snapshot.session.order_no, snapshot.session.test_mode)
    return shown | {"session": session, "slides": snapshot.expires_at == snapshot.last_changed_at + conf.basket_lifetime()}

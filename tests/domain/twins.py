"""Compares two forms of one rule by the rows that each leaves. Each form runs in a transaction that is rolled back."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connection, transaction

from baskets import conf
from baskets.domain.errors import Refusal
from baskets.domain.retries import RetryTransaction
from baskets.models.basket_snapshot import BasketSnapshot

T = TypeVar("T")
Rows = dict[str, list[Any]]

# All that an order or the end of a basket or a checkout can change; a late order also changes the stock.
TABLES = ("basket", "basketitem", "checkoutsession", "checkoutitem", "stockreservation", "stock", "event", "attention")
# Their new rows are named by nothing else.
DRAWN = ("baskets_event", "baskets_basketitem", "baskets_checkoutitem", "baskets_stockreservation")
SESSION_IDS = "baskets_checkoutsession_id_seq"
# No form takes as long.
LONGEST = timedelta(seconds=30)


def read_rows() -> Rows:
    """Read every row that an end can change."""
    rows = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM baskets_{table} AS row ORDER BY row::text")  # noqa: S608 (a constant)
            rows[f"baskets_{table}"] = cursor.fetchall()
    return rows


def try_to_leave(
    form: Callable[[], T | None], *, read: Callable[[], Rows] = read_rows, hold: timedelta | None = None
) -> tuple[T, Rows] | None:
    """Run one form like `leave`; None if it refuses, or returns None."""
    try:
        result, rows = leave(form, read=read, hold=hold)
    except (Refusal, RetryTransaction):
        return None
    return None if result is None else (result, rows)


def leave(form: Callable[[], T], *, read: Callable[[], Rows] = read_rows, hold: timedelta | None = None) -> tuple[T, Rows]:
    """Run one form, and roll it back.

    :param hold: how long a checkout that it starts lasts; None for the setting.
    :returns: its result, and all rows after it, without the time of the call and the ids that it has drawn.
    """
    with connection.cursor() as cursor:
        drawn = ", ".join(f"nextval('{table}_id_seq')" for table in DRAWN)
        cursor.execute(f"SELECT statement_timestamp(), last_value, is_called, {drawn} FROM {SESSION_IDS}")  # noqa: S608 (constants)
        began, last_session, is_called, *ids = cursor.fetchone()
    last = dict(zip(DRAWN, ids, strict=True))

    hold = hold or conf.hold_duration()

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            for name, since in (
                ("now", began),
                ("held", began + hold),
                ("later", began + conf.basket_lifetime()),
            ):
                if since <= value < since + LONGEST:
                    return name
        return value

    with transaction.atomic():
        result = form()
        rows = read()
        transaction.set_rollback(True)
    with connection.cursor() as cursor:  # Another form draws the same id for a session, which other tables name.
        cursor.execute("SELECT setval(%s, %s, %s)", [SESSION_IDS, last_session, is_called])
    for table, known in last.items():
        rows[table] = [("new", *row[1:]) if row[0] > known else row for row in rows[table]]
    return result, {table: sorted(json.dumps(list(map(plain, row)), default=str) for row in found) for table, found in rows.items()}


def shown_without_times(snapshot: BasketSnapshot) -> dict[str, Any]:
    """What a caller sees of a basket, without the time of the call."""
    shown = {name: value for name, value in vars(snapshot).items() if name not in {"at", "last_changed_at", "expires_at", "session"}}
    session = snapshot.session and (snapshot.session.id, snapshot.session.order_no, snapshot.session.test_mode)
    return shown | {"session": session, "slides": snapshot.expires_at == snapshot.last_changed_at + conf.basket_lifetime()}

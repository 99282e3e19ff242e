"""Compares two forms of one rule by the rows that each leaves. Each form runs in a transaction that is rolled back."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connection, transaction

from baskets import conf

T = TypeVar("T")
Rows = dict[str, list[Any]]

# All that an order or the end of a basket or a checkout can change; a late order also changes the stock.
TABLES = ("basket", "basketitem", "checkoutsession", "checkoutitem", "stockreservation", "stock", "event", "attention")
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


def leave(form: Callable[[], T], *, read: Callable[[], Rows] = read_rows) -> tuple[T, Rows]:
    """Run one form, and roll it back.

    :returns: its result, and all rows after it, without the time of the call and the ids that it has drawn.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp(), nextval('baskets_event_id_seq'), nextval('baskets_basketitem_id_seq')")
        began, *drawn = cursor.fetchone()
    last = dict(zip(("baskets_event", "baskets_basketitem"), drawn, strict=True))

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            for name, since in (("now", began), ("later", began + conf.basket_lifetime())):
                if since <= value < since + LONGEST:
                    return name
        return value

    with transaction.atomic():
        result = form()
        rows = read()
        transaction.set_rollback(True)
    for table, known in last.items():
        rows[table] = [("new", *row[1:]) if row[0] > known else row for row in rows[table]]
    return result, {table: sorted(json.dumps(list(map(plain, row)), default=str) for row in found) for table, found in rows.items()}

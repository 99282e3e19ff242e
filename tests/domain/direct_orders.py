"""Compares the two ways to order an active session: what a direct order leaves, and what a finish leaves."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from baskets import conf
from baskets.db.pipeline import pipeline
from baskets.domain.actors import Actor
from baskets.domain.checkout import sessions
from baskets.domain.checkout.direct_orders import order_directly
from baskets.domain.errors import Refusal
from baskets.domain.retries import RetryTransaction
from baskets.models.basket_snapshot import BasketSnapshot, Owner

# All that an order can change; a late order also changes the stock.
TABLES = ("basket", "basketitem", "checkoutsession", "checkoutitem", "stockreservation", "stock", "event", "attention")
Rows = dict[str, list[Any]]


def order_alone(*, owner: Owner, order_no: str | None, actor: Actor) -> BasketSnapshot | None:
    """Order directly, with no finish where that does not apply."""
    with pipeline():
        pending = order_directly(owner=owner, order_no=order_no, actor=actor)
    return pending.result()


def read_rows() -> Rows:
    """Read every row that an order can change."""
    rows = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM baskets_{table} AS row ORDER BY row::text")  # noqa: S608 (a constant)
            rows[f"baskets_{table}"] = cursor.fetchall()
    return rows


def orders_alike(*, owner: Owner, order_no: str | None, actor: Actor, read: Callable[[], Rows] = read_rows) -> bool:
    """Order in both ways, each rolled back. They must leave the same rows and show the same basket.

    :returns: whether the direct order applies. It must not where a finish refuses; where it does not, it must write nothing.
    """
    before = read()
    finished = _try(read, lambda: sessions.finish_session(owner=owner, ordered=True, order_no=order_no, actor=actor))
    direct = _try(read, lambda: order_alone(owner=owner, order_no=order_no, actor=actor))
    assert read() == before
    if direct is None:
        with transaction.atomic():
            assert order_alone(owner=owner, order_no=order_no, actor=actor) is None
        assert read() == before
        return False
    assert direct == finished
    assert direct[0] != before
    return True


def _try(read: Callable[[], Rows], order: Callable[[], BasketSnapshot | None]) -> tuple[Rows, dict[str, Any]] | None:
    """Order, and roll it back.

    :returns: all rows after it, and what a caller sees, both without the time of the call and the ids that it has drawn; None if
        there was no order.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('baskets_event_id_seq')")
        (last_event,) = cursor.fetchone()
    try:
        with transaction.atomic():
            snapshot = order()
            rows = read()
            transaction.set_rollback(True)
    except (Refusal, RetryTransaction):
        return None
    if snapshot is None:
        return None
    at = snapshot.last_changed_at
    known: dict[Any, Any] = {at: "now"}
    if snapshot.expires_at == at + conf.basket_lifetime():
        known[snapshot.expires_at] = "later"
    rows["baskets_event"] = [("new", *row[1:]) if row[0] > last_event else row for row in rows["baskets_event"]]

    def plain(row: Any) -> str:
        return json.dumps([known.get(value, value) if isinstance(value, datetime) else value for value in row], default=str)

    shown = {name: value for name, value in vars(snapshot).items() if name not in {"at", "last_changed_at", "expires_at"}}
    return {table: sorted(map(plain, found)) for table, found in rows.items()}, shown | {"expires": known.get(snapshot.expires_at)}

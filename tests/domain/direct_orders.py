"""Compares the two ways to order an active session: what a direct order leaves, and what a finish leaves."""

from collections.abc import Callable
from typing import Any

from django.db import transaction

from baskets.db.pipeline import pipeline
from baskets.domain.actors import Actor
from baskets.domain.checkout import sessions
from baskets.domain.checkout.direct_orders import order_directly
from baskets.models.basket_snapshot import BasketSnapshot, Owner
from tests.domain.twins import Rows, read_rows, shown_without_times, try_to_leave


def order_alone(*, owner: Owner, order_no: str | None, actor: Actor) -> BasketSnapshot | None:
    """Order directly, with no finish where that does not apply."""
    with pipeline():
        pending = order_directly(owner=owner, order_no=order_no, actor=actor)
    return pending.result()


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

    :returns: all rows after it, and what a caller sees without the time of the call; None if there was no order.
    """
    left = try_to_leave(order, read=read)
    return left and (left[1], shown_without_times(left[0]))

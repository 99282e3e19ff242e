"""Compares the two ways to end what is past its time: one by one, and all in one statement."""

from collections.abc import Callable

from baskets.db.statements import to_array_literal
from baskets.domain.actors import Actor
from baskets.domain.baskets.lifecycle import expire_locked_basket, expire_locked_baskets
from baskets.domain.checkout.ending import end_unsold, expire_lapsed
from baskets.models import Basket, CheckoutSession
from baskets.models.basket_snapshot import read_baskets
from tests.domain.twins import Rows, leave, read_rows

SWEEP = Actor.system("expire_baskets")


def assert_ends_alike(*, read: Callable[[], Rows] = read_rows) -> tuple[int, int]:
    """End all lapsed sessions in both ways, then all old baskets, each rolled back. Both ways must choose the same and leave the same rows.

    :returns: how many sessions, and how many baskets.
    """
    before = read()
    baskets = to_array_literal(list(Basket.objects.values_list("pk", flat=True)))
    sessions, rows = leave(_end_sessions_singly, read=read)
    assert (sessions, rows) == leave(lambda: expire_lapsed(baskets, actor=SWEEP), read=read)
    closed, rows = leave(_close_baskets_singly, read=read)
    assert (closed, rows) == leave(lambda: expire_locked_baskets(baskets, actor=SWEEP), read=read)
    assert read() == before
    return sessions, closed


def _end_sessions_singly() -> int:
    lapsed = [snapshot for snapshot in read_baskets(list(Basket.objects.values_list("pk", flat=True))).values() if snapshot.lapsed]
    for snapshot in lapsed:
        end_unsold(snapshot, to=CheckoutSession.Status.EXPIRED, actor=SWEEP)
    return len(lapsed)


def _close_baskets_singly() -> int:
    found = read_baskets(list(Basket.objects.values_list("pk", flat=True))).values()
    old = [snapshot for snapshot in found if snapshot.hidden_at is None and not snapshot.is_open]
    for snapshot in old:
        expire_locked_basket(snapshot=snapshot, actor=SWEEP)
    return len(old)

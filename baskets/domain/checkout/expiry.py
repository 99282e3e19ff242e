"""Expires lapsed sessions and old baskets: one by one, in a sweep, or to reclaim stock.

A late or dead sweep hides no stock and blocks no user: starts reclaim the stock they need, and an expired basket counts as
absent before a sweep closes it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Q, QuerySet

from baskets.db.errors import Fault, fault_of
from baskets.db.transactions import run_in_transaction
from baskets.domain.actors import Actor
from baskets.domain.baskets.lifecycle import expire_locked_baskets
from baskets.domain.baskets.store import lock_available, lock_basket
from baskets.domain.checkout.ending import end_unsold, expire_lapsed
from baskets.domain.checkout.states import Reservation, Session
from baskets.models import Basket, CheckoutSession, StockReservation
from baskets.models.basket_snapshot import read_basket

# About 50 ms of work, and so the longest wait for a user of one of these baskets.
BATCH_SIZE = 300
MARGIN = 10

ON_DEMAND = Actor.system("expiry on demand")
RECLAIM = Actor.system("reclaim of lapsed holds")
SWEEP = Actor.system("expire_baskets")


class Candidate(NamedTuple):
    """A session or a basket that a sweep has found.

    :param pk: of the session or the basket.
    """

    expires_at: datetime
    pk: int | UUID
    basket_id: UUID


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What one step of a sweep did.

    :param found: candidates seen.
    :param expired: how many of them were expired. The others were locked, or no longer due.
    """

    found: int
    expired: int


class SweepCursor:
    """How far a sweep has come. Threads may share one: each takes the next batch, so no candidate is seen twice.

    :ivar ended: whether all that was due has been taken.
    """

    def __init__(self) -> None:
        self.ended = False
        self._last: Candidate | None = None
        self._taking = threading.Lock()

    def take(self, rows: QuerySet[Any], *, basket: str) -> list[Candidate]:
        """Read the next candidates in the order of their index, so that a batch costs the same however many are left.

        :param rows: all candidates.
        :param basket: the field with the primary key of the basket.
        """
        with self._taking:
            if self.ended:
                return []
            if last := self._last:
                # The last condition finds the place in the index; the first skips what was seen of the same moment.
                rows = rows.filter(Q(expires_at__gt=last.expires_at) | Q(pk__gt=last.pk), expires_at__gte=last.expires_at)
            found = rows.order_by("expires_at", "pk").values_list("expires_at", "pk", basket)[:BATCH_SIZE]
            due = [Candidate(*row) for row in found]
            # What lapses while a sweep runs is for the next one.
            self._last, self.ended = (due[-1], False) if len(due) == BATCH_SIZE else (None, True)
            return due


def expire_session(*, basket_id: UUID, actor: Actor = ON_DEMAND) -> None:
    """Expire a basket's session, if it is still active and lapsed, in its own transaction.

    Locks the basket, then stock rows by primary key.
    """

    def step() -> None:
        if lock_basket(basket_id) and (snapshot := read_basket(basket_id)) and snapshot.lapsed:
            end_unsold(snapshot, to=Session.EXPIRED, actor=actor)

    run_in_transaction(step)


def reclaim_stock(*, needed: Mapping[str, int]) -> None:
    """Expire lapsed sessions that hold these products, the oldest first, until enough pieces are free.

    Each session expires in its own transaction, after the start that needs the stock has released its locks.
    Source: rule 9 of `baskets/docs/rules.md`.

    :param needed: pieces that are missing, by product.
    """
    left = Counter(needed)
    for product_id in sorted(needed):
        oldest = StockReservation.objects.lapsed([product_id]).values_list("basket_id", "session_id")
        # Each hold frees at least one piece, so as many holds as pieces are enough; the margin replaces busy baskets.
        for basket_id, session_id in list(oldest[: max(left[product_id], 0) + MARGIN]):
            if left[product_id] <= 0:
                break
            holds = StockReservation.objects.filter(basket_id=basket_id, session_id=session_id)
            held = list(holds.held().values_list("pk", flat=True))
            try:
                expire_session(basket_id=basket_id, actor=RECLAIM)
            except DatabaseError as error:
                # Lock timeout on another user's basket: skip it and try the next.
                if fault_of(error) is not Fault.BUSY:
                    raise
            else:
                # Pieces that the owner ordered in the meantime were not released, although this loop saw them as held.
                freed = holds.filter(pk__in=held, status=Reservation.RELEASED)
                left.subtract(dict(freed.values_list("product_id", "pieces")))


def sweep_sessions(*, cursor: SweepCursor | None = None, dry_run: bool = False) -> SweepResult:
    """Expire one batch of lapsed sessions, in one transaction, without waiting for baskets that other transactions have locked.

    Locks at most 300 baskets by primary key, then stock rows by primary key.

    :param cursor: of the sweep; None: this batch is a sweep by itself.
    :param dry_run: count only.
    """
    due = (cursor or SweepCursor()).take(CheckoutSession.objects.lapsed(), basket="basket_id")
    return _sweep(due, expire_lapsed, dry_run=dry_run)


def sweep_baskets(*, cursor: SweepCursor | None = None, dry_run: bool = False) -> SweepResult:
    """Close one batch of baskets past their lifetime, in one transaction; never one with an active checkout.

    Locks at most 300 baskets by primary key. For the parameters see `sweep_sessions`.
    """
    due = (cursor or SweepCursor()).take(Basket.objects.expired(), basket="pk")
    return _sweep(due, expire_locked_baskets, dry_run=dry_run)


def _sweep(due: Sequence[Candidate], expire: Callable[..., int], *, dry_run: bool) -> SweepResult:
    """Expire one batch in one transaction.

    :param expire: takes locked baskets and the actor, looks at the baskets again, and returns how many it has expired.
    """
    if dry_run or not due:
        return SweepResult(found=len(due), expired=len(due))
    baskets = [candidate.basket_id for candidate in due]
    return SweepResult(found=len(due), expired=run_in_transaction(lambda: expire(lock_available(baskets), actor=SWEEP)))

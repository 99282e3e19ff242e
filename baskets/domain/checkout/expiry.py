"""Expires lapsed sessions and old baskets: one by one, in a sweep, or to reclaim stock.

A late or dead sweep hides no stock and blocks no user: starts reclaim the stock they need, and an expired basket counts as
absent before a sweep closes it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db import DatabaseError

from baskets.db.errors import Fault, fault_of
from baskets.db.pipeline import execute
from baskets.db.statements import ArrayLiteral, Statement
from baskets.db.transactions import run_in_transaction
from baskets.domain.actors import Actor
from baskets.domain.baskets.lifecycle import expire_locked_baskets
from baskets.domain.baskets.store import lock_available, lock_basket
from baskets.domain.checkout.ending import end_unsold, expire_lapsed
from baskets.domain.checkout.states import Reservation, Session
from baskets.models import StockReservation
from baskets.models.basket_snapshot import read_basket

# About 50 ms of work, and so the longest wait for a user of one of these baskets.
BATCH_SIZE = 400
MARGIN = 10

ON_DEMAND = Actor.system("expiry on demand")
RECLAIM = Actor.system("reclaim of lapsed holds")
SWEEP = Actor.system("expire_baskets")


class Search(NamedTuple):
    """How a sweep finds what is due.

    :param min_pk: no primary key is below it.
    """

    statement: Statement
    min_pk: str


class Candidates(NamedTuple):
    """The sessions or baskets that one step of a sweep has found.

    :param baskets: primary keys of the baskets.
    """

    found: int
    baskets: ArrayLiteral


def _search(name: str, *, min_pk: str, source: str, basket: str) -> Search:
    """Make the search of a sweep. It reads the next rows in the order of their index, so that a batch costs the same however many are left.

    :param source: FROM and WHERE.
    :param basket: the column with the primary key of the basket.
    """
    sql = f"""
WITH due AS (
    SELECT expires_at, id, {basket} AS basket {source}
      AND (expires_at, id) > (%(expires_at)s, %(pk)s) AND expires_at <= statement_timestamp()
    ORDER BY expires_at, id LIMIT %(limit)s
)
SELECT count(*), coalesce(array_agg(basket), '{{}}')::text,
       max(expires_at)::text, (SELECT id::text FROM due ORDER BY expires_at DESC, id DESC LIMIT 1)
FROM due
"""  # noqa: S608 (constants of ours)
    return Search(Statement(name, sql), min_pk)


LAPSED_SESSIONS = _search(
    "lapsed_sessions",
    min_pk="0",
    source="FROM baskets_checkoutsession WHERE status = 'ACTIVE'",
    basket="basket_id",
)
# The status is a parameter, so that no plan reads all active sessions: see `EXPIRE_SESSIONS`.
EXPIRED_BASKETS = _search(
    "expired_baskets",
    min_pk=str(UUID(int=0)),
    source="""FROM baskets_basket b WHERE hidden_at IS NULL
      AND NOT EXISTS (SELECT FROM baskets_checkoutsession session WHERE session.basket_id = b.id AND session.status = %(active)s)""",
    basket="id",
)


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
        self._last: tuple[str, str] | None = None
        self._taking = threading.Lock()

    def take(self, search: Search) -> Candidates:
        """Find the next candidates, the longest expired first."""
        with self._taking:
            if self.ended:
                return Candidates(0, ArrayLiteral("{}"))
            expires_at, pk = self._last or ("-infinity", search.min_pk)
            parameters = {"active": Session.ACTIVE, "expires_at": expires_at, "pk": pk, "limit": BATCH_SIZE}
            ((found, baskets, *last),) = execute(search.statement, parameters)
            # What lapses while a sweep runs is for the next one.
            self._last, self.ended = (last[0], last[1]), found < BATCH_SIZE
            return Candidates(found, ArrayLiteral(baskets))


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

    Locks at most 400 baskets by primary key, then stock rows by primary key.

    :param cursor: of the sweep; None: this batch is a sweep by itself.
    :param dry_run: count only.
    """
    return _sweep((cursor or SweepCursor()).take(LAPSED_SESSIONS), expire_lapsed, dry_run=dry_run)


def sweep_baskets(*, cursor: SweepCursor | None = None, dry_run: bool = False) -> SweepResult:
    """Close one batch of baskets past their lifetime, in one transaction; never one with an active checkout.

    Locks at most 400 baskets by primary key. For the parameters see `sweep_sessions`.
    """
    return _sweep((cursor or SweepCursor()).take(EXPIRED_BASKETS), expire_locked_baskets, dry_run=dry_run)


def _sweep(due: Candidates, expire: Callable[..., int], *, dry_run: bool) -> SweepResult:
    """Expire one batch in one transaction.

    :param expire: takes locked baskets and the actor, looks at the baskets again, and returns how many it has expired.
    """
    if dry_run or not due.found:
        return SweepResult(found=due.found, expired=due.found)
    return SweepResult(found=due.found, expired=run_in_transaction(lambda: expire(lock_available(due.baskets), actor=SWEEP)))

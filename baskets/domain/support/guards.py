"""What all repairs share: the guards (a reason, an unchanged state), the dry run, and the timeline entry. It changes no basket."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction

from baskets.db.transactions import in_transaction
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_basket
from baskets.domain.baskets.timeline import append_event
from baskets.domain.errors import Refusal
from baskets.domain.retries import StockReclaimable, unit_of_work
from baskets.models import CheckoutSession, Event, StockReservation
from baskets.models.basket_snapshot import BasketSnapshot, read_basket

T = TypeVar("T")

REASON_LIMIT = 500


class ReasonRequired(Refusal):
    """Staff did not say why, or at too great length."""

    reason = "reason_missing"
    message = f"A repair needs a reason, of at most {REASON_LIMIT} characters."


class StaleState(Refusal):
    """What the repair was decided upon is no longer so.

    :param since: what has happened, in the order it happened.
    """

    reason = "state_moved"
    message = "It has changed meanwhile, so nothing was done."

    def __init__(self, *, since: Sequence[Any]) -> None:
        super().__init__()
        self.since = since


class RepairNotApplicable(Refusal):
    """The repair does not fit the state.

    :param why: one sentence for staff.
    """

    reason = "not_repairable"
    message = "This repair does not fit."

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why

    def __str__(self) -> str:
        return self.why


def dry_run(*, operation: Callable[[], object], snapshot: Callable[[], T]) -> tuple[T, T]:
    """Do a repair, look, and undo it: what it would change is told by the very code that will change it.

    Runs a transaction of its own, which is rolled back.

    :param operation: the domain call of the repair.
    :param snapshot: reads what staff should see; called before and after.
    :returns: what was seen before and after.
    :raises Refusal: as the operation does.
    :raises OwnSessionLapsed: confirming would expire a lapsed session first.
    :raises StockReclaimable: likewise, sessions of others.
    """

    def step() -> tuple[T, T]:
        before = snapshot()
        operation()
        after = snapshot()
        transaction.set_rollback(True)
        return before, after

    try:
        with unit_of_work():
            return in_transaction(step)
    except StockReclaimable as retry:
        if StockReservation.objects.lapsed(retry.needed).exists():
            raise
        return in_transaction(step)


def lock_session_if_unchanged(session: CheckoutSession, *, expected_events: int, reason: str) -> tuple[BasketSnapshot, CheckoutSession]:
    """Lock the session's basket, and read both as they are now."""
    contents = lock_if_unchanged(session.basket_id, expected_events=expected_events, reason=reason)
    # A purge counts no event, and a user who was erased may have begun anew under the old key.
    now = CheckoutSession.objects.filter(pk=session.pk, basket_id=session.basket_id).first()
    if now is None:
        raise RepairNotApplicable("The checkout is gone.")
    return contents, now


def lock_if_unchanged(basket_id: UUID, *, expected_events: int, reason: str) -> BasketSnapshot:
    """Lock a basket, and read it if it is as staff saw it."""
    require_reason(reason)
    contents = read_basket(basket_id) if lock_basket(basket_id) else None
    if contents is None:
        raise RepairNotApplicable("The basket is gone.")
    if contents.events != expected_events:
        raise StaleState(since=list(Event.objects.filter(basket_id=basket_id, number__gt=expected_events).order_by("number")))
    return contents


def require_reason(reason: str) -> None:
    """Take no repair without a reason that can be stored.

    :raises ReasonRequired: it is empty, too long, or holds a NUL.
    """
    if not reason.strip() or len(reason) > REASON_LIMIT or "\x00" in reason:
        raise ReasonRequired


def record_repair(
    contents: BasketSnapshot, name: str, reason: str, actor: Actor, *, session: CheckoutSession | None = None, **data: Any
) -> None:
    """Add the line of a repair to the timeline, after those of what it did."""
    said: Mapping[str, Any] = {"repair": name, "reason": reason} | ({"orderNo": session.order_no} if session else {}) | data
    append_event(contents=contents, kind=Event.Kind.REPAIRED, actor=actor, data=said, session_id=session.pk if session else None)

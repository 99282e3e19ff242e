"""What all repairs share: the required reason, the check for an unchanged record, the dry run, and the timeline entry.

Every repair names the version of the record that staff have seen. If the record has changed since, the repair is refused and
the refusal lists the changes. So a repair that is submitted twice is executed once.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext_noop

from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_basket
from baskets.domain.baskets.timeline import append_event, record_event
from baskets.domain.errors import Refusal
from baskets.domain.retries import StockReclaimable, unit_of_work
from baskets.domain.validation import require_reason
from baskets.domain.wording import sentence
from baskets.models import Basket, CheckoutSession, Event, StockReservation
from baskets.models.basket_snapshot import BasketSnapshot, read_basket

T = TypeVar("T")


class StaleState(Refusal):
    """The record has changed since staff have seen it.

    :param since: the changes, the oldest first.
    """

    reason = "state_moved"
    message = gettext_noop("The record has changed since it was shown. Nothing was done.")

    def __init__(self, *, since: Sequence[Any]) -> None:
        super().__init__()
        self.since = since


class RepairNotApplicable(Refusal):
    """The repair is not possible in the state of the record.

    :param why: one sentence for staff.
    :param instead: the name of the repair of the same checkout that does what is wanted; empty for none.
    """

    reason = "not_repairable"
    message = gettext_noop("This repair is not possible now.")

    def __init__(self, why: str, *, instead: str = "") -> None:
        super().__init__(why)
        self.instead = instead


# Note [The version of a basket]
# A user whose data were erased may return. The new basket has the key of the old one, and counts its events from 1 again, so a page
# of the old basket could be taken for one of the new. The version that a page shows therefore has the creation in it, in seconds.
# Repairs of checkouts, flags, holds and devices need no such version: their rows have the erased basket's new key.
MAX_EVENTS = 2**24


def basket_version(*, created_at: datetime | None, events: int) -> int:
    """Number the state of a basket that a page shows. See Note [The version of a basket].

    :param created_at: None for a user without a basket.
    """
    return (int(created_at.timestamp()) if created_at else 0) * MAX_EVENTS + events


def events_seen(basket: Basket, version: int) -> int:
    """Return the number of events that staff have seen of a basket, by the version of its page.

    :raises StaleState: the page has shown another basket of the same key.
    """
    events = version % MAX_EVENTS
    if version != basket_version(created_at=basket.created_at, events=events):
        raise StaleState(since=[])
    return events


def dry_run(*, operation: Callable[[], object], snapshot: Callable[[], T]) -> tuple[T, T]:
    """Run a repair and roll it back, so that the preview comes from the same code as the repair.

    :param operation: the domain call of the repair.
    :param snapshot: reads what staff should see; called before and after the operation.
    :returns: the snapshots before and after.
    :raises Refusal: as the operation does.
    :raises OwnSessionLapsed: a real run would first expire the lapsed session of the basket.
    :raises StockReclaimable: a real run would first expire lapsed sessions that hold the stock.
    """

    def step() -> tuple[T, T]:
        before = snapshot()
        operation()
        after = snapshot()
        transaction.set_rollback(True)
        return before, after

    try:
        with unit_of_work():
            return run_in_transaction(step)
    except StockReclaimable as retry:
        if StockReservation.objects.lapsed(retry.needed).exists():
            raise
        return run_in_transaction(step)


def lock_session_if_unchanged(
    session: CheckoutSession, *, expected_events: int, reason: str, is_reason_optional: bool = False
) -> tuple[BasketSnapshot, CheckoutSession]:
    """Lock the basket of a session, and read both.

    :param expected_events: the number of events of the basket that staff have seen.
    :param is_reason_optional: whether the reason may be empty.
    :returns: the basket and the session, as they are under the lock.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket or the session no longer exists.
    """
    snapshot = lock_if_unchanged(session.basket_id, expected_events=expected_events, reason=reason, is_reason_optional=is_reason_optional)
    # A purge deletes sessions without an event, and an erased user may have a new basket under the old key.
    now = CheckoutSession.objects.filter(pk=session.pk, basket_id=session.basket_id).first()
    if now is None:
        raise RepairNotApplicable(sentence("The checkout no longer exists."))
    return snapshot, now


def lock_if_unchanged(basket_id: UUID, *, expected_events: int, reason: str, is_reason_optional: bool = False) -> BasketSnapshot:
    """Lock a basket and read it, unless it has changed since staff have seen it.

    :param expected_events: the number of events of the basket that staff have seen.
    :param is_reason_optional: whether the reason may be empty.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket no longer exists.
    """
    require_reason(reason, is_optional=is_reason_optional)
    snapshot = read_basket(basket_id) if lock_basket(basket_id) else None
    if snapshot is None:
        raise RepairNotApplicable(sentence("The basket no longer exists."))
    if snapshot.events != expected_events:
        raise StaleState(since=list(Event.objects.filter(basket_id=basket_id, number__gt=expected_events).order_by("number")))
    return snapshot


def lock_basket_if_unchanged(basket: Basket, *, expected_events: int, reason: str) -> BasketSnapshot:
    """Lock the basket of a page and read it, unless it has changed since, or is another one by now.

    :param basket: as the request has read it. See Note [The version of a basket].
    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events, or its user was erased and has returned.
    :raises RepairNotApplicable: the basket no longer exists.
    """
    snapshot = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    if snapshot.created_at != basket.created_at:
        raise StaleState(since=[])
    return snapshot


def record_repair(
    snapshot: BasketSnapshot,
    name: str,
    reason: str,
    actor: Actor,
    *,
    session: CheckoutSession | None = None,
    is_change: bool = False,
    **data: Any,
) -> None:
    """Record the event of a repair in the timeline, after the events of its changes, and the repair in the audit log.

    :param is_change: whether the event itself is that of the change: `snapshot` has its number, from `store.write_lists`.
    :param data: the details, by their names in the event.
    """
    details = ({"orderNo": session.order_no} if session else {}) | data
    values: Mapping[str, Any] = {"repair": name} | ({"reason": reason} if reason else {}) | details
    record = record_event if is_change else append_event
    record(snapshot=snapshot, kind=Event.Kind.REPAIRED, actor=actor, data=values, session_id=session.pk if session else None)
    audit_log.record_basket_repair(basket_id=snapshot.basket_id, repair=name, reason=reason, data=details, actor=actor)

"""Repairs of attention flags: assign, unassign and resolve them, with a reason. The timeline records each step."""

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.checkout import attention as flags
from baskets.domain.support.guards import (
    RepairNotApplicable,
    lock_basket_if_unchanged,
    lock_if_unchanged,
    lock_session_if_unchanged,
    record_repair,
)
from baskets.domain.wording import sentence
from baskets.models import Attention, Basket, CheckoutSession, Event


@transaction.atomic(savepoint=False)
def resolve(*, attention: Attention, expected_events: int, reason: str, actor: Actor) -> None:
    """Resolve a flag: the case is closed, and the reason says how. The flag stays on record.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the flag is already resolved, or the basket no longer exists.
    """
    snapshot = lock_if_unchanged(attention.basket_id, expected_events=expected_events, reason=reason)
    resolved = flags.resolve(
        snapshot=snapshot,
        session_id=attention.session_id,
        reasons=[attention.reason],
        cause=flags.Cause.STAFF,
        comment=reason,
        actor=actor,
    )
    if not resolved.rowcount:
        raise RepairNotApplicable(sentence("The flag is already resolved."))
    record_repair(snapshot, "settle", reason, actor, session=attention.session, matter=attention.reason)


@transaction.atomic(savepoint=False)
def resolve_all(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Resolve all open flags of a basket. They stay on record.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket has no open flag, or no longer exists.
    """
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    resolved = flags.resolve(snapshot=snapshot, reasons=Attention.Reason.values, cause=flags.Cause.STAFF, comment=reason, actor=actor)
    if not resolved.rowcount:
        raise RepairNotApplicable(sentence("This basket has no open flag."))
    record_repair(snapshot, "settle_all", reason, actor)


@transaction.atomic(savepoint=False)
def assign(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Assign a session with its flags to the actor, even if it is assigned to another account.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :param reason: may be empty.
    :raises ReasonRequired: the reason is too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the session is already assigned to the actor, or no longer exists.
    """
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason, is_reason_optional=True)
    if assignee_of(session) == actor.name:
        raise RepairNotApplicable(sentence("It is already assigned to you."))
    record_repair(snapshot, "take", reason, actor, session=session)


@transaction.atomic(savepoint=False)
def unassign(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """End the assignment of a session.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :param reason: may be empty.
    :raises ReasonRequired: the reason is too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the session is not assigned, or no longer exists.
    """
    snapshot, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason, is_reason_optional=True)
    if not assignee_of(session):
        raise RepairNotApplicable(sentence("It is not assigned."))
    record_repair(snapshot, "hand_back", reason, actor, session=session)


def assignee_of(session: CheckoutSession) -> str:
    """Read the account to which a session is assigned; empty for none."""
    last = Event.objects.assignments().filter(basket_id=session.basket_id, session=session).first()
    return last.actor if last and last.data["repair"] == "take" else ""

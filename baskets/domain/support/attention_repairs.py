"""Repairs of open flags: taken in hand, handed back, and settled with a reason. Each step is in the timeline."""

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.checkout import attention as flags
from baskets.domain.support.guards import RepairNotApplicable, lock_if_unchanged, lock_session_if_unchanged, record_repair
from baskets.models import Attention, Basket, CheckoutSession, Event


@transaction.atomic(savepoint=False)
def resolve(*, attention: Attention, expected_events: int, reason: str, actor: Actor) -> None:
    """Settle a matter: somebody has seen to it, and the reason says how. It stays on record.

    Locks the basket. Parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: it is settled already.
    """
    contents = lock_if_unchanged(attention.basket_id, expected_events=expected_events, reason=reason)
    settled = flags.resolve(
        contents=contents,
        session_id=attention.session_id,
        reasons=[attention.reason],
        cause=flags.Cause.STAFF,
        comment=reason,
        actor=actor,
    )
    if not settled.rowcount:
        raise RepairNotApplicable("The matter is settled already.")
    record_repair(contents, "settle", reason, actor, session=attention.session, matter=attention.reason)


@transaction.atomic(savepoint=False)
def resolve_all(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Settle all open flags of a basket at once. They stay on record.

    Locks the basket. Other parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: the basket has no open flag.
    """
    contents = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    settled = flags.resolve(contents=contents, reasons=Attention.Reason.values, cause=flags.Cause.STAFF, comment=reason, actor=actor)
    if not settled.rowcount:
        raise RepairNotApplicable("This basket has no open matter.")
    record_repair(contents, "settle_all", reason, actor)


@transaction.atomic(savepoint=False)
def assign(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Take the open matters of a session in hand, from somebody else where they had them; the timeline says who has them.

    Locks the basket. Parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: whoever takes them has them already.
    """
    contents, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if assignee_of(session) == actor.name:
        raise RepairNotApplicable("You have it in hand already.")
    record_repair(contents, "take", reason, actor, session=session)


@transaction.atomic(savepoint=False)
def unassign(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Hand the open matters of a session back, so that somebody else takes them.

    Locks the basket. Parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: nobody has them.
    """
    contents, session = lock_session_if_unchanged(session, expected_events=expected_events, reason=reason)
    if not assignee_of(session):
        raise RepairNotApplicable("Nobody has it in hand.")
    record_repair(contents, "hand_back", reason, actor, session=session)


def assignee_of(session: CheckoutSession) -> str:
    """Name who has the matters of a session in hand; empty for nobody."""
    last = Event.objects.assignments().filter(basket_id=session.basket_id, session=session).first()
    return last.actor if last and last.data["repair"] == "take" else ""

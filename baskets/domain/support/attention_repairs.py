"""Repairs of open flags: taken in hand, handed back, and settled with a reason. Each step is in the timeline."""

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.checkout import attention as flags
from baskets.domain.support.repair import NotRepairable, as_expected, session_as_expected, tell
from baskets.models import Attention, Basket, CheckoutSession, Event


@transaction.atomic(savepoint=False)
def settle(*, attention: Attention, expected_events: int, reason: str, actor: Actor) -> None:
    """Settle a matter: somebody has seen to it, and the reason says how. It stays on record.

    Locks the basket. Parameters and refusals as `repair.finish_as_ordered`.

    :raises NotRepairable: it is settled already.
    """
    contents = as_expected(attention.basket_id, expected_events=expected_events, reason=reason)
    settled = flags.settle(
        contents=contents,
        session_id=attention.session_id,
        reasons=[attention.reason],
        cause=flags.Cause.STAFF,
        note=reason,
        actor=actor,
    )
    if not settled.rowcount:
        raise NotRepairable("The matter is settled already.")
    tell(contents, "settle", reason, actor, session=attention.session, matter=attention.reason)


@transaction.atomic(savepoint=False)
def settle_all(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Settle all open flags of a basket at once. They stay on record.

    Locks the basket. Other parameters and refusals as `repair.finish_as_ordered`.

    :raises NotRepairable: the basket has no open flag.
    """
    contents = as_expected(basket.pk, expected_events=expected_events, reason=reason)
    settled = flags.settle(contents=contents, reasons=Attention.Reason.values, cause=flags.Cause.STAFF, note=reason, actor=actor)
    if not settled.rowcount:
        raise NotRepairable("This basket has no open matter.")
    tell(contents, "settle_all", reason, actor)


@transaction.atomic(savepoint=False)
def take(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Take the open matters of a session in hand, from somebody else where they had them; the timeline says who has them.

    Locks the basket. Parameters and refusals as `repair.finish_as_ordered`.

    :raises NotRepairable: whoever takes them has them already.
    """
    contents, session = session_as_expected(session, expected_events=expected_events, reason=reason)
    if holder_of(session) == actor.name:
        raise NotRepairable("You have it in hand already.")
    tell(contents, "take", reason, actor, session=session)


@transaction.atomic(savepoint=False)
def hand_back(*, session: CheckoutSession, expected_events: int, reason: str, actor: Actor) -> None:
    """Hand the open matters of a session back, so that somebody else takes them.

    Locks the basket. Parameters and refusals as `repair.finish_as_ordered`.

    :raises NotRepairable: nobody has them.
    """
    contents, session = session_as_expected(session, expected_events=expected_events, reason=reason)
    if not holder_of(session):
        raise NotRepairable("Nobody has it in hand.")
    tell(contents, "hand_back", reason, actor, session=session)


def holder_of(session: CheckoutSession) -> str:
    """Name who has the matters of a session in hand; empty for nobody."""
    last = Event.objects.steps().filter(basket_id=session.basket_id, session=session).first()
    return last.actor if last and last.data["repair"] == "take" else ""

"""What staff must look at: sessions somebody may have paid for although their order was refused or is short."""

from dataclasses import replace

from django.db import transaction

from baskets.domain.changes import record
from baskets.domain.errors import AttentionNeeded
from baskets.models import Attention, Basket, Event
from baskets.models.contents import Contents, read_contents


@transaction.atomic(savepoint=False)
def flag_after_refusal(needed: AttentionNeeded) -> None:
    """Flag a session whose order was refused, after the refusal was rolled back. Basket and stock stay as they are.

    Locks the basket. Source: contract, section 6.2, "Somebody may have paid".
    """
    if not Basket.objects.filter(pk=needed.basket_id).locked().values_list("pk"):
        return
    if contents := read_contents(needed.basket_id):
        flag(contents=contents, needed=needed)


def flag(*, contents: Contents, needed: AttentionNeeded) -> Contents:
    """Flag a session, once per session and reason, with an event that says why.

    Needs the basket's lock, under which no second flag can come between the question and the answer.
    """
    if Attention.objects.filter(session_id=needed.session_id, reason=needed.reason).exists():
        return contents
    after = replace(contents, events=contents.events + 1)
    Attention.objects.create(basket_id=needed.basket_id, session_id=needed.session_id, reason=needed.reason, created_at=contents.at)
    Basket.objects.filter(pk=needed.basket_id).update(events=after.events)
    record(
        contents=after,
        kind=Event.Kind.ATTENTION_NEEDED,
        actor=needed.actor,
        session_id=needed.session_id,
        data={"orderNo": needed.order_no, "reason": needed.reason},
    )
    return after

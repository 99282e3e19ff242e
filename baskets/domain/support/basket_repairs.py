"""Repairs of baskets by staff: change an item, extend the basket, or end it. Each locks the basket and records its reason."""

from datetime import timedelta

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.baskets import items, lifecycle
from baskets.domain.support.guards import RepairNotApplicable, lock_if_unchanged, record_repair
from baskets.models import Basket
from baskets.models.basket_snapshot import Owner


@transaction.atomic(savepoint=False)
def change_item(*, basket: Basket, product_id: str, count: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Change the count of an item in cart or saved, move it between the two, or remove it.

    Locks the basket. Other parameters and refusals as `finish_as_ordered`.

    :param count: as the API takes it: above 0 into the cart, 0 into saved, -1 out of both.
    :raises RepairNotApplicable: the item is like that already.
    :raises ProductNotInBasket: it is in neither list.
    :raises CartFull: it would move to a cart that is full.
    :raises SavedFull: it would move to a saved list that is full.
    """
    contents = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    if count < 0:
        after = items.remove_item(owner=owner, product_id=product_id, actor=actor)
    else:
        after = items.change_item(owner=owner, product_id=product_id, count=count, actor=actor)
    if after.revision == contents.revision:
        raise RepairNotApplicable("The item is like that already.")
    record_repair(after, "change_item", reason, actor, productId=product_id, count=count)


@transaction.atomic(savepoint=False)
def extend(*, basket: Basket, days: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Let a basket last for so many days from now, and no shorter than it did. Its lists do not change.

    Locks the basket. Other parameters and refusals as `finish_as_ordered`.

    :raises RepairNotApplicable: it was deleted or has expired, or lasts that long already.
    """
    contents = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    until = contents.at + timedelta(days=days)
    if not contents.is_open:
        raise RepairNotApplicable("The basket was deleted or has expired: it is empty, and the next addition brings it back.")
    if until <= contents.expires_at:
        raise RepairNotApplicable("The basket lasts that long already.")
    Basket.objects.filter(pk=basket.pk).update(expires_at=until)
    record_repair(contents, "extend", reason, actor, until=until.isoformat(timespec="seconds"))


@transaction.atomic(savepoint=False)
def end(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """End a basket, as its user's own deletion does: emptied and hidden; orders and the timeline stay.

    Locks the basket. Other parameters and refusals as `finish_as_ordered`.

    :raises BasketNotFound: it was deleted or has expired already.
    :raises CheckoutActive: a session is active; it is finished or aborted first.
    :raises OwnSessionLapsed: its session has lapsed.
    """
    lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    after = lifecycle.delete_basket(owner=Owner(partner_id=basket.partner_id, user_id=basket.user_id), actor=actor)
    record_repair(after, "end", reason, actor)

"""Repairs of baskets by staff: change an item, extend the basket, or end it. Each records its reason in the timeline."""

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

    Locks the basket.

    :param count: as in the API: above 0 moves the item to the cart, 0 to the saved list, -1 removes it from both.
    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the item already has this count and list, or the basket no longer exists.
    :raises ProductNotInBasket: the item is in neither list.
    :raises CartFull: the item would move to a full cart.
    :raises SavedFull: the item would move to a full saved list.
    """
    contents = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    if count < 0:
        after = items.remove_item(owner=owner, product_id=product_id, actor=actor)
    else:
        after = items.change_item(owner=owner, product_id=product_id, count=count, actor=actor)
    if after.revision == contents.revision:
        raise RepairNotApplicable("The item already has this count and list.")
    record_repair(after, "change_item", reason, actor, productId=product_id, count=count)


@transaction.atomic(savepoint=False)
def extend(*, basket: Basket, days: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Let a basket expire a number of days from now, but never earlier than before. Its lists do not change.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket was deleted or has expired, expires later anyway, or no longer exists.
    """
    contents = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    until = contents.at + timedelta(days=days)
    if not contents.is_open:
        raise RepairNotApplicable("The basket was deleted or has expired. It opens again with the next item that its user adds.")
    if until <= contents.expires_at:
        raise RepairNotApplicable("The basket already lasts that long.")
    Basket.objects.filter(pk=basket.pk).update(expires_at=until)
    record_repair(contents, "extend", reason, actor, until=until.isoformat(timespec="seconds"))


@transaction.atomic(savepoint=False)
def end(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Empty and hide a basket, as a deletion by its user does. Orders and the timeline stay.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket no longer exists.
    :raises BasketNotFound: the basket was deleted or has expired.
    :raises CheckoutActive: a session is active and must be finished or aborted first.
    :raises OwnSessionLapsed: to the runner: the session of the basket has lapsed.
    """
    lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    after = lifecycle.delete_basket(owner=Owner(partner_id=basket.partner_id, user_id=basket.user_id), actor=actor)
    record_repair(after, "end", reason, actor)

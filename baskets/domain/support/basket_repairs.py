"""Repairs of baskets by staff: change items, extend, end or restore the basket, add a note. Each records its reason in the timeline."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.baskets import items, lifecycle, lists
from baskets.domain.baskets.store import write_lists
from baskets.domain.support import erasure
from baskets.domain.support.guards import RepairNotApplicable, lock_basket_if_unchanged, record_repair
from baskets.domain.wording import sentence
from baskets.models import Basket, Event
from baskets.models.basket_snapshot import BasketLine, Owner
from baskets.models.events import NOTE

CLOSING_KINDS = (Event.Kind.BASKET_DELETED, Event.Kind.BASKET_EXPIRED)


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
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    if count < 0:
        after = items.remove_item(owner=owner, product_id=product_id, actor=actor)
    else:
        after = items.change_item(owner=owner, product_id=product_id, count=count, actor=actor)
    if after.revision == snapshot.revision:
        raise RepairNotApplicable(sentence("The item already has this count and list."))
    record_repair(after, "change_item", reason, actor, productId=product_id, count=count)


@transaction.atomic(savepoint=False)
def add_item(*, basket: Basket, product_id: str, count: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Add a listed product to the cart, as its user can. It leaves the saved list.

    Locks the basket.

    :param count: pieces, above 0.
    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket was deleted or has expired, the product is already in the cart, or the basket no
        longer exists.
    :raises ProductNotFound: not in the catalog, or not listed.
    :raises CartFull: the cart is full.
    """
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    if not snapshot.is_open:
        raise RepairNotApplicable(sentence("The basket was deleted or has expired. Restore it first."))
    if lists.find_line(snapshot.cart, product_id):
        raise RepairNotApplicable(sentence("The product is already in the cart. Change its count instead."))
    owner = Owner(partner_id=basket.partner_id, user_id=basket.user_id)
    after = items.place_item(owner=owner, product_id=product_id, count=count, actor=actor)
    record_repair(after, "add_item", reason, actor, productId=product_id, count=count)


@transaction.atomic(savepoint=False)
def restore(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Restore a deleted or expired basket: it is open again, with the cart and the saved list that it was closed with.

    An open basket is refused: its user has begun again, and the old items must not mix with the new ones. Holds and orders are not
    restored.
    Locks the basket. Source: ADR 47.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket is open, the data of its user were erased, it was closed empty, what it held is no longer
        stored, or it no longer exists.
    """
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    if snapshot.is_open:
        raise RepairNotApplicable(sentence("The basket is open. Add single items instead."))
    if erasure.is_erased(basket):
        raise RepairNotApplicable(sentence("The user's data were erased."))
    if snapshot.hidden_at is None:
        snapshot = lifecycle.expire_locked_basket(snapshot=snapshot, actor=actor)
    closed = Event.objects.filter(basket_id=basket.pk, kind__in=CLOSING_KINDS).order_by("-number").first()
    if closed is None:
        raise RepairNotApplicable(sentence("What the basket held is no longer stored."))
    held = {name: closed.data.get(name) or [] for name in ("cart", "saved")}
    if not any(held.values()):
        raise RepairNotApplicable(sentence("The basket was empty when it was closed."))
    lines = _lines(held)
    after = write_lists(before=snapshot, after=snapshot._replace(hidden_at=None, cart=lines["cart"], saved=lines["saved"]))
    record_repair(after, "restore", reason, actor, is_change=True, cart=held["cart"], saved=held["saved"])


def _lines(held: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[BasketLine, ...]]:
    """Build the lines of lists as an event stores them, in its order."""
    positions = itertools.count(1)
    return {
        name: tuple(BasketLine(product_id=line["productId"], count=line["count"], position=next(positions)) for line in lines)
        for name, lines in held.items()
    }


@transaction.atomic(savepoint=False)
def extend(*, basket: Basket, days: int, expected_events: int, reason: str, actor: Actor) -> None:
    """Let a basket expire a number of days from now, but never earlier than before. Its lists do not change.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket was deleted or has expired, expires later anyway, or no longer exists.
    """
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    until = snapshot.at + timedelta(days=days)
    if not snapshot.is_open:
        raise RepairNotApplicable(sentence("The basket was deleted or has expired. It opens again with the next item that its user adds."))
    if until <= snapshot.expires_at:
        raise RepairNotApplicable(sentence("The basket already lasts that long."))
    Basket.objects.filter(pk=basket.pk).update(expires_at=until)
    record_repair(snapshot, "extend", reason, actor, until=until.isoformat(timespec="seconds"))


@transaction.atomic(savepoint=False)
def add_note(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Add a note for other staff to the timeline of a basket. Nothing else changes. An erasure removes its text.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :param reason: the text of the note. It is in no event that a partner receives.
    :raises ReasonRequired: the text is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the data of its user were erased, or the basket no longer exists.
    """
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    if erasure.is_erased(basket):
        raise RepairNotApplicable(sentence("The user's data were erased."))
    record_repair(snapshot, NOTE, reason, actor)


@transaction.atomic(savepoint=False)
def end(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> None:
    """Close a basket, as a deletion by its user does. Orders and the timeline stay.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the basket no longer exists.
    :raises BasketNotFound: the basket was deleted or has expired.
    :raises CheckoutActive: a session is active and must be finished or aborted first.
    :raises OwnSessionLapsed: to the runner: the session of the basket has lapsed.
    """
    lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    after = lifecycle.delete_basket(owner=Owner(partner_id=basket.partner_id, user_id=basket.user_id), actor=actor)
    record_repair(after, "end", reason, actor)

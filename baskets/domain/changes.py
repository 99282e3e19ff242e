"""Writes what a call has decided about a basket: the difference of its lists, its row, and one event.

Every function here needs the basket's lock; see `baskets/docs/concurrency.md`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from baskets import conf
from baskets.domain.actors import Actor
from baskets.models import Basket, BasketItem, Event
from baskets.models.contents import Contents, Line, Owner, read_contents


def locked_contents(owner: Owner) -> Contents | None:
    """Lock the owner's basket and read it whole, or None where it has no row.

    The second statement is the first after the lock was won: its clock decides about expiry.
    """
    if not Basket.objects.filter(pk=owner.basket_id).locked().values_list("pk"):
        return None
    return read_contents(owner.basket_id)


def store(
    *, before: Contents, after: Contents, kind: Event.Kind, actor: Actor, data: Mapping[str, Any]
) -> Contents:
    """Write the lists and the event of a change, and return the basket as it is then.

    A call that changes nothing writes nothing: neither revision nor `last_changed_at` moves.
    """
    if _same_lists(before, after) and before.hidden_at == after.hidden_at:
        return before
    after = write_lists(before=before, after=after)
    record(contents=after, kind=kind, actor=actor, data=data)
    return after


def write_lists(*, before: Contents, after: Contents, event: bool = True) -> Contents:
    """Write the difference between two states of a basket, at most three statements, and count the change.

    The session's items are written by `checkout`; here only cart, saved and the basket's own row.

    :param event: whether an event is going to be recorded; its number is taken here.
    """
    stored, wanted = _rows(before), _rows(after)
    if gone := stored.keys() - wanted.keys():
        BasketItem.objects.filter(basket_id=before.basket_id, product_id__in=sorted(gone)).delete()
    if fresh := {key: row for key, row in wanted.items() if stored.get(key) != row}:
        BasketItem.objects.bulk_create(
            [
                BasketItem(basket_id=before.basket_id, product_id=product_id, list=name, count=count, position=position)
                for product_id, (name, count, position) in sorted(fresh.items())
            ],
            update_conflicts=True,
            unique_fields=["basket", "product"],
            update_fields=["list", "count", "position"],
        )
    if not _same_lists(before, after) or before.hidden_at != after.hidden_at:
        slides = not before.guest or before.hidden_at is not None
        after = replace(
            after,
            revision=before.revision + 1,
            last_changed_at=before.at,
            expires_at=before.at + conf.lifetime() if slides else before.expires_at,
        )
    after = replace(after, events=before.events + event)
    Basket.objects.filter(pk=after.basket_id).update(
        revision=after.revision,
        events=after.events,
        last_changed_at=after.last_changed_at,
        expires_at=after.expires_at,
        hidden_at=after.hidden_at,
    )
    return after


def record(
    *, contents: Contents, kind: Event.Kind, actor: Actor, data: Mapping[str, Any], session_id: int | None = None
) -> None:
    """Add one line to the basket's timeline, under the number that `write_lists` took."""
    Event.objects.create(
        basket_id=contents.basket_id,
        number=contents.events,
        revision=contents.revision,
        kind=kind,
        session_id=session_id,
        at=contents.at,
        actor_kind=actor.kind,
        actor=actor.name,
        request_id=actor.request_id,
        tracking=dict(actor.tracking),
        data=dict(data),
    )


def _rows(contents: Contents) -> dict[str, tuple[str, int, int]]:
    """The rows of cart and saved, by product."""
    rows = {line.product_id: ("saved", line.count, line.position) for line in contents.saved}
    return rows | {line.product_id: ("cart", line.count, line.position) for line in contents.cart}


def _same_lists(before: Contents, after: Contents) -> bool:
    return (before.cart, before.saved, before.checkout) == (after.cart, after.saved, after.checkout)


def described(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    """What an event says about lines."""
    return [{"productId": line.product_id, "count": line.count} for line in lines]

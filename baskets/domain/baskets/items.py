"""Adds, changes and removes items in the cart and saved lists. Never reads or writes stock."""

from django.db import transaction

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.lifecycle import expire_locked_basket
from baskets.domain.baskets.store import create_and_lock, enqueue_locked_read, lock_and_read, write_and_record
from baskets.domain.errors import ProductNotFound, ProductNotInBasket
from baskets.domain.stock.sandbox_catalog import may_contain
from baskets.models import Event
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot, Owner

LISTED_PRODUCT = Statement("listed_product", "SELECT variant, main_product_id FROM baskets_product WHERE product_id = %s AND listed")


@transaction.atomic(savepoint=False)
def place_item(*, owner: Owner, product_id: str, count: int, actor: Actor) -> BasketSnapshot:
    """Assign a product to the user's basket: above 0 into the cart and out of saved, 0 the other way round.

    Overwrites the count instead of adding to it, and never checks stock. A closed basket opens again, with this product
    alone. Locks the basket.
    Source: `assignproducttobasket` of the published API.

    :param count: pieces, 0 for the saved list.
    :raises ProductNotFound: the product is not in the catalog, or not listed.
    :raises CartFull: the item is new in the cart, which is full.
    :raises SavedFull: the item is new in the saved list, which is full.
    """
    pending, listed = enqueue_locked_read(owner), execute(LISTED_PRODUCT, [product_id])
    snapshot, product = pending.snapshot(), listed.fetchone()
    if product is None:
        raise ProductNotFound
    if snapshot is None:
        snapshot = create_and_lock(owner)
    if not may_contain(product_id, sandbox=snapshot.sandbox):
        raise ProductNotFound
    if not snapshot.is_open:
        # The basket has expired, and no sweep has closed it yet: its former items must not return with the new one.
        snapshot = snapshot if snapshot.hidden_at else expire_locked_basket(snapshot=snapshot, actor=actor)
    variant, main_product_id = product
    line = BasketLine(product_id=product_id, count=count, position=0, variant=variant, main_product_id=main_product_id)
    return _store_placed(before=snapshot, line=line, actor=actor)


@transaction.atomic(savepoint=False)
def change_item(*, owner: Owner, product_id: str, count: int | None, actor: Actor) -> BasketSnapshot:
    """Change the count of a product that is in cart or saved, like `place_item`. The product need not be listed.

    Locks the basket. Source: `updateproductinbasket` of the published API.

    :param count: pieces, 0 for the saved list, None to change nothing.
    :raises ProductNotInBasket: it is in neither list.
    :raises CartFull: it would move to a cart that is full.
    :raises SavedFull: it would move to a saved list that is full.
    """
    snapshot = lock_and_read(owner)
    if snapshot is None or not snapshot.is_open:
        raise ProductNotInBasket
    line = lists.find_line((*snapshot.cart, *snapshot.saved), product_id)
    if line is None:
        raise ProductNotInBasket
    if count is None:
        return snapshot
    return _store_placed(before=snapshot, line=line._replace(count=count), actor=actor)


@transaction.atomic(savepoint=False)
def remove_item(*, owner: Owner, product_id: str, actor: Actor) -> BasketSnapshot:
    """Remove a product from cart and saved, never from checkout.

    Locks the basket. Source: `deleteproductfrombasket` of the published API.

    :raises ProductNotInBasket: it is in neither list.
    """
    snapshot = lock_and_read(owner)
    if snapshot is None or not snapshot.is_open:
        raise ProductNotInBasket
    after = lists.without_product(snapshot, product_id)
    return write_and_record(before=snapshot, after=after, kind=Event.Kind.ITEM_REMOVED, actor=actor, data={"productId": product_id})


def _store_placed(*, before: BasketSnapshot, line: BasketLine, actor: Actor) -> BasketSnapshot:
    after = lists.with_placed(before if before.hidden_at is None else before._replace(hidden_at=None), line)
    name = "cart" if line.count > 0 else "saved"
    return write_and_record(
        before=before,
        after=after,
        kind=Event.Kind.ITEM_PLACED,
        actor=actor,
        data={"productId": line.product_id, "count": line.count, "list": name},
    )

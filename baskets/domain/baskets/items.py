"""Products in the cart and the saved list: placed, changed, removed. Stock is none of their business."""

from dataclasses import replace

from django.db import transaction

from baskets.db.pipeline import execute
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.lifecycle import expire_locked
from baskets.domain.baskets.store import ask_for_contents, created_contents, locked_contents, store
from baskets.domain.errors import ProductNotInBasket, ProductUnknown
from baskets.models import Event
from baskets.models.basket_snapshot import Contents, Line, Owner

LISTED = """
SELECT variant, main_product_id FROM baskets_product WHERE product_id = %s AND listed
"""


@transaction.atomic(savepoint=False)
def place_item(*, owner: Owner, product_id: str, count: int, actor: Actor) -> Contents:
    """Assign a product to the user's basket: above 0 into the cart and out of saved, 0 the other way round.

    Overwrites the count, never adds up, and never checks stock. Brings a deleted or expired basket back, empty but for
    this product. Locks the basket.
    Source: `assignproducttobasket` of the published API.

    :param count: pieces, 0 for the saved list.
    :raises ProductUnknown: not in the catalogue, or not listed.
    :raises CartFull: a new item beyond the limit of the cart.
    :raises SavedFull: a new item beyond the limit of the saved list.
    """
    asked, listed = ask_for_contents(owner), execute(LISTED, [product_id])
    contents, product = asked.contents(), listed.fetchone()
    if product is None:
        raise ProductUnknown
    if contents is None:
        contents = created_contents(owner)
    if not contents.present:
        # Past its time and not yet swept: what it held is gone for the user, so it must not come back with it.
        contents = contents if contents.hidden_at else expire_locked(contents=contents, actor=actor)
    variant, main_product_id = product
    line = Line(product_id=product_id, count=count, position=0, variant=variant, main_product_id=main_product_id)
    return _store_placed(before=contents, line=line, actor=actor)


@transaction.atomic(savepoint=False)
def change_item(*, owner: Owner, product_id: str, count: int | None, actor: Actor) -> Contents:
    """Change a product that is in cart or saved: as `place_item`, whether or not it is still listed.

    Locks the basket. Source: `updateproductinbasket` of the published API.

    :param count: pieces, 0 for the saved list, None to change nothing.
    :raises ProductNotInBasket: it is in neither list.
    :raises CartFull: it would move to a cart that is full.
    :raises SavedFull: it would move to a saved list that is full.
    """
    contents = locked_contents(owner)
    if contents is None or not contents.present:
        raise ProductNotInBasket
    line = lists.find((*contents.cart, *contents.saved), product_id)
    if line is None:
        raise ProductNotInBasket
    if count is None:
        return contents
    return _store_placed(before=contents, line=replace(line, count=count), actor=actor)


@transaction.atomic(savepoint=False)
def remove_item(*, owner: Owner, product_id: str, actor: Actor) -> Contents:
    """Take a product out of cart and saved, never out of checkout.

    Locks the basket. Source: `deleteproductfrombasket` of the published API.

    :raises ProductNotInBasket: it is in neither list.
    """
    contents = locked_contents(owner)
    if contents is None or not contents.present:
        raise ProductNotInBasket
    after = lists.removed(contents, product_id)
    return store(before=contents, after=after, kind=Event.Kind.ITEM_REMOVED, actor=actor, data={"productId": product_id})


def _store_placed(*, before: Contents, line: Line, actor: Actor) -> Contents:
    after = lists.placed(before, line)
    name = "cart" if line.count > 0 else "saved"
    return store(
        before=before,
        after=replace(after, hidden_at=None),
        kind=Event.Kind.ITEM_PLACED,
        actor=actor,
        data={"productId": line.product_id, "count": line.count, "list": name},
    )

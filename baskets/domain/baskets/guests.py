"""Guests: users without an account at their partner, each with a basket that expires 30 days after its creation.

Their tokens are in `access.guest_tokens`.
"""

import secrets
from collections.abc import Mapping

from django.db import transaction

from baskets.domain import slots
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.store import create_and_lock, write_lists
from baskets.domain.baskets.timeline import lists_as_json, record_event
from baskets.domain.errors import ProductNotFound
from baskets.domain.stock.sandbox_catalog import may_contain
from baskets.models import Event, Product
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot, Owner


def new_guest(*, partner_id: int) -> Owner:
    """Generate the id of a guest of this cell: 128 random bits, so that it is unique and cannot be guessed."""
    name = slots.generate_in_this_cell(lambda: f"guest-{secrets.token_hex(16)}", partner_id=partner_id)
    return Owner(partner_id=partner_id, user_id=name)


@transaction.atomic(savepoint=False)
def create_guest_basket(*, owner: Owner, counts: Mapping[str, int], limits: ClientLimits | None = None, actor: Actor) -> BasketSnapshot:
    """Create the basket of a guest, with products in its lists as `place_item` puts them: all of them or none.

    It expires a basket's lifetime after now, whatever happens to it. Locks the basket.
    Source: `createguestbasket` of the published API.

    :param owner: a new guest, from `new_guest`.
    :param counts: pieces by product, 0 for the saved list, in the order in which the lists show them.
    :param limits: the limits of the calling client key; None for a server key.
    :raises Throttled: a limit of the client key or its source is reached.
    :raises LimitBlockUsedUp: this process must fetch a block of counts first.
    :raises ProductNotFound: a product is not in the catalog, or not listed.
    :raises CartFull: there are more products than the cart can hold.
    :raises SavedFull: there are more products than the saved list can hold.
    """
    if limits:
        limits.count(guests=1)
    before = create_and_lock(owner, guest=True)
    known = Product.objects.filter(listed=True).in_bulk(list(counts))
    after = before
    for product_id, count in counts.items():
        product = known.get(product_id)
        if product is None or not may_contain(product_id, sandbox=before.sandbox):
            raise ProductNotFound
        line = BasketLine(product_id=product_id, count=count, position=0, variant=product.variant, main_product_id=product.main_product_id)
        after = lists.with_placed(after, line)
    after = write_lists(before=before, after=after)
    record_event(snapshot=after, kind=Event.Kind.GUEST_CREATED, actor=actor, data=lists_as_json(after))
    return after

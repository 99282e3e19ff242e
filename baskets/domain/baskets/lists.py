"""The rules of the three lists, as pure functions from one snapshot of a basket to the next. Reads and writes nothing."""

from collections.abc import Iterable, Mapping

from baskets import conf
from baskets.domain.errors import CartFull, ProductNotInBasket, SavedFull
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot


def with_placed(snapshot: BasketSnapshot, line: BasketLine) -> BasketSnapshot:
    """Assign a product: with a count above 0 into the cart, with 0 into the saved list.

    :raises CartFull: the cart is at its limit and does not hold the product yet.
    :raises SavedFull: the saved list is at its limit and does not hold the product yet.
    """
    return with_product_in_cart(snapshot, line) if line.count > 0 else with_product_in_saved(snapshot, line)


def with_product_in_cart(snapshot: BasketSnapshot, line: BasketLine) -> BasketSnapshot:
    """Put a product into the cart, and out of saved: overwrite its count in place, or append it.

    :raises CartFull: the cart is at its limit and does not hold the product yet.
    """
    if find_line(snapshot.cart, line.product_id):
        cart = tuple(other._replace(count=line.count) if other.product_id == line.product_id else other for other in snapshot.cart)
        return snapshot._replace(cart=cart)
    if len(snapshot.cart) >= conf.cart_limit():
        raise CartFull
    appended = line._replace(position=_next_position(snapshot))
    return snapshot._replace(cart=(*snapshot.cart, appended), saved=_without(snapshot.saved, line.product_id))


def with_product_in_saved(snapshot: BasketSnapshot, line: BasketLine) -> BasketSnapshot:
    """Put a product into the saved list, and out of the cart, with the count it had there; 1 if it never had one.

    :raises SavedFull: the saved list is at its limit and does not hold the product yet.
    """
    if find_line(snapshot.saved, line.product_id):
        return snapshot
    if len(snapshot.saved) >= conf.saved_limit():
        raise SavedFull
    in_cart = find_line(snapshot.cart, line.product_id)
    appended = line._replace(count=in_cart.count if in_cart else 1, position=_next_position(snapshot))
    return snapshot._replace(cart=_without(snapshot.cart, line.product_id), saved=(*snapshot.saved, appended))


def without_product(snapshot: BasketSnapshot, product_id: str) -> BasketSnapshot:
    """Remove a product from cart and saved, never from checkout.

    :raises ProductNotInBasket: it is in neither list.
    """
    if not (find_line(snapshot.cart, product_id) or find_line(snapshot.saved, product_id)):
        raise ProductNotInBasket
    return snapshot._replace(cart=_without(snapshot.cart, product_id), saved=_without(snapshot.saved, product_id))


def checkout_lines(cart: tuple[BasketLine, ...], stocked: Mapping[str, int | None]) -> tuple[BasketLine, ...]:
    """Build the checkout list from a cart, with the `stocked` of each product.

    :param stocked: pieces by product: held ones, negative for missing ones, None for an unlimited product.
    :returns: the lines in the order of the cart.
    """
    return tuple(line._replace(stocked=stocked[line.product_id]) for line in cart)


def with_lines_returned(snapshot: BasketSnapshot, lines: Iterable[BasketLine]) -> BasketSnapshot:
    """Return checkout lines to the cart, and empty the checkout.

    The count of a line is added to the count that the cart already has. The product leaves saved, and keeps the earlier of its
    two positions. No limit applies: limits block new additions, and nothing may be lost.
    """
    cart = {line.product_id: line for line in snapshot.cart}
    saved = snapshot.saved
    for line in lines:
        in_cart = cart.get(line.product_id)
        cart[line.product_id] = line._replace(
            stocked=None,
            count=line.count + (in_cart.count if in_cart else 0),
            position=min(line.position, in_cart.position) if in_cart else line.position,
        )
        saved = _without(saved, line.product_id)
    ordered = tuple(sorted(cart.values(), key=lambda line: (line.position, line.product_id)))
    return snapshot._replace(session=None, cart=ordered, saved=saved, checkout=())


def without_ordered_pieces(snapshot: BasketSnapshot, pieces: Mapping[str, int]) -> BasketSnapshot:
    """Remove the pieces of a late order from the cart, and each line that has no more pieces than were ordered.

    :param pieces: ordered pieces by product.
    """
    left = (line._replace(count=line.count - pieces.get(line.product_id, 0)) for line in snapshot.cart)
    return snapshot._replace(cart=tuple(line for line in left if line.count > 0))


def find_line(lines: Iterable[BasketLine], product_id: str) -> BasketLine | None:
    """Find a product's line in one list."""
    return next((line for line in lines if line.product_id == product_id), None)


def _without(lines: tuple[BasketLine, ...], product_id: str) -> tuple[BasketLine, ...]:
    return tuple(line for line in lines if line.product_id != product_id)


def _next_position(snapshot: BasketSnapshot) -> int:
    """The position after the last line. Checkout lines count, because they may return to their old positions."""
    return max((line.position for line in snapshot.lines()), default=0) + 1

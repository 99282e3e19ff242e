"""Plans a checkout: which lines of a cart can be bought, and which pieces must be reserved. Pure: reads and writes nothing.

`direct_starts.START` decides the same in SQL, for a start that gets all that it asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from baskets.domain.baskets import lists
from baskets.domain.checkout import purchase_limits
from baskets.domain.checkout.pricing import CatalogEntry, total_price
from baskets.domain.errors import Shortage
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot


@dataclass(frozen=True, kw_only=True)
class CheckoutPlan:
    """A checkout as it will be if all its stock is available.

    :param lines: the checkout list, in the order of the cart, each line with its `stocked`.
    :param to_reserve: pieces of limited products that need stock, by product.
    :param full_price: minor units of `currency`; None where the sum is not known.
    """

    lines: tuple[BasketLine, ...]
    to_reserve: Mapping[str, int]
    full_price: int | None
    currency: str

    def refused_lines(self) -> list[Shortage]:
        """The lines that fail whatever the stock is: products not for sale, and pieces over a limit per checkout."""
        return [
            Shortage(product_id=line.product_id, wanted=line.count, available=line.count + (line.stocked or 0))
            for line in self.lines
            if line.failed
        ]


def plan_checkout(
    basket: BasketSnapshot, entries: Mapping[str, CatalogEntry], *, test_mode: bool = False, by_client_key: bool = False
) -> CheckoutPlan:
    """Decide what becomes of each line of a cart.

    A product that is not listed counts as unavailable. A line over the limit of one checkout fails as a whole. A test
    session buys everything and reserves nothing.

    :param entries: the catalog entry of every product in the cart.
    :param by_client_key: whether the limits for new guests apply.
    """
    for_sale = {line.product_id for line in basket.cart if test_mode or entries[line.product_id].listed}
    limited = [line for line in basket.cart if line.product_id in for_sale and entries[line.product_id].limited and not test_mode]
    over_limit = {
        line.product_id: line.count - most for line in limited if (most := entries[line.product_id].most) is not None and most < line.count
    }
    within = [line for line in limited if line.product_id not in over_limit]
    over_limit |= purchase_limits.over_checkout_limit(within, basket, by_client_key=by_client_key)
    to_reserve = {line.product_id: line.count for line in limited if line.product_id not in over_limit}

    def stocked(line: BasketLine) -> int | None:
        if line.product_id in to_reserve:
            return line.count
        if line.product_id in over_limit:
            return -over_limit[line.product_id]
        return None if line.product_id in for_sale else -line.count

    lines = lists.checkout_lines(basket.cart, {line.product_id: stocked(line) for line in basket.cart})
    full_price, currency = total_price(lines, entries)
    return CheckoutPlan(lines=lines, to_reserve=to_reserve, full_price=full_price, currency=currency)
